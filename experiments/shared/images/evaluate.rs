//! Judging the discrete model.
use candle_core::{DType, Device, Tensor};
use gumbel::Key;
use gumbel::distributions::Discrete;
use gumbel::estimators::{BoundOf, Divergence, Independent, Objective, ScheduledEstimator, Trace};
use gumbel::objectives::{Iwae, ObjectiveConfig, multi_sample_bound};
use gumbel_datasets::{Dataset, ImageSet, in_order};
use gumbel_metrics::{CodeUsage, Mean, Report, bits_per_dim};
use gumbel_models::LatentVariableModel;
use gumbel_report::Page;
use gumbel_training::{Error, Evaluation, Result, Run};
use serde::Serialize;

use crate::{
    Data, EvaluationConfig, Names, loaded, mark, print_result, write_report, write_summary,
};

/// Images per evaluation batch.
const BATCH: usize = 100;
/// Rows (images × samples) in memory at a time, however many samples there are, of images of [`PIXELS`]; fewer of larger ones.
const ROWS: usize = 4000;
const PIXELS: usize = 28 * 28;

/// A model and all that it is judged by.
#[derive(Debug)]
pub struct Judged<'a, M> {
    /// Shares its parameters with the one in training.
    pub model: M,
    /// Seed of the run.
    pub seed: u64,
    /// How many samples.
    pub settings: EvaluationConfig,
    /// What is trained.
    pub objective: ObjectiveConfig,
    /// How it is trained.
    pub estimators: &'a ScheduledEstimator,
    /// The images.
    pub data: &'a Data,
    /// How many pixels of an image the likelihood is of.
    pub pixels: usize,
    /// Where to compute.
    pub device: &'a Device,
}

/// Evaluates a model in the course of training and at its end.
#[derive(Debug)]
pub struct Evaluator<'a, M> {
    judged: Judged<'a, M>,
    names: Names,
    summary: Option<Summary>,
    /// How often each code of the first layer is used on the test set, `[N][K]`.
    usage: Vec<Vec<f64>>,
}

/// The result of a run: `summary.json`.
#[derive(Clone, Debug, Serialize)]
struct Summary {
    dataset: &'static str,
    synthetic: bool,
    steps: u64,
    /// Samples per image of `bound`.
    samples: usize,
    /// Multi-sample bound of the discrete model on the test set, nats per image.
    bound: f64,
    standard_error: f64,
    bits_per_dim: f64,
    /// Single-sample bound of the discrete model, nats per image.
    elbo: f64,
    /// The training objective on the test set; no bound of the discrete model where draws are relaxed.
    objective: f64,
    /// What the objective is a lower bound of.
    objective_bounds: String,
    /// The same on the training set, where that was asked for.
    train: Option<Train>,
}

/// The model on the images that it was trained on, nats per image.
#[derive(Clone, Debug, Serialize)]
struct Train {
    samples: usize,
    bound: f64,
    elbo: f64,
    objective: f64,
}

/// Averages over a split, in nats per image.
struct Averages {
    bound: Mean,
    elbo: Mean,
    objective: Mean,
    /// What the objective is a bound of.
    bounds: BoundOf,
    kl: Mean,
    usage: CodeUsage,
}

impl<'a, M: LatentVariableModel<Batch = Tensor>> Evaluator<'a, M> {
    /// An evaluator that has judged nothing yet.
    pub fn new(judged: Judged<'a, M>) -> Self {
        Self { names: judged.data.names(), judged, summary: None, usage: Vec::new() }
    }

    /// The validation set, and the pictures that `pictures` makes with a key; at the end the test set, with more samples.
    pub fn evaluate(
        &mut self,
        evaluation: &mut Evaluation<'_>,
        pictures: impl FnOnce(&Judged<'a, M>, Key) -> Result<Vec<(&'static str, Vec<u8>)>>,
    ) -> Result<()> {
        let Judged { settings, data, .. } = self.judged;
        let valid = self.averages(&data.valid, settings.samples, evaluation)?;
        evaluation.record("valid", &self.report(&valid, settings.samples))?;
        for (name, png) in pictures(&self.judged, self.key())? {
            evaluation.sample(name, &png)?;
        }
        if evaluation.is_last() {
            let (samples, images) = (settings.final_samples, data.test.len());
            tracing::info!("evaluating {images} test images with {samples} discrete samples each");
            let test = self.averages(&data.test, samples, evaluation)?;
            evaluation.record("test", &self.report(&test, samples))?;
            let train = self.train(evaluation)?;
            self.usage = test.usage.marginals();
            self.summary = Some(self.summary(&test, samples, evaluation.step(), train));
        }
        Ok(())
    }

    fn train(&self, evaluation: &mut Evaluation<'_>) -> Result<Option<Train>> {
        let samples = self.judged.settings.train_samples;
        if samples == 0 {
            return Ok(None);
        }
        let train = self.averages(&self.judged.data.train, samples, evaluation)?;
        evaluation.record("train_set", &self.report(&train, samples))?;
        let Averages { bound, elbo, objective, .. } = train;
        let [bound, elbo, objective] = [bound, elbo, objective].map(|mean| mean.mean());
        Ok(Some(Train { samples, bound, elbo, objective }))
    }

    fn key(&self) -> Key {
        Key::from_seed(self.judged.seed).named("evaluation")
    }

