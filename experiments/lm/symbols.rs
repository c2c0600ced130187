//! What the symbols of a model stand for: all that it takes to write and to read text by a model, without its corpus.
use std::collections::HashMap;
use std::path::Path;

use gumbel_datasets::languages::{Language, LanguageName};
use gumbel_datasets::text::{Layout, Tokens, Vocabulary};
use gumbel_experiments::loaded;
use gumbel_training::{Error, Result};

use crate::data::{DataConfig, Source};

/// The file of a run that has the vocabulary of a text.
pub(crate) const FILE: &str = "tokenizer.json";

/// Symbols, and how a line of text starts and ends.
#[derive(Debug)]
pub(crate) struct Symbols {
    pub(crate) name: String,
    meaning: Meaning,
    /// The last symbol of all, between sentences.
    pub(crate) boundary: u32,
    /// What a text follows: the boundary, or the end of a line of running text.
    pub(crate) start: u32,
    /// The end of a line; nothing where all sentences are of one length.
    end: Vec<u32>,
}

#[derive(Debug)]
enum Meaning {
    /// Words of a language whose exact probabilities are known.
    Language(Box<dyn Language>),
    Text(Box<Vocabulary>),
}

impl Symbols {
    /// Of the text of a run, from what the run left in its directory.
    pub(crate) fn of_run(config: &DataConfig, directory: &Path) -> Result<Self> {
        match config.source()? {
            Source::Language { name, .. } => Self::of_language(name),
            Source::Text { source, tokens, .. } => {
                let file = directory.join(FILE);
                let json = std::fs::read(&file)
                    .map_err(|error| Error::caller(74, format!("{}: {error}", file.display())))?;
                let vocabulary = Vocabulary::from_json(tokens, &json)
                    .map_err(|error| Error::caller(65, format!("{}: {error}", file.display())))?;
                Self::of_text(&config.corpus, vocabulary, (source.layout(), tokens))
            }
        }
    }

    pub(crate) fn of_language(name: LanguageName) -> Result<Self> {
        let language = loaded(name.build())?;
        let boundary = language.vocabulary() as u32;
        let (least, most) = language.lengths();
        let end = if least == most { vec![] } else { vec![boundary] };
        let meaning = Meaning::Language(language);
        Ok(Self { name: name.as_str().to_owned(), meaning, boundary, start: boundary, end })
    }

    pub(crate) fn of_text(
        name: &str,
        vocabulary: Vocabulary,
        (layout, tokens): (Layout, Tokens),
    ) -> Result<Self> {
        let boundary = vocabulary.size() as u32;
        let end = match (layout, tokens) {
            (Layout::Sentences, _) => vec![boundary],
            (Layout::Running, Tokens::Word { .. }) => {
                loaded(vocabulary.symbols(&["<eos>"]))?.concat()
            }
            _ => loaded(vocabulary.symbols(&["\n"]))?.concat(),
        };
        let start = end.last().copied().unwrap_or(boundary);
        let meaning = Meaning::Text(Box::new(vocabulary));
        Ok(Self { name: name.to_owned(), meaning, boundary, start, end })
    }

    /// Their number, the boundary among them.
    pub(crate) fn count(&self) -> usize {
        self.boundary as usize + 1
    }

    /// The language that the text is drawn from, where it is.
    pub(crate) fn language(&self) -> Option<&dyn Language> {
        match &self.meaning {
            Meaning::Language(language) => Some(&**language),
            Meaning::Text(_) => None,
        }
    }

    /// Whether the program made the text.
    pub(crate) fn is_synthetic(&self) -> bool {
        self.language().is_some()
    }

    /// [`FILE`] of a text.
    pub(crate) fn tokenizer(&self) -> Result<Option<String>> {
        match &self.meaning {
            Meaning::Language(_) => Ok(None),
            Meaning::Text(vocabulary) => loaded(vocabulary.to_json()).map(Some),
        }
    }

    /// The symbols of a line.
    pub(crate) fn ids(&self, line: &str) -> Result<Vec<u32>> {
        match &self.meaning {
            Meaning::Text(vocabulary) => Ok(loaded(vocabulary.symbols(&[line]))?.concat()),
            Meaning::Language(language) => {
                let all = 0..language.vocabulary() as u32;
                let known: HashMap<String, u32> =
                    all.map(|symbol| (language.word(symbol), symbol)).collect();
                let unknown = |word| Error::Usage(format!("`{word}` is no word of {}", self.name));
                let id = |word| known.get(word).copied().ok_or_else(|| unknown(word));
                line.split_whitespace().map(id).collect()
            }
        }
    }

    /// The symbols of a line with its end, as training had them.
    pub(crate) fn line(&self, line: &str) -> Result<Vec<u32>> {
        Ok([self.ids(line)?, self.end.clone()].concat())
    }

    /// Symbols as a reader would have them.
    pub(crate) fn text(&self, symbols: &[u32]) -> String {
        let words: Vec<u32> =
            symbols.iter().copied().filter(|symbol| *symbol != self.boundary).collect();
        match &self.meaning {
            Meaning::Text(vocabulary) => vocabulary.text(&words),
            Meaning::Language(language) => {
                let words: Vec<String> =
                    words.into_iter().map(|symbol| language.word(symbol)).collect();
                words.join(" ")
            }
        }
    }
}
