//! Steps whose batch is computed in parts, by one process or by several.
use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};
use gumbel_distributed::halves;
use gumbel_metrics::Report;
use serde::{Deserialize, Serialize};

use super::step::{Step, StepFn, scalar};
use super::training::Training;
use crate::{Error, Params, Result, TrainConfig};

/// One of the equal parts of a step's batch, see [`TrainConfig::micro_batches`].
///
/// Data and noise of a part follow from its number alone, and not from who computes it. Where a batch has one part, its number is that
/// of the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MicroBatch {
    /// The step, counted from 0: for schedules.
    pub step: u64,
    /// Number of this part among those of all steps: for the data and for the key of the noise.
    pub index: u64,
    /// How many parts a step has.
    parts: usize,
}

impl MicroBatch {
    /// The first part of the first step.
    #[must_use]
    pub fn first(config: &TrainConfig) -> Self {
        Self::new(config, 0, 0)
    }

    pub(super) fn new(config: &TrainConfig, step: u64, part: usize) -> Self {
        let parts = config.micro_batches.max(1);
        Self { step, index: step * parts as u64 + part as u64, parts }
    }

    /// How many of `batch_size` examples this part has.
    ///
    /// # Errors
    /// If the parts would not be equal.
    pub fn share(self, batch_size: usize) -> Result<usize> {
        if batch_size.is_multiple_of(self.parts) {
            return Ok(batch_size / self.parts);
        }
        Err(Error::Usage(format!(
            "{batch_size} examples cannot be cut into train.micro_batches = {} equal parts; choose a divisor",
            self.parts
        )))
    }
}

/// What a step has computed, whoever computed it.
pub(super) struct Computed {
    pub(super) loss: f64,
    pub(super) learning_rate: f64,
    pub(super) report: Report,
    pub(super) grads: GradStore,
}

/// What ranks tell one another of a micro-batch. Numbers are bits: not all of them are finite.
#[derive(Serialize, Deserialize)]
struct Told {
    loss: u64,
    report: Vec<(String, u64)>,
    statistics: Vec<Vec<u64>>,
    /// Places of parameters that have a gradient.
    with_gradient: Vec<usize>,
}

impl Training<'_> {
    /// Loss, report and mean gradient over the micro-batches of this step, the same on every rank.
    pub(super) fn compute(&self, step: &mut StepFn<'_>) -> Result<Computed> {
        if self.config.micro_batches == 1 {
            return self.part(0, step);
        }
        let world = self.run.world();
        let parts = self.config.micro_batches;
        let each = parts / world.size();
        let own = world.rank() * each..(world.rank() + 1) * each;
        let statistics = Statistics::of(self.params)?;
        let (mut told, mut first) = (Vec::new(), None);
        let of = &mut |part| {
            statistics.restore()?;
            let Computed { loss, learning_rate, report, grads } = self.part(part, step)?;
            let (flat, with_gradient) = flatten(self.params, &grads)?;
            let numbers =
                if self.reports() || !loss.is_finite() { report.scalars()? } else { vec![] };
            told.push(Told {
                loss: loss.to_bits(),
                report: numbers.iter().map(|(n, x)| ((*n).to_owned(), x.to_bits())).collect(),
                statistics: statistics.now()?,
                with_gradient,
            });
            // Of the first process that is the first of all, however many there are.
            first.get_or_insert((learning_rate, report));
            Ok::<_, Error>(flat)
        };
        let flat = halves(own, of, &mut |a, b| Ok((a + b)?))?;
        let broken = |error: serde_json::Error| Error::caller(70, error);
        let said = world.all_gather_bytes(&serde_json::to_vec(&told).map_err(broken)?)?;
        let mut all = Vec::with_capacity(parts);
        for said in said {
            all.append(&mut serde_json::from_slice::<Vec<Told>>(&said).map_err(broken)?);
        }
        let Some((learning_rate, report)) = first else {
            return Err(Error::caller(70, "no micro-batch for this process"));
        };
        statistics.adopt(&all)?;
        let loss = mean(all.iter().map(|told| told.loss));
        let report = averaged(&report, &all)?;
        let mut grads = GradStore::default();
        if loss.is_finite() {
            let flat = (world.sum(&flat)? * (1. / parts as f64))?;
            split(self.params, &flat, &all, &mut grads)?;
        }
        Ok(Computed { loss, learning_rate, report, grads })
    }

    /// Loss, report and gradient of one micro-batch. There is none of a loss that is not finite: that ends the run before it is used.
    fn part(&self, part: usize, step: &mut StepFn<'_>) -> Result<Computed> {
        let micro = MicroBatch::new(self.config, self.done, part);
        let Step { loss, learning_rate, report } = self.config.precision.compute(|| step(micro))?;
        let value = scalar(&loss)?;
        let grads =
            if value.is_finite() { gumbel_kernels::backward(&loss)? } else { GradStore::default() };
        Ok(Computed { loss: value, learning_rate, report, grads })
    }
}

