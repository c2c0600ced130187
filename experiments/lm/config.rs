//! The configuration of the experiment and its command line.
use std::path::PathBuf;

use clap::Parser;
use gumbel::Schedule;
use gumbel::estimators::Method;
use gumbel::objectives::ObjectiveConfig;
use gumbel_experiments::{EXIT_CODES, at_least_one, within};
use gumbel_models::{LanguageModel, Latents, TransformerConfig};
use gumbel_training::{Error, Result, RunArgs, TrainConfig};
use serde::{Deserialize, Serialize};

use crate::cost::CostArgs;
use crate::data::DataConfig;
use crate::use_model::{EncodeArgs, SampleArgs};

const PRESETS: [(&str, &str); 11] = [
    ("switching", include_str!("configs/switching.toml")),
    ("e2e", include_str!("configs/e2e.toml")),
    ("e2e-hour", include_str!("configs/e2e-hour.toml")),
    ("grammar", include_str!("configs/grammar.toml")),
    ("mixture", include_str!("configs/mixture.toml")),
    ("slots", include_str!("configs/slots.toml")),
    ("tatoeba", include_str!("configs/tatoeba.toml")),
    ("tiny", include_str!("configs/tiny.toml")),
    ("tinyshakespeare", include_str!("configs/tinyshakespeare.toml")),
    ("wikitext-2", include_str!("configs/wikitext-2.toml")),
    ("wikitext-2-large", include_str!("configs/wikitext-2-large.toml")),
];

/// Everything that a result depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Names every random number of the run.
    pub(crate) seed: u64,
    /// Sequences per step, at most: all of a batch are of one length.
    pub(crate) batch_size: usize,
    /// Learning rate by step.
    pub(crate) learning_rate: Schedule,
    /// Which text.
    pub(crate) data: DataConfig,
    /// What is maximised.
    pub(crate) maximise: Maximise,
    /// How the gradient of a sampled bound is estimated.
    pub(crate) estimator: Method,
    /// The bound that is sampled.
    pub(crate) objective: ObjectiveConfig,
    /// What helps codes to be used, beside the objective.
    #[serde(default)]
    pub(crate) aids: AidsConfig,
    /// Sizes of the decoder; its vocabulary and context are the text's.
    pub(crate) decoder: DecoderConfig,
    /// What the decoder has beside its words.
    pub(crate) latents: Latents,
    /// How long, and what to do how often.
    pub(crate) train: TrainConfig,
    /// How the model is judged.
    pub(crate) evaluation: EvaluationConfig,
}

/// What is maximised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Maximise {
    /// `log p(x)`, summed over the latents.
    LogLikelihood,
    /// The bound of a mean-field posterior of a chain of states, in closed form.
    MeanFieldBound,
    /// The objective, by samples and an estimator.
    SampledBound,
}

/// What helps codes to be used, beside the objective: schedules that should end at 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AidsConfig {
    /// Share of the inputs that are hidden in training: what the decoder reads, and what the encoder sees as the symbol
    /// before.
    pub(crate) word_dropout: Schedule,
    /// Weight of the log-likelihood of a bag of words that is told the codes only.
    pub(crate) bag_of_words: Schedule,
}

impl Default for AidsConfig {
    fn default() -> Self {
        let none = Schedule::constant(0.);
        Self { word_dropout: none, bag_of_words: none }
    }
}

/// Sizes of the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DecoderConfig {
    /// Numbers that stand for a symbol in its context.
    pub(crate) width: usize,
    /// Heads of an attention layer.
    pub(crate) heads: usize,
    /// Number of blocks.
    pub(crate) layers: usize,
    /// Symbols that each block sees, the present one counted; all if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) window: Option<usize>,
}

impl DecoderConfig {
    /// With the sizes that the text decides.
    pub(crate) fn on(self, vocabulary: usize, context: usize) -> TransformerConfig {
        let Self { width, heads, layers, window } = self;
        TransformerConfig { vocabulary, width, heads, layers, context, window }
    }
}