    fn averages(
        &self,
        set: &ImageSet,
        samples: usize,
        evaluation: &Evaluation<'_>,
    ) -> Result<Averages> {
        let (key, step) = (self.key(), evaluation.step().saturating_sub(1));
        let Judged { model, device, .. } = &self.judged;
        let pixels = set.dim();
        let estimator = self.judged.estimators.at(step);
        let objective = self.judged.objective.at(step);
        let mut averages = Averages {
            bound: Mean::new(),
            elbo: Mean::new(),
            objective: Mean::new(),
            bounds: BoundOf::Nothing,
            kl: Mean::new(),
            usage: CodeUsage::new(),
        };
        let batches: Vec<_> = in_order(set.len(), BATCH).collect();
        let mut bounds = BoundOf::Nothing;
        let of = |index: usize| {
            let rows = &batches[index];
            let x = loaded(set.gather(rows, device))?;
            let key = key.fold_in(index as u64);
            let program = |trace: &mut Trace<'_>| model.log_likelihood(&x, trace);
            let most = ROWS * PIXELS / pixels.max(PIXELS);
            let chunk = (most / rows.len()).max(1);
            let bound = multi_sample_bound(&program, samples, chunk, key.named("bound"))?;
            // One discrete sample: its log-weight is the bound, and its sites have the divergence.
            let one = key.named("elbo").fold_in(0);
            let (log_px, sites) = Trace::run(&program, &mut Independent { samples: 1 }, one)?;
            let elbo = Iwae.log_weights(&log_px, &sites)?.squeeze(0)?;
            let surrogate = estimator.surrogate(&program, &*objective, key.named("objective"))?;
            bounds = objective.bounds(&surrogate.sites);
            let mut kl = Vec::new();
            for site in &sites {
                kl.push(site.log_ratio(Divergence::Analytic)?.neg()?.squeeze(0)?);
            }
            let kl = Tensor::stack(&kl, 0)?.sum(0)?;
            let mut all = vec![bound, elbo, surrogate.bound.detach(), kl];
            if let Some(site) = sites.first() {
                all.push(code_probs(&site.posterior)?);
            }
            Ok(all)
        };
        evaluation.share(batches.len(), of, |all| {
            let [bound, elbo, objective, kl, codes @ ..] = all.as_slice() else {
                return Err(Error::caller(70, "a batch of an evaluation is not whole"));
            };
            averages.bound.push_tensor(bound)?;
            averages.elbo.push_tensor(elbo)?;
            averages.objective.push_tensor(objective)?;
            averages.kl.push_tensor(kl)?;
            if let Some(codes) = codes.first() {
                averages.usage.push(codes)?;
            }
            Ok(())
        })?;
        Ok(Averages { bounds, ..averages })
    }

    fn report(&self, averages: &Averages, samples: usize) -> Report {
        Report::new()
            .number(self.names.bound, averages.bound.mean())
            .number(self.names.standard_error, averages.bound.standard_error())
            .number("samples", samples as f64)
            .number(self.names.elbo, averages.elbo.mean())
            .number(self.names.objective(averages.bounds), averages.objective.mean())
            .number(self.names.kl, averages.kl.mean())
            .number("code_perplexity", averages.usage.perplexity())
            .number("active_variables", averages.usage.active_variables(0.01) as f64)
    }

    fn summary(
        &self,
        test: &Averages,
        samples: usize,
        steps: u64,
        train: Option<Train>,
    ) -> Summary {
        Summary {
            dataset: self.judged.data.test.images().title(),
            synthetic: self.judged.data.is_synthetic(),
            steps,
            samples,
            bound: test.bound.mean(),
            standard_error: test.bound.standard_error(),
            bits_per_dim: bits_per_dim(-test.bound.mean(), self.judged.pixels),
            elbo: test.elbo.mean(),
            objective: test.objective.mean(),
            objective_bounds: test.bounds.to_string(),
            train,
        }
    }

    /// Writes `summary.json` and prints the result and where it is: the last line of a run.
    pub fn summarise(&self, run: &Run) -> Result<()> {
        let Some(summary) = write_summary(run, self.summary.as_ref())? else { return Ok(()) };
        let usage = ("How often each code is used, on the test set", Page::usage_map(&self.usage));
        write_report(run, &[usage])?;
        let Summary { dataset, samples, objective_bounds, .. } = summary;
        let Summary { bound, standard_error, elbo, objective, .. } = summary;
        let mark = mark(summary.synthetic);
        // Of one image there is none.
        let error = if standard_error.is_finite() {
            format!(" ± {}", nats(*standard_error))
        } else {
            String::new()
        };
        let [bound, elbo, objective] = [bound, elbo, objective].map(|x| nats(*x));
        let result = format!(
            "{mark}{dataset}: discrete test bound {bound}{error} nats (K = {samples}), \
             elbo {elbo}, training objective {objective} (a bound of {objective_bounds})"
        );
        print_result(run, &result)
    }
}

/// Two digits after the point, as papers print them; a diverged run need not fit.
fn nats(x: f64) -> String {
    if x.abs() < 1e6 { format!("{x:.2}") } else { format!("{x:.2e}") }
}

/// Probabilities `[B, N, K]` of the codes, those of bits as two categories.
fn code_probs(posterior: &Discrete) -> candle_core::Result<Tensor> {
    let probs = posterior.probs()?.squeeze(0)?;
    match posterior {
        Discrete::Categorical(_) => Ok(probs),
        Discrete::Bernoulli(_) => {
            let probs = probs.to_dtype(DType::F64)?;
            Tensor::stack(&[&(1. - &probs)?, &probs], 2)
        }
    }
}
