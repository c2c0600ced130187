//! One model, trained by any learner and judged by the exact bound of the discrete model.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Result;
use candle_core::{DType, Device, Tensor, Var};
use gumbel::Key;
use gumbel::estimators::{
    AdaptiveConfig, AdaptiveTemperature, Estimator, ScheduledEstimator, Trace,
};
use gumbel_datasets::{Batches, Dataset, ImageSet, in_order};
use gumbel_experiments::{Data, loaded};
use gumbel_metrics::Mean;
use gumbel_models::{CategoricalVae, LatentVariableModel};
use gumbel_training::{Optimizer, OptimizerConfig, Params};

use crate::exact::{Support, average};
use crate::study::{Arity, Family, Learner, Rule, Sizes};

/// What a training run has to know.
#[derive(Clone, Copy)]
pub(crate) struct Setting<'a> {
    pub(crate) data: &'a Data,
    pub(crate) sizes: &'a Sizes,
    /// Whether somebody wants to stop.
    pub(crate) stop: &'a AtomicBool,
}

/// The run was stopped before its end.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("stopped on request")]
pub(crate) struct Stopped;

/// What became of a model, in nats per image.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Trained {
    /// Exact ELBO of the discrete model on the test images.
    pub(crate) test_elbo: f64,
    /// Exact log-likelihood of the test images.
    pub(crate) test_log_likelihood: f64,
    pub(crate) valid_elbo: f64,
    /// What was trained, on the test images.
    pub(crate) test_objective: f64,
    /// After 1 %, 10 % and 100 % of the steps; not a number where there is none.
    pub(crate) temperatures: [f64; 3],
    pub(crate) seconds_per_step: f64,
}

impl Trained {
    /// A gradient was not finite.
    pub(crate) const DIVERGED: Self = Self {
        test_elbo: f64::NAN,
        test_log_likelihood: f64::NAN,
        valid_elbo: f64::NAN,
        test_objective: f64::NAN,
        temperatures: [f64::NAN; 3],
        seconds_per_step: f64::NAN,
    };
}

/// How the parameters of the part begin that a temperature matters to.
pub(crate) const ENCODER: &str = "encoder";

/// Parameters by name.
pub(crate) type Parameters = BTreeMap<String, Tensor>;

/// A model with its parameters.
pub(crate) struct Model {
    pub(crate) vae: CategoricalVae,
    pub(crate) params: Params,
}

impl Model {
    /// Before training: the same for all learners of one seed.
    pub(crate) fn new(arity: Arity, seed: u64, setting: Setting<'_>) -> Result<Self> {
        let params = Params::new(Key::from_seed(seed).named("init"), DType::F32, &Device::Cpu);
        let mean = setting.data.train.mean();
        let mean = Tensor::from_vec(mean, setting.data.train.dim(), &Device::Cpu)?;
        let config = arity.model(setting.sizes.hidden);
        let vae = CategoricalVae::new(&config, &mean, &params.var_builder())?;
        let (bias, base_rate) = vae.base_rate_bias()?;
        params.set(&bias, &base_rate)?;
        Ok(Self { vae, params })
    }

    /// The parameters whose names begin so.
    pub(crate) fn part(&self, part: &str) -> Vec<Var> {
        let of_part = |(name, _): &(String, Var)| name.starts_with(part);
        self.params.iter().into_iter().filter(of_part).map(|(_, var)| var).collect()
    }
}

/// The estimator of each step.
enum Guide {
    Exact(Support),
    Scheduled(ScheduledEstimator),
    Adaptive(AdaptiveTemperature, Family),
}

/// A batch of images without noise of its own.
fn images(set: &ImageSet, rows: &[u32]) -> Result<Tensor> {
    Ok(loaded(set.gather(rows, &Device::Cpu))?)
}

