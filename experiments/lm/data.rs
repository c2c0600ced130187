//! The text of a run.
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use gumbel::Key;
use gumbel_datasets::languages::LanguageName;
use gumbel_datasets::text::{
    Corpus, Layout, LengthBatches, Text, TextName, TextSource, Tokens, load_text,
};
use gumbel_datasets::{Dataset, Split};
use gumbel_experiments::{at_least_one, loaded, places};
use gumbel_models::Sequences;
use gumbel_training::{Error, MicroBatch, Result, Run};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::symbols::Symbols;

/// What a run calls the length of its longest sequence.
pub(crate) const LONGEST: &str = "data.longest";

/// Which text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DataConfig {
    /// Its name: of a synthetic language or of a text, or any name for a file of your own.
    pub(crate) corpus: String,
    /// Of a language: sentences that are drawn to train on. Default 20,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sentences: Option<usize>,
    /// Of a language: sentences that are drawn to validate on, and as many to test on. Default 2000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) held_out: Option<usize>,
    /// Of a text: what its symbols are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tokens: Option<Tokens>,
    /// Of a text: the longest sequence; longer ones are read in pieces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) longest: Option<usize>,
    /// A file of your own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<PathBuf>,
    /// What the lines of that file are: "sentences" or "running" text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) layout: Option<Layout>,
}

/// Where a text is from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Language { name: LanguageName, sentences: usize, held_out: usize },
    Text { source: TextSource, tokens: Tokens, longest: usize },
}

impl DataConfig {
    /// An error unless every value makes sense.
    pub(crate) fn check(&self) -> Result<()> {
        self.source().map(drop)
    }

    /// The text that is meant.
    pub(crate) fn source(&self) -> Result<Source> {
        let name = self.corpus.as_str();
        let language = LanguageName::ALL.into_iter().find(|known| known.as_str() == name);
        let text = TextName::ALL.into_iter().find(|known| known.as_str() == name);
        let needs = |key: &str, what: &str| Error::Usage(format!("data.{key} is missing; {what}"));
        if let (Some(name), None) = (language, &self.path) {
            let (sentences, held_out) =
                (self.sentences.unwrap_or(20_000), self.held_out.unwrap_or(2000));
            at_least_one(&[("data.sentences", sentences), ("data.held_out", held_out)])?;
            let of_texts = [("tokens", self.tokens.is_some()), ("longest", self.longest.is_some())];
            if let Some((key, _)) = of_texts.into_iter().find(|(_, given)| *given) {
                return Err(Error::Usage(format!(
                    "data.{key} says how a text is read, and {} is a language of this program; leave it out",
                    self.corpus
                )));
            }
            return Ok(Source::Language { name, sentences, held_out });
        }
        let source = match (&self.path, self.layout, text) {
            (Some(path), Some(layout), _) => TextSource::File { path: path.clone(), layout },
            (Some(_), None, _) => {
                return Err(needs("layout", "use \"sentences\" or \"running\""));
            }
            (None, _, Some(name)) => TextSource::Named(name),
            (None, ..) => {
                let known = LanguageName::ALL.map(LanguageName::as_str).into_iter();
                let known: Vec<&str> = known.chain(TextName::ALL.map(TextName::as_str)).collect();
                return Err(Error::Usage(format!(
                    "data.corpus is {name:?}; use one of {}, or set data.path to a file of your own",
                    known.join(", ")
                )));
            }
        };
        let tokens = self.tokens.ok_or_else(|| {
            needs("tokens", "use for example { kind = \"character\" }, { kind = \"word\" } or { kind = \"bpe\", vocabulary = 8000 }")
        })?;
        let longest = self.longest.filter(|longest| *longest > 0).ok_or_else(|| {
            needs("longest", "say how many symbols a sequence may have, at least 1")
        })?;
        Ok(Source::Text { source, tokens, longest })
    }
}

