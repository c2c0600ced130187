//! The configuration of the experiment and its command line.
use std::path::PathBuf;

use clap::Parser;
use gumbel::Schedule;
use gumbel::estimators::Method;
use gumbel::objectives::ObjectiveConfig;
use gumbel_datasets::{Binarisation, DatasetName};
use gumbel_models::CategoricalVaeConfig;
use gumbel_training::{Error, Result, RunArgs, TrainConfig};
use serde::{Deserialize, Serialize};

use crate::probe::ProbeConfig;

const DEFAULT: &str = include_str!("configs/strokes.toml");

/// Everything that a result depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Names every random number of the run.
    pub(crate) seed: u64,
    /// Images per step.
    pub(crate) batch_size: usize,
    /// Learning rate by step.
    pub(crate) learning_rate: Schedule,
    /// Which images.
    pub(crate) data: DataConfig,
    /// How the gradient is estimated.
    pub(crate) estimator: Method,
    /// What is maximised.
    pub(crate) objective: ObjectiveConfig,
    /// Sizes of the model.
    pub(crate) model: CategoricalVaeConfig,
    /// How long, and what to do how often.
    pub(crate) train: TrainConfig,
    /// How the model is judged.
    pub(crate) evaluation: EvaluationConfig,
    /// Whether gradients are measured, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) probe: Option<ProbeConfig>,
}

impl Config {
    /// Samples of a reference for the gradient: those of the bound, where they define it.
    pub(crate) fn reference_samples(&self, wanted: usize) -> usize {
        match self.objective {
            ObjectiveConfig::Elbo { .. } => wanted,
            ObjectiveConfig::Iwae {} => self.estimator.samples(),
        }
    }
}

/// Which images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DataConfig {
    /// Name of the set.
    pub(crate) dataset: DatasetName,
    /// How grey levels become bits.
    pub(crate) binarisation: Binarisation,
    /// Whether the validation images are kept out of training. If not, what is called validation says nothing new.
    #[serde(default = "yes")]
    pub(crate) held_out: bool,
}

fn yes() -> bool {
    true
}

/// How the model is judged: always on discrete samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EvaluationConfig {
    /// Samples per image on the validation set, during training.
    #[serde(default = "one")]
    pub(crate) samples: usize,
    /// Samples per image on the test set, at the end.
    #[serde(default = "thousand")]
    pub(crate) final_samples: usize,
    /// Samples per image on the training set, at the end; 0 leaves it out.
    #[serde(default)]
    pub(crate) train_samples: usize,
}

fn one() -> usize {
    1
}

fn thousand() -> usize {
    1000
}

/// Train a VAE with discrete latents.
#[derive(Debug, Parser)]
#[command(name = "vae", version, after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) run: RunArgs,

    /// Images: strokes, mnist, fashion-mnist, binarized-mnist, omniglot [default: data.dataset of the configuration]
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    pub(crate) dataset: Option<DatasetName>,

    /// Where the sets are looked for first; then GUMBEL_DATA_DIR, data/ and the user's cache
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Samples per test image at the end [default: evaluation.final_samples of the configuration]
    #[arg(long, value_name = "K", help_heading = "Data")]
    pub(crate) eval_samples: Option<usize>,
}

const EXAMPLES: &str = "\
Examples:
  vae                                            drawn digits, no files needed
  vae --data-dir DIR --config experiments/vae/configs/jang-categorical.toml
  vae --set estimator.samples=5 --set model.latents=30 --seed 2
  vae --resume runs/vae/DIRECTORY --steps 200000

Exit codes: 0 done, 2 wrong option or configuration, 65 bad data, 69 data missing, 74 input/output,
75 stopped on request after a checkpoint, 77 not finite";

impl Args {
    /// The resolved configuration.
    pub(crate) fn config(&self) -> Result<Config> {
        let mut run = self.run.clone();
        run.set.extend(self.dataset.map(|name| format!("data.dataset=\"{name}\"")));
        run.set.extend(self.eval_samples.map(|k| format!("evaluation.final_samples={k}")));
        let config: Config = run.config(DEFAULT)?;
        for (key, value) in [
            ("batch_size", config.batch_size),
            ("evaluation.samples", config.evaluation.samples),
            ("evaluation.final_samples", config.evaluation.final_samples),
        ] {
            if value == 0 {
                return Err(Error::Usage(format!("{key} is 0; use at least 1")));
            }
        }
        let within = |table: &str, checked: std::result::Result<(), String>| {
            checked.map_err(|error| Error::Usage(format!("{table}: {error}")))
        };
        within("estimator", config.estimator.check())?;
        within("model", config.model.check())?;
        if let Some(probe) = &config.probe {
            within("probe", probe.check(config.train.log_every))?;
        }
        let (low, high) = config.learning_rate.range();
        if !(low >= 0. && low.is_finite()) {
            return Err(Error::Usage(format!(
                "learning_rate runs through [{low}, {high}]; keep it finite and at least 0"
            )));
        }
        config.train.check()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(args: &[&str]) -> Result<Config> {
        Args::try_parse_from([&["vae"], args].concat()).unwrap().config()
    }

    #[test]
    fn every_configuration_that_is_shipped_is_valid_and_complete() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/vae/configs");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let resolved = config(&["--config", path.to_str().unwrap()]).unwrap();
            let again: Config =
                toml::from_str(&gumbel_training::config::to_toml(&resolved).unwrap()).unwrap();
            assert_eq!(resolved, again, "{}", path.display());
            count += 1;
        }
        assert!(count >= 3);
    }

    #[test]
    fn flags_are_shorthands_for_keys() {
        let config = config(&["--dataset", "mnist", "--eval-samples", "7", "--seed", "9"]).unwrap();
        assert_eq!(config.data.dataset, DatasetName::Mnist);
        assert_eq!((config.evaluation.final_samples, config.seed), (7, 9));
    }

    #[test]
    fn mistakes_are_answered_with_the_key_and_a_suggestion() {
        for (set, expected) in [
            ("model.latent=3", "latents"),
            ("estimator.temprature=3", "temperature"),
            ("batch_size=0", "batch_size"),
            ("data.dataset=cifar", "strokes"),
            ("estimator.samples=0", "samples is 0"),
            ("estimator.temperature=-1", "[-1, -1]"),
            ("model.latents=1000000000", "1048576"),
            ("learning_rate=-0.1", "learning_rate"),
            ("train.keep=0", "keep"),
            ("probe.every=70", "multiple of train.log_every"),
        ] {
            let error = config(&["--set", set]).unwrap_err();
            assert!(error.to_string().contains(expected), "{set}: {error}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