/// Trains a model; `look` sees it before each of the checkpoints of the sizes, and at the end.
pub(crate) fn train(
    arity: Arity,
    learner: &Learner,
    seed: u64,
    setting: Setting<'_>,
    look: &mut dyn FnMut(u64, &Model) -> Result<()>,
) -> Result<Trained> {
    let Setting { data, sizes, stop } = setting;
    let key = Key::from_seed(seed);
    let model = Model::new(arity, seed, setting)?;
    // Batches of its own: those of the set remember the permutation of one run.
    let batches = loaded(Batches::new(data.train.len(), sizes.batch, key.named("data")))?;
    let first = images(&data.train, &batches.rows(0))?;
    let guide = guide(learner, &model, &first, sizes, key)?;
    let objective = learner.objective();
    let encoder = model.part(ENCODER);
    let mut optimizer = Optimizer::new(&OptimizerConfig::default(), &model.params)?;
    let mut temperatures = [f64::NAN; 3];
    let [_, marks @ ..] = sizes.checkpoints();
    let start = Instant::now();
    for step in 0..sizes.steps {
        if stop.load(Ordering::Relaxed) {
            return Err(Stopped.into());
        }
        if sizes.checkpoints().contains(&step) {
            look(step, &model)?;
        }
        let x = images(&data.train, &batches.rows(step))?;
        let program = |trace: &mut Trace<'_>| model.vae.log_likelihood(&x, trace);
        let objective = objective.at(step);
        let noise = key.named("noise").fold_in(step);
        let with = |estimator: &dyn Estimator| {
            let surrogate = estimator.surrogate(&program, &*objective, noise)?;
            surrogate.update_statistics()?;
            surrogate.loss.backward()
        };
        let grads = match &guide {
            Guide::Exact(support) => {
                let known = support.decoded(&model.vae)?.know(&model.vae, &x)?;
                known.elbo.mean_all()?.neg()?.backward()?
            }
            Guide::Scheduled(estimators) => with(&*estimators.at(step))?,
            Guide::Adaptive(temperature, family) => {
                let pair = (&program as &gumbel::estimators::Program<'_>, &*objective);
                let at = |temperature| family.estimator(temperature);
                temperature.update(step, &at, pair, &encoder, key.named("adaptation"))?;
                with(&*family.estimator(temperature.value()?)?)?
            }
        };
        optimizer.step(&model.params, &grads, sizes.learning_rates().at(step))?;
        for (mark, place) in marks.iter().zip(&mut temperatures) {
            if step + 1 == *mark {
                *place = guide.temperature(step)?;
            }
        }
    }
    let seconds_per_step = start.elapsed().as_secs_f64() / sizes.steps as f64;
    look(sizes.steps, &model)?;
    judge(&model, &guide, learner, setting, key).map(|trained| Trained {
        temperatures,
        seconds_per_step,
        ..trained
    })
}

fn guide(
    learner: &Learner,
    model: &Model,
    first: &Tensor,
    sizes: &Sizes,
    key: Key,
) -> Result<Guide> {
    let program = |trace: &mut Trace<'_>| model.vae.log_likelihood(first, trace);
    let mut store = model.params.clone();
    let mut build = |method: gumbel::estimators::Method| {
        method.build(&program, &mut store, key.named("estimator"))
    };
    Ok(match *learner {
        Learner::Tempered(family, Rule::Adaptive(averaged)) => {
            let config = AdaptiveConfig { averaged, ..AdaptiveConfig::default() };
            let temperature = AdaptiveTemperature::new(config, &mut store)?;
            Guide::Adaptive(temperature, family)
        }
        _ => match learner.method(sizes.steps) {
            Some(method) => Guide::Scheduled(build(method)?),
            None => Guide::Exact(Support::of(&model.vae, first)?),
        },
    })
}

impl Guide {
    fn temperature(&self, step: u64) -> Result<f64> {
        Ok(match self {
            Self::Exact(_) => f64::NAN,
            Self::Scheduled(estimators) => estimators.temperature_at(step)?.unwrap_or(f64::NAN),
            Self::Adaptive(temperature, _) => temperature.value()?,
        })
    }
}

/// Validation images: choices are between models on the same ones, so that there need not be many.
const VALIDATION: usize = 2000;

/// Images whose likelihoods of all joint values are in memory at a time.
const CHUNK: usize = 200;

/// The exact bounds, and what was trained beside them.
fn judge(
    model: &Model,
    guide: &Guide,
    learner: &Learner,
    setting: Setting<'_>,
    key: Key,
) -> Result<Trained> {
    let Setting { data, sizes, .. } = setting;
    let over =
        |set, most| in_order(Dataset::len(set).min(most), CHUNK).map(|rows| images(set, &rows));
    let support = Support::of(&model.vae, &images(&data.test, &[0])?)?;
    let decoded = support.decoded(&model.vae)?;
    let test = average(&model.vae, &decoded, over(&data.test, usize::MAX))?;
    let valid = average(&model.vae, &decoded, over(&data.valid, VALIDATION))?;
    let last = sizes.steps.saturating_sub(1);
    let estimator: Option<Box<dyn Estimator>> = match guide {
        Guide::Exact(_) => None,
        Guide::Scheduled(estimators) => Some(estimators.at(last)),
        Guide::Adaptive(temperature, family) => Some(family.estimator(temperature.value()?)?),
    };
    let mut objective = Mean::new();
    if let Some(estimator) = &estimator {
        for (index, x) in over(&data.test, usize::MAX).enumerate() {
            let x = x?;
            let program = |trace: &mut Trace<'_>| model.vae.log_likelihood(&x, trace);
            let key = key.named("objective").fold_in(index as u64);
            let surrogate = estimator.surrogate(&program, &*learner.objective().at(last), key)?;
            objective.push_tensor(&surrogate.bound)?;
        }
    }
    Ok(Trained {
        test_elbo: test.elbo,
        test_log_likelihood: test.log_likelihood,
        valid_elbo: valid.elbo,
        test_objective: if estimator.is_some() { objective.mean() } else { test.elbo },
        ..Trained::DIVERGED
    })
}