/// The three splits, and what is known about them.
#[derive(Debug)]
pub(crate) struct Data {
    pub(crate) train: Corpus,
    pub(crate) valid: Corpus,
    pub(crate) test: Corpus,
    pub(crate) symbols: Symbols,
}

impl Data {
    /// Draws or reads the text; the seed of the run does not change it, so that runs can be compared.
    pub(crate) fn load(config: &DataConfig, data_dir: Option<PathBuf>) -> Result<Self> {
        let data = match config.source()? {
            Source::Language { name, sentences, held_out } => {
                let drawn = |split, sentences| loaded(Corpus::drawn(name, split, sentences, 0));
                Self {
                    train: drawn(Split::Train, sentences)?,
                    valid: drawn(Split::Valid, held_out)?,
                    test: drawn(Split::Test, held_out)?,
                    symbols: Symbols::of_language(name)?,
                }
            }
            Source::Text { source, tokens, longest } => {
                let found_in = places(data_dir);
                let Text { train, valid, test, vocabulary } =
                    loaded(load_text(&source, tokens, longest, &found_in))?;
                let how = (source.layout(), tokens);
                let symbols = Symbols::of_text(&config.corpus, vocabulary, how)?;
                Self { train, valid, test, symbols }
            }
        };
        tracing::info!("data: {}", data.train.identity());
        if data.symbols.is_synthetic() {
            tracing::warn!(
                "SYNTHETIC language: these numbers compare with its exact entropy, and with nothing published"
            );
        }
        Ok(data)
    }

    /// Makes the text part of the run's identity.
    pub(crate) fn identify(&self, run: &mut Run) -> Result<()> {
        run.identify("data.train", &self.train.identity())?;
        run.identify("data.valid", &self.valid.identity())?;
        run.identify("data.test", &self.test.identity())?;
        run.identify(LONGEST, &self.longest().to_string())
    }

    /// Length of the longest sequence of all.
    pub(crate) fn longest(&self) -> usize {
        let lengths = [&self.train, &self.valid, &self.test].into_iter();
        lengths.flat_map(Corpus::lengths).max().unwrap_or(1)
    }
}

/// The batches of training.
#[derive(Debug)]
pub(crate) struct Batches<'a> {
    corpus: &'a Corpus,
    order: LengthBatches,
    size: usize,
    device: &'a Device,
}

impl<'a> Batches<'a> {
    pub(crate) fn new(
        config: &Config,
        data: &'a Data,
        key: Key,
        device: &'a Device,
    ) -> Result<Self> {
        let size = MicroBatch::first(&config.train).share(config.batch_size)?;
        let order = loaded(LengthBatches::new(data.train.lengths(), size, key))?;
        Ok(Self { corpus: &data.train, order, size, device })
    }

    /// The sequences of a micro-batch, and their number over that of a full batch.
    pub(crate) fn at(&self, index: u64) -> Result<(Sequences, f64)> {
        let rows = self.order.rows(index);
        let share = rows.len() as f64 / self.size as f64;
        Ok((sequences(self.corpus, &rows, self.device)?, share))
    }
}

/// Rows of one length.
pub(crate) fn sequences(corpus: &Corpus, rows: &[u32], device: &Device) -> Result<Sequences> {
    let batch = loaded(corpus.gather(rows, device))?;
    Ok(Sequences { inputs: batch.inputs, targets: batch.targets })
}

/// The sequences with a share of the inputs hidden: the boundary stands in their place.
pub(crate) fn drop_words(x: Sequences, share: f64, boundary: u32, key: Key) -> Result<Sequences> {
    if share == 0. {
        return Ok(x);
    }
    let Sequences { inputs, targets } = x;
    let uniform = key.uniform(inputs.shape(), candle_core::DType::F64, inputs.device())?;
    let hidden = Tensor::full(boundary, inputs.shape(), inputs.device())?;
    Ok(Sequences { inputs: uniform.lt(share)?.where_cond(&hidden, &inputs)?, targets })
}
