//! How good the classifier and the model of the images are.
use candle_core::{D, DType, Device, Tensor};
use gumbel::Key;
use gumbel::estimators::{BoundOf, Independent, Objective, ScheduledEstimator, Trace};
use gumbel::objectives::{Elbo, ObjectiveConfig};
use gumbel_datasets::{Dataset, ImageSet, in_order};
use gumbel_experiments::{Data, loaded, mark, print_result, write_report, write_summary};
use gumbel_metrics::{Mean, Report};
use gumbel_models::{
    ImagesWithLabels, LatentVariableModel, SemiSupervisedVae, SemiSupervisedVaeConfig,
};
use gumbel_training::{Evaluation, Result, Run, png};
use serde::Serialize;

use crate::config::Config;

/// Images per evaluation batch.
const BATCH: usize = 500;
/// Styles that are drawn of every class.
const STYLES: usize = 10;

/// Evaluates a model in the course of training and at its end.
pub(crate) struct Evaluator<'a> {
    model: SemiSupervisedVae,
    classes: usize,
    key: Key,
    /// What is trained, and how.
    objective: ObjectiveConfig,
    estimators: &'a ScheduledEstimator,
    data: &'a Data,
    device: &'a Device,
    summary: Option<Summary>,
}

/// The result of a run: `summary.json`.
#[derive(Clone, Debug, Serialize)]
struct Summary {
    dataset: &'static str,
    synthetic: bool,
    steps: u64,
    /// Share of test images whose most likely class is the right one.
    accuracy: f64,
    /// Single-sample bound of test images without their labels, nats per image, classes drawn.
    elbo: f64,
    standard_error: f64,
    /// The training objective on images without labels; no bound of the model where classes are relaxed.
    objective: f64,
    /// What the objective is a lower bound of.
    objective_bounds: String,
}

/// Averages over a split.
struct Averages {
    accuracy: Mean,
    elbo: Mean,
    objective: Mean,
    bounds: BoundOf,
}

impl<'a> Evaluator<'a> {
    pub(crate) fn new(
        model: SemiSupervisedVae,
        config: &Config,
        estimators: &'a ScheduledEstimator,
        data: &'a Data,
        device: &'a Device,
    ) -> Self {
        let Config { seed, objective, model: SemiSupervisedVaeConfig { classes, .. }, .. } =
            *config;
        let key = Key::from_seed(seed).named("evaluation");
        Self { model, classes, key, objective, estimators, data, device, summary: None }
    }

    /// The validation set and pictures; at the end the test set.
    pub(crate) fn evaluate(&mut self, evaluation: &mut Evaluation<'_>) -> Result<()> {
        let names = self.data.names();
        let report = |averages: &Averages| {
            Report::new()
                .number("accuracy", averages.accuracy.mean())
                .number(names.elbo, averages.elbo.mean())
                .number(names.objective(averages.bounds), averages.objective.mean())
        };
        let valid = self.averages(&self.data.valid, evaluation)?;
        evaluation.record("valid", &report(&valid))?;
        let analogies = self.model.analogies(STYLES, self.key.named("analogies"))?;
        let images = self.data.train.images();
        let pixels = analogies.flatten_all()?.to_vec1()?;
        let grid = png::grid(&pixels, images.height(), images.width(), self.classes, 1)?;
        evaluation.sample("analogies", &grid)?;
        if evaluation.is_last() {
            let test = self.averages(&self.data.test, evaluation)?;
            evaluation.record("test", &report(&test))?;
            self.summary = Some(Summary {
                dataset: self.data.test.images().title(),
                synthetic: self.data.is_synthetic(),
                steps: evaluation.step(),
                accuracy: test.accuracy.mean(),
                elbo: test.elbo.mean(),
                standard_error: test.elbo.standard_error(),
                objective: test.objective.mean(),
                objective_bounds: test.bounds.to_string(),
            });
        }
        Ok(())
    }

    /// Accuracy, single-sample bound and training objective.
    fn averages(&self, set: &ImageSet, evaluation: &Evaluation<'_>) -> Result<Averages> {
        let step = evaluation.step().saturating_sub(1);
        let (estimator, objective) = (self.estimators.at(step), self.objective.at(step));
        let mut averages = Averages {
            accuracy: Mean::new(),
            elbo: Mean::new(),
            objective: Mean::new(),
            bounds: BoundOf::Nothing,
        };
        let batches: Vec<_> = in_order(set.len(), BATCH).collect();
        let mut bounds = BoundOf::Nothing;
        let of = |index: usize| {
            let rows = &batches[index];
            let x = loaded(set.gather(rows, self.device))?;
            let labels: Vec<u32> = loaded(set.labels(rows))?.into_iter().map(u32::from).collect();
            let right = Tensor::new(labels, self.device)?;
            let found = self.model.class_logits(&x)?.argmax(D::Minus1)?;
            let accuracy = found.eq(&right)?.to_dtype(DType::F32)?;
            let batch = ImagesWithLabels { x, labels: None };
            let program = |trace: &mut Trace<'_>| self.model.log_likelihood(&batch, trace);
            let key = self.key.fold_in(index as u64);
            let (log_px, sites) = Trace::run(&program, &mut Independent { samples: 1 }, key)?;
            let bound: Tensor = Elbo::default().log_weights(&log_px, &sites)?.squeeze(0)?;
            let surrogate = estimator.surrogate(&program, &*objective, key.named("objective"))?;
            bounds = objective.bounds(&surrogate.sites);
            Ok(vec![accuracy, bound, surrogate.bound.detach()])
        };
        evaluation.share(batches.len(), of, |all| {
            let means = [&mut averages.accuracy, &mut averages.elbo, &mut averages.objective];
            for (mean, tensor) in means.into_iter().zip(&all) {
                mean.push_tensor(tensor)?;
            }
            Ok(())
        })?;
        Ok(Averages { bounds, ..averages })
    }

    /// Writes `summary.json` and prints the result and where it is: the last line of a run.
    pub(crate) fn summarise(&self, run: &Run) -> Result<()> {
        let Some(summary) = write_summary(run, self.summary.as_ref())? else { return Ok(()) };
        write_report(run, &[])?;
        let Summary {
            dataset, accuracy, elbo, standard_error, objective, objective_bounds, ..
        } = summary;
        let (mark, percent) = (mark(summary.synthetic), 100. * accuracy);
        let result = format!(
            "{mark}{dataset}: test accuracy {percent:.2} %, elbo {elbo:.2} ± {standard_error:.2} nats, \
             training objective {objective:.2} (a bound of {objective_bounds})"
        );
        print_result(run, &result)
    }
}
