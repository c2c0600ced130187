//! The configuration of the experiment and its command line.

use clap::Parser;
use gumbel::Schedule;
use gumbel::estimators::Method;
use gumbel::objectives::ObjectiveConfig;
use gumbel_experiments::{DataArgs, DataConfig};
use gumbel_models::SemiSupervisedVaeConfig;
use gumbel_training::{Error, Result, RunArgs, TrainConfig};
use serde::{Deserialize, Serialize};

const PRESETS: [(&str, &str); 2] = [
    ("strokes", include_str!("configs/strokes.toml")),
    ("jang", include_str!("configs/jang.toml")),
];

/// Everything that a result depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Names every random number of the run.
    pub(crate) seed: u64,
    /// Images without labels per step.
    pub(crate) batch_size: usize,
    /// Learning rate by step.
    pub(crate) learning_rate: Schedule,
    /// Which images.
    pub(crate) data: DataConfig,
    /// Which labels are known, and what they are worth.
    pub(crate) labels: LabelsConfig,
    /// How the gradient of images without labels is estimated; `enumerate` sums over the classes.
    pub(crate) estimator: Method,
    /// What is maximised.
    pub(crate) objective: ObjectiveConfig,
    /// Sizes of the model.
    pub(crate) model: SemiSupervisedVaeConfig,
    /// How long, and what to do how often.
    pub(crate) train: TrainConfig,
}

/// Which labels are known, and what they are worth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LabelsConfig {
    /// Images of each class whose label is known.
    pub(crate) per_class: usize,
    /// Images with labels per step.
    pub(crate) batch_size: usize,
    /// Weight of the bound of images with labels; where every image counts once, how many have a label for one that has
    /// none.
    pub(crate) bound: f64,
    /// Weight `α` of `log q(y|x)` beside the bound of images without labels.
    pub(crate) classification: f64,
}

/// Train a classifier with few labels and a generative model of all images.
#[derive(Debug, Parser)]
#[command(name = "semi", version, after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) run: RunArgs,

    #[command(flatten)]
    pub(crate) images: DataArgs,
}

const EXAMPLES: &str = "\
Examples:
  semi                                           drawn digits, no files needed
  semi --data-dir DIR --config jang
  semi --set 'estimator={method=\"enumerate\"}'    sum over the classes
  semi --resume runs/semi/DIRECTORY --steps 100000

Exit codes: 0 done, 2 wrong option or configuration, 65 bad data, 69 data missing, 71 no memory, 74 input/output,
75 stopped on request after a checkpoint, 77 not finite";

impl Args {
    /// What to print instead of a run, if that was asked for.
    pub(crate) fn instead(&self, config: &Config) -> Result<Option<String>> {
        self.run.instead(config, &PRESETS, &self.images.overrides())
    }

    /// The resolved configuration.
    pub(crate) fn config(&self) -> Result<Config> {
        let mut run = self.run.clone();
        run.set.extend(self.images.overrides());
        let config: Config = run.config(&PRESETS)?;
        let usage = |error: String| Err(Error::Usage(error));
        config.data.check().map_err(|error| Error::Usage(format!("data: {error}")))?;
        for (key, value) in [
            ("batch_size", config.batch_size),
            ("labels.batch_size", config.labels.batch_size),
            ("labels.per_class", config.labels.per_class),
        ] {
            if value == 0 {
                return usage(format!("{key} is 0; use at least 1"));
            }
        }
        for (key, weight) in [
            ("labels.bound", config.labels.bound),
            ("labels.classification", config.labels.classification),
        ] {
            if !(weight >= 0. && weight.is_finite()) {
                return usage(format!("{key} is {weight}; use a number from 0 on"));
            }
        }
        // The divergence of the style is in closed form: not what weights of many samples are made of.
        if matches!(config.objective, ObjectiveConfig::Iwae {}) {
            return usage("objective.bound is \"iwae\"; use \"elbo\"".to_owned());
        }
        config.estimator.check().map_err(|error| Error::Usage(format!("estimator: {error}")))?;
        config.objective.check().map_err(|error| Error::Usage(format!("objective: {error}")))?;
        config.model.check().map_err(|error| Error::Usage(format!("model: {error}")))?;
        let (low, high) = config.learning_rate.range();
        if !(low >= 0. && high.is_finite()) {
            return usage(format!(
                "learning_rate runs through [{low}, {high}]; keep it finite and at least 0"
            ));
        }
        config.train.check()?;
        config.train.check_batch("batch_size", config.batch_size)?;
        config.train.check_batch("labels.batch_size", config.labels.batch_size)?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(args: &[&str]) -> Result<Config> {
        Args::try_parse_from([&["semi"], args].concat()).unwrap().config()
    }

    #[test]
    fn every_configuration_that_is_shipped_is_valid_and_complete() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/semi/configs");
        for name in ["strokes.toml", "jang.toml"] {
            let path = format!("{folder}/{name}");
            let resolved = config(&["--config", &path]).unwrap();
            let again: Config =
                toml::from_str(&gumbel_training::config::to_toml(&resolved).unwrap()).unwrap();
            assert_eq!(resolved, again, "{name}");
        }
    }

    #[test]
    fn mistakes_are_answered_with_the_key() {
        for (set, expected) in [
            ("labels.per_class=0", "labels.per_class is 0"),
            ("labels.bound=-1", "labels.bound is -1"),
            ("labels.classification=-1", "labels.classification is -1"),
            ("objective={bound='iwae'}", "use \"elbo\""),
            ("model.style=0", "style"),
            ("estimator.samples=0", "samples is 0"),
            ("learning_rate=-0.1", "learning_rate"),
        ] {
            let error = config(&["--set", set]).unwrap_err();
            assert!(error.to_string().contains(expected), "{set}: {error}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
