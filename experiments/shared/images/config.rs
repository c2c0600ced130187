//! The configuration and the options of an experiment on images.
use std::path::PathBuf;

use gumbel::Schedule;
use gumbel::estimators::Method;
use gumbel::objectives::ObjectiveConfig;
use gumbel_datasets::{Binarisation, DatasetName};
use gumbel_training::{Error, Presets, Result, RunArgs, TrainConfig};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{ProbeConfig, at_least_one, within};

/// Everything that a result depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config<M> {
    /// Names every random number of the run.
    pub seed: u64,
    /// Images per step.
    pub batch_size: usize,
    /// Learning rate by step.
    pub learning_rate: Schedule,
    /// Which images.
    pub data: DataConfig,
    /// How the gradient is estimated.
    pub estimator: Method,
    /// What is maximised.
    pub objective: ObjectiveConfig,
    /// Sizes of the model.
    pub model: M,
    /// How long, and what to do how often.
    pub train: TrainConfig,
    /// How the model is judged.
    pub evaluation: EvaluationConfig,
    /// Whether gradients are measured, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeConfig>,
}

impl<M> Config<M> {
    /// Samples of a reference for the gradient: those of the bound, where they define it.
    pub fn reference_samples(&self, wanted: usize) -> usize {
        match self.objective {
            ObjectiveConfig::Iwae {} => self.estimator.samples(),
            _ => wanted,
        }
    }
}

/// Which images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Name of the set; `own` for images of your own.
    pub dataset: DatasetName,
    /// Where images of your own are, see [`load_own`](gumbel_datasets::load_own).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// How grey levels become bits.
    pub binarisation: Binarisation,
    /// Whether the validation images are kept out of training. If not, what is called validation says nothing new.
    #[serde(default = "yes")]
    pub held_out: bool,
}

impl DataConfig {
    /// What is wrong, if anything is.
    pub fn check(&self) -> std::result::Result<(), String> {
        match (self.dataset, &self.path) {
            (DatasetName::Own, None) => {
                Err("dataset is own, and path is missing; say where the images are".into())
            }
            (DatasetName::Own, Some(_)) | (_, None) => Ok(()),
            (name, Some(path)) => {
                let path = path.display();
                Err(format!(
                    "path is {path}, and dataset is {name}; use dataset = \"own\", or leave out the path"
                ))
            }
        }
    }
}

fn yes() -> bool {
    true
}

/// How the model is judged: always on discrete samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationConfig {
    /// Samples per image on the validation set, during training.
    #[serde(default = "one")]
    pub samples: usize,
    /// Samples per image on the test set, at the end.
    #[serde(default = "thousand")]
    pub final_samples: usize,
    /// Samples per image on the training set, at the end; 0 leaves it out.
    #[serde(default)]
    pub train_samples: usize,
}

fn one() -> usize {
    1
}

fn thousand() -> usize {
    1000
}

/// Options that say which images.
#[derive(Clone, Debug, clap::Args)]
pub struct DataArgs {
    /// Images: strokes, mnist, fashion-mnist, binarized-mnist, omniglot [default: data.dataset of the configuration]
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    pub dataset: Option<DatasetName>,

    /// Images of your own: a folder of IDX, PNG or parquet files, or a .parquet or .jsonl file; same as
    /// --set data.dataset=own --set data.path=PATH
    #[arg(long, value_name = "PATH", conflicts_with = "dataset", help_heading = "Data")]
    pub images: Option<PathBuf>,

    /// Where the sets are looked for first; then GUMBEL_DATA_DIR, data/ and the user's cache
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    pub data_dir: Option<PathBuf>,
}

impl DataArgs {
    /// The keys that these are shorthands for.
    #[must_use]
    pub fn overrides(&self) -> Vec<String> {
        let dataset = self.dataset.map(|name| format!("data.dataset=\"{name}\""));
        let own = self.images.as_ref().map(|path| {
            let path = toml::Value::from(&*path.to_string_lossy());
            ["data.dataset=\"own\"".to_owned(), format!("data.path={path}")]
        });
        dataset.into_iter().chain(own.into_iter().flatten()).collect()
    }
}

/// Options of a program that is judged by a bound on images.
#[derive(Clone, Debug, clap::Args)]
pub struct ImageArgs {
    /// Which images.
    #[command(flatten)]
    pub data: DataArgs,

    /// Samples per test image at the end [default: evaluation.final_samples of the configuration]
    #[arg(long, value_name = "K", help_heading = "Data")]
    pub eval_samples: Option<usize>,
}

impl ImageArgs {
    /// The keys that these are shorthands for.
    #[must_use]
    pub fn overrides(&self) -> Vec<String> {
        let samples = self.eval_samples.map(|k| format!("evaluation.final_samples={k}"));
        self.data.overrides().into_iter().chain(samples).collect()
    }
}

impl<M: Serialize + DeserializeOwned> Config<M> {
    /// The configuration that the options ask for, starting from one of `presets`; `check` says what is wrong with the model.
    ///
    /// # Errors
    /// The key, its value and what to do, of the first thing that makes no sense.
    pub fn resolve(
        run: &RunArgs,
        images: &ImageArgs,
        presets: &Presets,
        check: impl FnOnce(&M) -> std::result::Result<(), String>,
    ) -> Result<Self> {
        let mut run = run.clone();
        run.set.extend(images.overrides());
        let config: Self = run.config(presets)?;
        at_least_one(&[
            ("batch_size", config.batch_size),
            ("evaluation.samples", config.evaluation.samples),
            ("evaluation.final_samples", config.evaluation.final_samples),
        ])?;
        within("data", config.data.check())?;
        within("estimator", config.estimator.check())?;
        within("objective", config.objective.check())?;
        within("model", check(&config.model))?;
        if let Some(probe) = &config.probe {
            within("probe", probe.check(config.train.log_every))?;
        }
        config.learning_rate.check("learning_rate", f64::MAX).map_err(Error::Usage)?;
        config.train.check()?;
        config.train.check_batch("batch_size", config.batch_size)?;
        Ok(config)
    }
}
