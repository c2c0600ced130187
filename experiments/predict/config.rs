//! The configuration of the experiment and its command line.
use clap::Parser;
use gumbel::Schedule;
use gumbel::objectives::ObjectiveConfig;
use gumbel_experiments::{EXIT_CODES, ImageArgs};
use gumbel_models::StructuredPredictionConfig;
use gumbel_training::{Error, Result, RunArgs};

const PRESETS: [(&str, &str); 4] = [
    ("strokes", include_str!("configs/strokes.toml")),
    ("jang-bernoulli", include_str!("configs/jang-bernoulli.toml")),
    ("jang-categorical", include_str!("configs/jang-categorical.toml")),
    ("maddison", include_str!("configs/maddison.toml")),
];

/// Everything that a result depends on.
pub(crate) type Config = gumbel_experiments::Config<StructuredPredictionConfig>;

/// Train a network of discrete units to complete images.
#[derive(Debug, Parser)]
#[command(name = "predict", version, after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) run: RunArgs,

    #[command(flatten)]
    pub(crate) images: ImageArgs,
}

const EXAMPLES: &str = "\
Examples:
  predict                                        drawn digits, no files needed
  predict --data-dir DIR --config jang-bernoulli
  predict --resume runs/predict/DIRECTORY --steps 200000";

impl Args {
    /// What to print instead of a run, if that was asked for.
    pub(crate) fn instead(&self, config: &Config) -> Result<Option<String>> {
        self.run.instead(config, &PRESETS, &self.images.overrides())
    }

    /// The resolved configuration.
    pub(crate) fn config(&self) -> Result<Config> {
        let config =
            Config::resolve(&self.run, &self.images, &PRESETS, StructuredPredictionConfig::check)?;
        // All units are the model's own: nothing is inferred, and nothing diverges.
        let plain = match config.objective {
            ObjectiveConfig::Iwae {} => true,
            ObjectiveConfig::Elbo { beta, .. } => beta == Schedule::constant(1.),
            _ => false,
        };
        if !plain {
            return Err(Error::Usage(
                "objective weighs or guards a divergence, and there is none here; use bound = \"iwae\" or \"elbo\" alone"
                    .to_owned(),
            ));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use gumbel_experiments::check_shipped;

    use super::*;

    fn config(args: &[&str]) -> Result<Config> {
        Args::try_parse_from([&["predict"], args].concat()).unwrap().config()
    }

    #[test]
    fn every_configuration_that_is_shipped_is_valid_and_complete() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/predict/configs");
        check_shipped(folder, &PRESETS, config).unwrap();
    }

    #[test]
    fn mistakes_are_answered_with_the_key() {
        for (set, expected) in [
            ("model.layers=0", "layers is 0"),
            ("batch_size=0", "batch_size"),
            ("estimator.samples=0", "samples is 0"),
            ("learning_rate=-0.1", "learning_rate"),
            ("objective={bound='guarded-elbo', free_nats=0.1}", "there is none here"),
            ("objective={bound='elbo', beta=0.5}", "there is none here"),
        ] {
            let error = config(&["--set", set]).unwrap_err();
            assert!(error.to_string().contains(expected), "{set}: {error}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
