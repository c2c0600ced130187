//! The text of a run.
use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use gumbel::Key;
use gumbel_datasets::languages::{Language, LanguageName};
use gumbel_datasets::text::{
    Corpus, Layout, LengthBatches, Text, TextName, TextSource, Tokens, Vocabulary, load_text,
};
use gumbel_datasets::{Dataset, Split};
use gumbel_experiments::{at_least_one, loaded, places};
use gumbel_models::Sequences;
use gumbel_training::{Error, MicroBatch, Result, Run};
use serde::{Deserialize, Serialize};

use crate::config::Config;

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
enum Source {
    Language { name: LanguageName, sentences: usize, held_out: usize },
    Text { source: TextSource, tokens: Tokens, longest: usize },
}

impl DataConfig {
    /// An error unless every value makes sense.
    pub(crate) fn check(&self) -> Result<()> {
        self.source().map(drop)
    }

    fn source(&self) -> Result<Source> {
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
    pub(crate) name: String,
    symbols: Symbols,
    /// How a line of running text ends; none where sentences stand by themselves.
    running: Option<&'static str>,
}

/// What symbols stand for.
#[derive(Debug)]
enum Symbols {
    /// Words of a language whose exact probabilities are known.
    Language(Box<dyn Language>),
    Text(Box<Vocabulary>),
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
                    name: config.corpus.clone(),
                    symbols: Symbols::Language(loaded(name.build())?),
                    running: None,
                }
            }
            Source::Text { source, tokens, longest } => {
                let found_in = places(data_dir);
                let Text { train, valid, test, vocabulary } =
                    loaded(load_text(&source, tokens, longest, &found_in))?;
                let symbols = Symbols::Text(Box::new(vocabulary));
                let running = source.layout() == Layout::Running;
                let end = if matches!(tokens, Tokens::Word { .. }) { "<eos>" } else { "\n" };
                let running = running.then_some(end);
                Self { train, valid, test, name: config.corpus.clone(), symbols, running }
            }
        };
        tracing::info!("data: {}", data.train.identity());
        if data.is_synthetic() {
            tracing::warn!(
                "SYNTHETIC language: these numbers compare with its exact entropy, and with nothing published"
            );
        }
        Ok(data)
    }

    /// The language that the text is drawn from, where it is.
    pub(crate) fn language(&self) -> Option<&dyn Language> {
        match &self.symbols {
            Symbols::Language(language) => Some(&**language),
            Symbols::Text(_) => None,
        }
    }

    /// `tokenizer.json` of a text.
    pub(crate) fn tokenizer(&self) -> Result<Option<String>> {
        match &self.symbols {
            Symbols::Language(_) => Ok(None),
            Symbols::Text(vocabulary) => loaded(vocabulary.to_json()).map(Some),
        }
    }

    /// Makes the text part of the run's identity.
    pub(crate) fn identify(&self, run: &mut Run) -> Result<()> {
        run.identify("data.train", &self.train.identity())?;
        run.identify("data.valid", &self.valid.identity())?;
        run.identify("data.test", &self.test.identity())
    }

    /// Whether the program made the text.
    pub(crate) fn is_synthetic(&self) -> bool {
        self.language().is_some()
    }

    /// Length of the longest sequence of all.
    pub(crate) fn longest(&self) -> usize {
        let lengths = [&self.train, &self.valid, &self.test].into_iter();
        lengths.flat_map(Corpus::lengths).max().unwrap_or(1)
    }

    /// The symbols of a line.
    pub(crate) fn ids(&self, line: &str) -> Result<Vec<u32>> {
        match &self.symbols {
            Symbols::Text(vocabulary) => Ok(loaded(vocabulary.symbols(&[line]))?.concat()),
            Symbols::Language(language) => {
                let all = 0..language.vocabulary() as u32;
                let known: HashMap<String, u32> =
                    all.map(|symbol| (language.word(symbol), symbol)).collect();
                let unknown = |word| Error::Usage(format!("`{word}` is no word of {}", self.name));
                let id = |word| known.get(word).copied().ok_or_else(|| unknown(word));
                line.split_whitespace().map(id).collect()
            }
        }
    }

    /// What a text follows: the boundary, or the end of a line of running text.
    pub(crate) fn start(&self) -> Result<u32> {
        Ok(self.line_end()?.last().copied().unwrap_or(self.train.boundary()))
    }

    /// The symbols of a line with its end, as training had them.
    pub(crate) fn line(&self, line: &str) -> Result<Vec<u32>> {
        let words = self.ids(line)?;
        Ok(self.train.ended([words, self.line_end()?].concat()))
    }

    /// The end of a line of running text; nothing where sentences stand by themselves.
    fn line_end(&self) -> Result<Vec<u32>> {
        match (&self.symbols, self.running) {
            (Symbols::Text(vocabulary), Some(end)) => {
                Ok(loaded(vocabulary.symbols(&[end]))?.concat())
            }
            _ => Ok(vec![]),
        }
    }

    /// Symbols as a reader would have them.
    pub(crate) fn text(&self, symbols: &[u32]) -> String {
        let end = self.train.boundary();
        let symbols: Vec<u32> = symbols.iter().copied().filter(|symbol| *symbol != end).collect();
        match &self.symbols {
            Symbols::Text(vocabulary) => vocabulary.text(&symbols),
            Symbols::Language(language) => {
                let words: Vec<String> =
                    symbols.into_iter().map(|symbol| language.word(symbol)).collect();
                words.join(" ")
            }
        }
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