fn mean(bits: impl ExactSizeIterator<Item = u64>) -> f64 {
    let count = bits.len() as f64;
    bits.map(f64::from_bits).sum::<f64>() / count
}

/// The numbers of a report, each as its mean over all micro-batches.
fn averaged(report: &Report, all: &[Told]) -> Result<Report> {
    let mut averaged = Report::new();
    if all.iter().all(|told| told.report.is_empty()) {
        return Ok(averaged);
    }
    for (name, _) in report.scalars()? {
        let found = |told: &Told| told.report.iter().find(|(n, _)| n == name).map(|(_, x)| *x);
        let numbers: Vec<u64> = all.iter().filter_map(found).collect();
        if !numbers.is_empty() {
            averaged = averaged.number(name, mean(numbers.into_iter()));
        }
    }
    Ok(averaged)
}

/// All gradients in name order as one vector, with zeros where there is none; and which parameters have one.
fn flatten(params: &Params, grads: &GradStore) -> Result<(Tensor, Vec<usize>)> {
    let params = params.iter();
    let double = params.iter().any(|(_, var)| var.dtype() == DType::F64);
    let dtype = if double { DType::F64 } else { DType::F32 };
    let (mut pieces, mut with_gradient) = (Vec::new(), Vec::new());
    for (place, (_, var)) in params.iter().enumerate() {
        let gradient = grads.get(var.as_tensor());
        if gradient.is_some() {
            with_gradient.push(place);
        }
        let zeros = || var.detach().zeros_like();
        pieces.push(
            gradient.cloned().map_or_else(zeros, Ok)?.detach().flatten_all()?.to_dtype(dtype)?,
        );
    }
    if pieces.is_empty() {
        return Err(Error::caller(70, "a model without parameters cannot be trained"));
    }
    Ok((Tensor::cat(&pieces, 0)?, with_gradient))
}

/// The gradients that [`flatten`] put together, of those parameters that have one in any micro-batch.
fn split(params: &Params, flat: &Tensor, all: &[Told], grads: &mut GradStore) -> Result<()> {
    let mut first = 0;
    for (place, (_, var)) in params.iter().iter().enumerate() {
        let length = var.elem_count();
        if all.iter().any(|told| told.with_gradient.contains(&place)) {
            let gradient = flat.narrow(0, first, length)?.reshape(var.shape())?;
            grads.insert(var.as_tensor(), gradient.to_dtype(var.dtype())?);
        }
        first += length;
    }
    Ok(())
}

/// Running statistics of model and estimator: each micro-batch moves them from where the step found them, and their mean is kept.
struct Statistics(Vec<(Var, Tensor)>);

impl Statistics {
    fn of(params: &Params) -> Result<Self> {
        let copy = |var: Var| Ok((var.clone(), var.detach().copy()?));
        Ok(Self(params.statistics().into_iter().map(copy).collect::<Result<_>>()?))
    }

    fn restore(&self) -> Result<()> {
        Ok(self.0.iter().try_for_each(|(var, before)| var.set(before))?)
    }

    fn now(&self) -> Result<Vec<Vec<u64>>> {
        let of_one = |(var, _): &(Var, Tensor)| {
            let numbers = var.detach().flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
            Ok(numbers.into_iter().map(f64::to_bits).collect())
        };
        self.0.iter().map(of_one).collect()
    }

    fn adopt(&self, all: &[Told]) -> Result<()> {
        for (place, (var, _)) in self.0.iter().enumerate() {
            let each: Vec<&Vec<u64>> =
                all.iter().filter_map(|told| told.statistics.get(place)).collect();
            let number = |i: usize| {
                let numbers: Vec<u64> = each.iter().filter_map(|one| one.get(i)).copied().collect();
                mean(numbers.into_iter())
            };
            let means: Vec<f64> = (0..var.elem_count()).map(number).collect();
            let means = Tensor::from_vec(means, var.shape(), var.device())?;
            var.set(&means.to_dtype(var.dtype())?)?;
        }
        Ok(())
    }
}
