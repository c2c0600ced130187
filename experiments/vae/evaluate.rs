//! Judging the discrete model.
use candle_core::{DType, Device, Tensor};
use gumbel::Key;
use gumbel::distributions::Discrete;
use gumbel::estimators::{BoundOf, Divergence, Independent, ScheduledEstimator, Trace};
use gumbel::objectives::multi_sample_bound;
use gumbel_datasets::{Dataset, ImageSet, in_order};
use gumbel_metrics::{CodeUsage, Mean, Report, bits_per_dim};
use gumbel_models::{CategoricalVae, LatentVariableModel};
use gumbel_training::{Evaluation, Result, Run};
use serde::Serialize;

use crate::config::Config;
use crate::data::{Data, Names, loaded};
use crate::output::print;
use crate::pictures;

/// Images per evaluation batch.
const BATCH: usize = 100;
/// Rows (images × samples) in memory at a time, however many samples there are.
const ROWS: usize = 4000;

/// Evaluates a model that shares its parameters with the one in training.
#[derive(Debug)]
pub(crate) struct Evaluator<'a> {
    config: &'a Config,
    data: &'a Data,
    model: CategoricalVae,
    estimators: &'a ScheduledEstimator,
    device: &'a Device,
    names: Names,
    summary: Option<Summary>,
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
    objective_bounds: &'static str,
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

impl<'a> Evaluator<'a> {
    pub(crate) fn new(
        config: &'a Config,
        data: &'a Data,
        model: CategoricalVae,
        estimators: &'a ScheduledEstimator,
        device: &'a Device,
    ) -> Self {
        Self { config, data, model, estimators, device, names: data.names(), summary: None }
    }

    /// The validation set; at the end the test set, with more samples.
    pub(crate) fn evaluate(&mut self, evaluation: &mut Evaluation<'_>) -> Result<()> {
        let samples = self.config.evaluation.samples;
        let valid = self.averages(&self.data.valid, samples, evaluation)?;
        evaluation.record("valid", &self.report(&valid, samples))?;
        evaluation.sample("prior", &pictures::prior(&self.model, self.data, self.key())?)?;
        evaluation.sample(
            "reconstructions",
            &pictures::reconstructions(&self.model, self.data, self.device, self.key())?,
        )?;
        if evaluation.is_last() {
            let samples = self.config.evaluation.final_samples;
            let images = self.data.test.len();
            tracing::info!("evaluating {images} test images with {samples} discrete samples each");
            let test = self.averages(&self.data.test, samples, evaluation)?;
            evaluation.record("test", &self.report(&test, samples))?;
            let train = self.train(evaluation)?;
            self.summary = Some(self.summary(&test, samples, evaluation.step(), train));
        }
        Ok(())
    }

    fn train(&self, evaluation: &mut Evaluation<'_>) -> Result<Option<Train>> {
        let samples = self.config.evaluation.train_samples;
        if samples == 0 {
            return Ok(None);
        }
        let train = self.averages(&self.data.train, samples, evaluation)?;
        evaluation.record("train_set", &self.report(&train, samples))?;
        let Averages { bound, elbo, objective, .. } = train;
        let [bound, elbo, objective] = [bound, elbo, objective].map(|mean| mean.mean());
        Ok(Some(Train { samples, bound, elbo, objective }))
    }

    fn key(&self) -> Key {
        Key::from_seed(self.config.seed).named("evaluation")
    }

    fn averages(
        &self,
        set: &ImageSet,
        samples: usize,
        evaluation: &Evaluation<'_>,
    ) -> Result<Averages> {
        let (key, step) = (self.key(), evaluation.step().saturating_sub(1));
        let (estimator, objective) = (self.estimators.at(step), self.config.objective.at(step));
        let mut averages = Averages {
            bound: Mean::new(),
            elbo: Mean::new(),
            objective: Mean::new(),
            bounds: BoundOf::Nothing,
            kl: Mean::new(),
            usage: CodeUsage::new(),
        };
        for (index, rows) in in_order(set.len(), BATCH).enumerate() {
            evaluation.check_stop()?;
            let x = loaded(set.gather(&rows, self.device))?;
            let key = key.fold_in(index as u64);
            let program = |trace: &mut Trace<'_>| self.model.log_likelihood(&x, trace);
            let chunk = (ROWS / rows.len()).max(1);
            averages.bound.push_tensor(&multi_sample_bound(
                &program,
                samples,
                chunk,
                key.named("bound"),
            )?)?;
            averages.elbo.push_tensor(&multi_sample_bound(&program, 1, 1, key.named("elbo"))?)?;
            let surrogate = estimator.surrogate(&program, &*objective, key.named("objective"))?;
            averages.objective.push_tensor(&surrogate.bound)?;
            averages.bounds = objective.bounds(&surrogate.sites);
            let mut kl = Vec::new();
            let (_, sites) =
                Trace::run(&program, &mut Independent { samples: 1 }, key.named("kl"))?;
            for site in &sites {
                kl.push(site.log_ratio(Divergence::Analytic)?.neg()?.squeeze(0)?);
            }
            averages.kl.push_tensor(&Tensor::stack(&kl, 0)?.sum(0)?)?;
            averages.usage.push(&code_probs(&self.model.posterior(&x)?)?)?;
        }
        Ok(averages)
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
            dataset: self.data.test.images().title(),
            synthetic: self.data.is_synthetic(),
            steps,
            samples,
            bound: test.bound.mean(),
            standard_error: test.bound.standard_error(),
            bits_per_dim: bits_per_dim(-test.bound.mean(), self.data.test.dim()),
            elbo: test.elbo.mean(),
            objective: test.objective.mean(),
            objective_bounds: match test.bounds {
                BoundOf::DiscreteModel => "the discrete model",
                BoundOf::RelaxedModel => "the relaxed model",
                BoundOf::Nothing => "nothing",
            },
            train,
        }
    }

    /// Writes `summary.json` and prints the result and where it is: the last line of a run.
    pub(crate) fn summarise(&self, run: &Run) -> Result<()> {
        let directory = run.directory().display();
        let Some(summary) = &self.summary else {
            return print(&format!("nothing was left to do: {directory}\n"));
        };
        let json = serde_json::to_vec_pretty(summary)
            .map_err(|error| gumbel_training::Error::caller(70, error))?;
        run.write_file("summary.json", &json)?;
        let Summary { dataset, samples, objective_bounds, .. } = summary;
        let Summary { bound, standard_error, elbo, objective, .. } = summary;
        let mark = if summary.synthetic { "SYNTHETIC " } else { "" };
        let [bound, standard_error, elbo, objective] =
            [bound, standard_error, elbo, objective].map(|x| nats(*x));
        print(&format!(
            "{mark}{dataset}: discrete test bound {bound} ± {standard_error} nats (K = {samples}), \
             elbo {elbo}, training objective {objective} (a bound of {objective_bounds})\n\
             in {directory}: samples/, metrics.jsonl, summary.json; go on with --resume {directory} --steps N\n"
        ))
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