/// How the model is judged: always on discrete samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EvaluationConfig {
    /// Sequences of the validation set that are looked at during training, at most.
    pub(crate) valid_sequences: usize,
    /// Numbers of samples of the bounds on the test set, at the end.
    pub(crate) samples: Vec<usize>,
    /// Sequences of the test set whose many-sample bounds are taken, at most; everything else is of all of them.
    pub(crate) bound_sequences: usize,
}

/// Train a language model with discrete latents, or use one.
#[derive(Debug, Parser)]
#[command(name = "lm", version, after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"), args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    #[command(flatten)]
    pub(crate) run: RunArgs,

    #[command(flatten)]
    pub(crate) text: TextArgs,
}

/// What can be done with a model that is trained.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Write text with the model of a run
    Sample(SampleArgs),
    /// Say which codes the model of a run has for each line of a file
    Encode(EncodeArgs),
    /// Measure what a training step costs by length and vocabulary
    Cost(CostArgs),
}

/// Which text.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TextArgs {
    /// Text: mixture, switching, slots, grammar (synthetic, no files needed), tinyshakespeare, wikitext-2, e2e, tatoeba-en [default: data.corpus of the configuration]
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    pub(crate) corpus: Option<String>,

    /// Text of your own: a file, a line each sentence or line, or a .jsonl file of objects with a "text"; same as
    /// --set data.corpus=own --set data.path=FILE
    #[arg(long, value_name = "FILE", conflicts_with = "corpus", help_heading = "Data")]
    pub(crate) text: Option<PathBuf>,

    /// Where the sets are looked for first; then GUMBEL_DATA_DIR, data/ and the user's cache
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    pub(crate) data_dir: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  lm                                             a synthetic language, no files needed
  lm --set 'latents={kind=\"none\"}'               the same decoder without latents
  lm --config slots --set estimator.method=straight-through --seed 2
  lm sample runs/lm/DIRECTORY --codes 3          text by a code of your choice
  lm encode runs/lm/DIRECTORY lines.txt          codes of your text";

impl TextArgs {
    /// The keys that these are shorthands for.
    fn overrides(&self) -> Vec<String> {
        let corpus = self.corpus.iter().map(|name| format!("data.corpus={name:?}"));
        let own = self.text.iter().flat_map(|path| {
            let path = toml::Value::from(&*path.to_string_lossy());
            ["data.corpus=own".to_owned(), format!("data.path={path}")]
        });
        corpus.chain(own).collect()
    }
}

impl Args {
    /// What to print instead of a run, if that was asked for.
    pub(crate) fn instead(&self, config: &Config) -> Result<Option<String>> {
        self.run.instead(config, &PRESETS, &self.text.overrides())
    }

    /// The resolved configuration.
    pub(crate) fn config(&self) -> Result<Config> {
        let mut run = self.run.clone();
        run.set.extend(self.text.overrides());
        let config: Config = run.config(&PRESETS)?;
        config.check()?;
        Ok(config)
    }
}

impl Config {
    /// The decoder's sizes on a text.
    pub(crate) fn sized(&self, vocabulary: usize, longest: usize) -> Result<TransformerConfig> {
        let decoder = self.decoder.on(vocabulary, longest);
        let table = format!("decoder or latents, where sequences have up to {longest} symbols");
        within(&table, self.latents.check(&decoder))?;
        if let (Latents::Codes(codes), Maximise::LogLikelihood) = (self.latents, self.maximise) {
            let count = codes.count(&decoder);
            if LanguageModel::joint_values(count, codes.categories).is_none() {
                return Err(Error::Usage(format!(
                    "maximise is \"log-likelihood\" with {} codes of {} values; use at most {} joint values, or maximise = \"sampled-bound\"",
                    count,
                    codes.categories,
                    LanguageModel::MOST_JOINT_VALUES
                )));
            }
        }
        Ok(decoder)
    }

