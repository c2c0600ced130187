//! The configuration of the experiment and its command line.

use clap::Parser;
use gumbel::Schedule;
use gumbel::estimators::Method;
use gumbel::objectives::ObjectiveConfig;
use gumbel_experiments::{DataArgs, DataConfig, EXIT_CODES, at_least_one, within};
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
#[command(name = "semi", version, after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
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
  semi --resume runs/semi/DIRECTORY --steps 100000";

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
        within("data", config.data.check())?;
        at_least_one(&[
            ("batch_size", config.batch_size),
            ("labels.batch_size", config.labels.batch_size),
            ("labels.per_class", config.labels.per_class),
        ])?;
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
        within("estimator", config.estimator.check())?;
        within("objective", config.objective.check())?;
        within("model", config.model.check())?;
        config.learning_rate.check("learning_rate", f64::MAX).map_err(Error::Usage)?;
        config.train.check()?;
        config.train.check_batch("batch_size", config.batch_size)?;
        config.train.check_batch("labels.batch_size", config.labels.batch_size)?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use gumbel_experiments::check_shipped;

    use super::*;

    fn config(args: &[&str]) -> Result<Config> {
        Args::try_parse_from([&["semi"], args].concat()).unwrap().config()
    }

    #[test]
    fn every_configuration_that_is_shipped_is_valid_and_complete() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/semi/configs");
        check_shipped(folder, &PRESETS, config).unwrap();
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
            ("learning_rate=inf", "[inf, inf]"),
        ] {
            let error = config(&["--set", set]).unwrap_err();
            assert!(error.to_string().contains(expected), "{set}: {error}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
