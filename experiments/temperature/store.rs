//! What a study has computed: rows of two tables, and the models that gradients are measured on.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use gumbel::lab::Measurement;

use crate::record::Table;
use crate::study::{Arity, Family, Learner};
use crate::train::{ENCODER, Setting, Trained};
use crate::units::Unit;
use crate::view::View;

/// Columns of the gradients' table; the first [`GRADIENT_KEYS`] name a row.
pub(crate) const GRADIENT_HEAD: [&str; 23] = [
    "identity",
    "categories",
    "variables",
    "step",
    "estimator",
    "temperature",
    "parameters",
    "batch",
    "replicates",
    "exact_norm",
    "norm",
    "norm_error",
    "bias",
    "bias_error",
    "variance",
    "variance_error",
    "mean_squared_error",
    "mean_squared_error_error",
    "cosine",
    "cosine_error",
    "cosine_of_mean",
    "cosine_of_mean_error",
    "signal_to_noise",
];
const GRADIENT_KEYS: usize = 7;

/// Columns of the table of trained models; the first [`TRAINING_KEYS`] name a row.
pub(crate) const TRAINING_HEAD: [&str; 15] = [
    "identity",
    "categories",
    "variables",
    "estimator",
    "temperature",
    "seed",
    "steps",
    "test_elbo",
    "test_log_likelihood",
    "valid_elbo",
    "test_objective",
    "temperature_at_1_percent",
    "temperature_at_10_percent",
    "temperature_at_the_end",
    "milliseconds_per_step",
];
const TRAINING_KEYS: usize = 6;

/// The part of a model whose gradients are measured: what only draws reach, and what sees them.
pub(crate) const PARTS: [&str; 2] = [ENCODER, "decoder"];

/// What is there, and where.
pub(crate) struct Store {
    pub(crate) gradients: Table,
    pub(crate) training: Table,
    /// Where models are kept to be measured on.
    models: PathBuf,
    checkpoints: [u64; 4],
    /// Of the settings and the images.
    identity: String,
}

/// Keeps others from writing to the same results, until it is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    /// The file stays: who removed it could take it from somebody who waits for it.
    _locked: fs::File,
}

impl Claim {
    /// # Errors
    /// If another process has claimed the folder.
    pub(crate) fn on(results: &Path) -> Result<Self> {
        let file = results.join(".temperature.lock");
        fs::create_dir_all(results).with_context(|| format!("making {}", results.display()))?;
        let locked =
            fs::File::create(&file).with_context(|| format!("making {}", file.display()))?;
        let folder = results.display();
        locked
            .try_lock()
            .with_context(|| format!("another study writes to {folder}; wait for it"))?;
        Ok(Self { _locked: locked })
    }
}

impl Store {
    pub(crate) fn open(
        results: &Path,
        models: PathBuf,
        checkpoints: [u64; 4],
        identity: String,
    ) -> Result<Self> {
        for folder in [results, &models] {
            fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        let file = |name: &str| results.join(format!("temperature-{name}.csv"));
        Ok(Self {
            gradients: Table::open(&file("gradients"), &GRADIENT_HEAD, GRADIENT_KEYS)?,
            training: Table::open(&file("training"), &TRAINING_HEAD, TRAINING_KEYS)?,
            models,
            checkpoints,
            identity,
        })
    }

    /// The rows of this study.
    pub(crate) fn view(&self) -> View<'_> {
        View {
            gradients: &self.gradients,
            training: &self.training,
            identity: &self.identity,
            checkpoints: self.checkpoints,
        }
    }

    /// Whether a unit is done.
    pub(crate) fn has(&self, unit: &Unit) -> bool {
        match unit {
            Unit::Train(arity, learner, seed) => {
                let done = self.training.has(&self.training_name(*arity, learner, *seed));
                // What gradients are measured on may be missing although the result is there.
                let kept = |step: &u64| self.model_file(*arity, *step).is_file();
                done && (!unit.is_looked_at() || self.checkpoints.iter().all(kept))
            }
            Unit::Measure(arity, step, family, temperature) => {
                let name = |part| self.gradient_name(*arity, *step, *family, *temperature, part);
                PARTS.iter().all(|part| self.gradients.has(&name(part)))
            }
        }
    }

    pub(crate) fn training_name(&self, arity: Arity, learner: &Learner, seed: u64) -> Vec<String> {
        let Arity { categories, variables } = arity;
        let (categories, variables) = (categories.to_string(), variables.to_string());
        let names = [learner.estimator().to_owned(), learner.rule(), seed.to_string()];
        [self.identity.clone(), categories, variables].into_iter().chain(names).collect()
    }

    pub(crate) fn gradient_name(
        &self,
        arity: Arity,
        step: u64,
        family: Family,
        temperature: f64,
        part: &str,
    ) -> Vec<String> {
        vec![
            self.identity.clone(),
            arity.categories.to_string(),
            arity.variables.to_string(),
            step.to_string(),
            family.name().to_owned(),
            temperature.to_string(),
            part.to_owned(),
        ]
    }

    /// The model after a step.
    pub(crate) fn model_file(&self, arity: Arity, step: u64) -> PathBuf {
        self.models.join(format!("{}-{}-{step}.safetensors", self.identity, arity.categories))
    }
}

pub(crate) fn training_row(
    name: Vec<String>,
    trained: &Trained,
    setting: Setting<'_>,
) -> Vec<String> {
    let numbers = [
        trained.test_elbo,
        trained.test_log_likelihood,
        trained.valid_elbo,
        trained.test_objective,
    ];
    let tail = trained.temperatures.into_iter().chain([1e3 * trained.seconds_per_step]);
    name.into_iter()
        .chain([setting.sizes.steps.to_string()])
        .chain(numbers.into_iter().chain(tail).map(number))
        .collect()
}

pub(crate) fn gradient_row(
    name: Vec<String>,
    m: &Measurement,
    setting: Setting<'_>,
) -> Vec<String> {
    let estimates = [m.norm, m.bias, m.variance, m.mean_squared_error, m.cosine, m.cosine_of_mean];
    name.into_iter()
        .chain([setting.sizes.batch.to_string(), m.replicates.to_string(), number(m.exact_norm())])
        .chain(estimates.iter().flat_map(|e| [e.value, e.error]).map(number))
        .chain([number(m.signal_to_noise())])
        .collect()
}

/// Seven digits; nothing where there is no number.
fn number(x: f64) -> String {
    if x.is_finite() { format!("{x:.6e}") } else { String::new() }
}