    /// An error unless every value makes sense; sizes of the model are checked with those of the text.
    fn check(&self) -> Result<()> {
        self.data.check()?;
        at_least_one(&[
            ("batch_size", self.batch_size),
            ("evaluation.valid_sequences", self.evaluation.valid_sequences),
            ("evaluation.bound_sequences", self.evaluation.bound_sequences),
            ("evaluation.samples", self.evaluation.samples.iter().copied().min().unwrap_or(0)),
        ])?;
        let usage = |error: String| Err(Error::Usage(error));
        let aids = &self.aids;
        for (key, schedule, most) in [
            ("learning_rate", &self.learning_rate, f64::MAX),
            ("aids.word_dropout", &aids.word_dropout, 1.),
            ("aids.bag_of_words", &aids.bag_of_words, f64::MAX),
        ] {
            schedule.check(key, most).map_err(Error::Usage)?;
        }
        let none = Schedule::constant(0.);
        let exact = self.maximise == Maximise::LogLikelihood;
        let (encoder, bag) = match self.latents {
            Latents::None {} => (0, false),
            Latents::States(config) => (config.encoder_layers, false),
            Latents::Codes(config) => (config.encoder_layers, config.bag_of_words),
        };
        let maximise = |wrong: &str, use_this: &str| {
            usage(format!("maximise is {wrong}; use maximise = \"{use_this}\""))
        };
        match self.latents {
            Latents::None {} if !exact => maximise("a bound, without latents", "log-likelihood"),
            Latents::Codes(_) if self.maximise == Maximise::MeanFieldBound => {
                maximise("\"mean-field-bound\", which codes have in no closed form", "sampled-bound")
            }
            _ if exact && encoder > 0 => usage(format!(
                "latents.encoder_layers is {encoder}, and with maximise = \"log-likelihood\" nothing is inferred; use 0"
            )),
            _ if !exact && encoder == 0 => usage(
                "latents.encoder_layers is 0, and a bound needs a posterior; use at least 1, or maximise = \"log-likelihood\"".to_owned(),
            ),
            _ if bag != (aids.bag_of_words != none) || bag && exact => usage(
                "latents.bag_of_words is for codes and a sampled bound, with a weight aids.bag_of_words; set both, or none".to_owned(),
            ),
            _ => Ok(()),
        }?;
        within("estimator", self.estimator.check())?;
        within("objective", self.objective.check())?;
        self.train.check()?;
        self.train.check_batch("batch_size", self.batch_size)
    }
}

#[cfg(test)]
mod tests {
    use gumbel_experiments::check_shipped;

    use super::*;

    fn config(args: &[&str]) -> Result<Config> {
        Args::try_parse_from([&["lm"], args].concat()).unwrap().config()
    }

    #[test]
    fn every_configuration_that_is_shipped_is_valid_and_complete() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/lm/configs");
        check_shipped(folder, &PRESETS, config).unwrap();
    }

    #[test]
    fn mistakes_are_answered_with_the_key() {
        for (set, expected) in [
            ("batch_size=0", "batch_size is 0"),
            ("evaluation.samples=[]", "evaluation.samples is 0"),
            ("latents={kind='none'}", "maximise = \"log-likelihood\""),
            ("maximise='log-likelihood'", "latents.encoder_layers is 2"),
            ("latents.encoder_layers=0", "needs a posterior"),
            ("aids.bag_of_words=1", "latents.bag_of_words"),
            ("aids.word_dropout=1.5", "aids.word_dropout"),
            ("maximise='mean-field-bound'", "maximise = \"sampled-bound\""),
            ("data.corpus='klingon'", "mixture"),
            ("decoder.widht=3", "width"),
            ("learning_rate=-1", "learning_rate"),
            ("learning_rate=inf", "[inf, inf]"),
            ("objective.batch_prior=5", "batch_prior"),
        ] {
            let slots = concat!(env!("CARGO_MANIFEST_DIR"), "/lm/configs/slots.toml");
            let error = config(&["--config", slots, "--set", set]).unwrap_err();
            assert!(error.to_string().contains(expected), "{set}: {error}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
