//! The configuration of the experiment and its command line.
use clap::Parser;
use gumbel::objectives::ObjectiveConfig;
use gumbel_datasets::Binarisation;
use gumbel_experiments::{EXIT_CODES, ImageArgs};
use gumbel_models::CategoricalVaeConfig;
use gumbel_training::{Error, Result, RunArgs};

const PRESETS: [(&str, &str); 5] = [
    ("strokes", include_str!("configs/strokes.toml")),
    ("jang-bernoulli", include_str!("configs/jang-bernoulli.toml")),
    ("jang-categorical", include_str!("configs/jang-categorical.toml")),
    ("maddison", include_str!("configs/maddison.toml")),
    ("reinmax", include_str!("configs/reinmax.toml")),
];

/// Everything that a result depends on.
pub(crate) type Config = gumbel_experiments::Config<CategoricalVaeConfig>;

/// Train a VAE with discrete latents.
#[derive(Debug, Parser)]
#[command(name = "vae", version, after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) run: RunArgs,

    #[command(flatten)]
    pub(crate) images: ImageArgs,
}

const EXAMPLES: &str = "\
Examples:
  vae                                            drawn digits, no files needed
  vae --config jang-categorical --data-dir DIR    as in the paper
  vae --images FOLDER                            PNG files of your own, IDX, parquet or JSON lines
  vae --set estimator.samples=5 --set model.latents=30 --seed 2
  vae --resume runs/vae/DIRECTORY --steps 200000";

impl Args {
    /// What to print instead of a run, if that was asked for.
    pub(crate) fn instead(&self, config: &Config) -> Result<Option<String>> {
        self.run.instead(config, &PRESETS, &self.images.overrides())
    }

    /// The resolved configuration.
    pub(crate) fn config(&self) -> Result<Config> {
        let config =
            Config::resolve(&self.run, &self.images, &PRESETS, CategoricalVaeConfig::check)?;
        let layers = config.model.layers;
        if layers > 1 && matches!(config.objective, ObjectiveConfig::GuardedElbo { .. }) {
            return Err(Error::Usage(format!(
                "objective.bound is guarded-elbo with model.layers = {layers}, whose divergences have no closed form to \
                 guard; use elbo"
            )));
        }
        if config.model.context.is_some() && config.data.binarisation == Binarisation::Grey {
            return Err(Error::Usage(
                "model.context sees pixels of the image, and data.binarisation is grey: what it sees has to be bits; use \
                 fixed, dynamic or threshold"
                    .to_owned(),
            ));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use gumbel_datasets::DatasetName;
    use gumbel_experiments::check_shipped;

    use super::*;

    fn config(args: &[&str]) -> Result<Config> {
        Args::try_parse_from([&["vae"], args].concat()).unwrap().config()
    }

    #[test]
    fn every_configuration_that_is_shipped_is_valid_and_complete() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/vae/configs");
        check_shipped(folder, &PRESETS, config).unwrap();
    }

    #[test]
    fn flags_are_shorthands_for_keys() {
        let config = config(&["--dataset", "mnist", "--eval-samples", "7", "--seed", "9"]).unwrap();
        assert_eq!(config.data.dataset, DatasetName::Mnist);
        assert_eq!((config.evaluation.final_samples, config.seed), (7, 9));
    }

    #[test]
    fn guards_are_for_one_layer() {
        let args = ["--set", "objective={bound='guarded-elbo'}", "--set", "model.layers=2"];
        let error = config(&args).unwrap_err();
        assert!(error.to_string().contains("guarded-elbo with model.layers = 2"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn a_decoder_that_sees_pixels_sees_bits() {
        let args = [
            "--set",
            "model.context={window=3, maps=1, hidden=[4]}",
            "--set",
            "data.binarisation=grey",
        ];
        let error = config(&args).unwrap_err();
        assert!(error.to_string().contains("data.binarisation is grey"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn mistakes_are_answered_with_the_key_and_a_suggestion() {
        for (set, expected) in [
            ("model.latent=3", "latents"),
            ("estimator.temprature=3", "temperature"),
            ("batch_size=0", "batch_size"),
            ("data.dataset=cifar", "strokes"),
            ("data.dataset=own", "path is missing"),
            ("data.path=x", "dataset is strokes"),
            ("estimator.samples=0", "samples is 0"),
            ("estimator.temperature=-1", "[-1, -1]"),
            ("model.latents=1000000000", "1048576"),
            ("learning_rate=-0.1", "learning_rate"),
            ("learning_rate={kind=\"linear\",start=1.0,end=inf,steps=9}", "[1, inf]"),
            (
                "learning_rate={kind=\"exponential\",start=1.0,floor=0.0,rate=-1.0,every=1}",
                "[0, inf]",
            ),
            ("train.keep=0", "keep"),
            ("probe.every=70", "multiple of train.log_every"),
        ] {
            let error = config(&["--set", set]).unwrap_err();
            assert!(error.to_string().contains(expected), "{set}: {error}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
