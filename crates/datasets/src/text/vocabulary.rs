//! From text to symbols and back.
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::panic::catch_unwind;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::normalizers::utils::Lowercase;
use tokenizers::pre_tokenizers::whitespace::{Whitespace, WhitespaceSplit};
use tokenizers::{DecoderWrapper, NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

use crate::{Error, Result};

/// Stands for whatever is not in the vocabulary.
const UNKNOWN: &str = "<unk>";

/// How many pieces byte-pair encoding may have.
const PIECES: RangeInclusive<usize> = 256..=1 << 20;

/// What the symbols of a text are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Tokens {
    /// Characters.
    Character {},
    /// Words, as spaces separate them.
    Word {
        /// How often a word has to be in the training text to be in the vocabulary; the others are `<unk>`.
        #[serde(default = "one")]
        least_count: u64,
        /// Whether capital letters are made small.
        #[serde(default)]
        lowercase: bool,
        /// Whether punctuation is parted from words first.
        #[serde(default)]
        punctuation: bool,
    },
    /// Pieces of words by byte-pair encoding on bytes (Sennrich, Haddow, Birch 2016), trained on the training text: nothing
    /// is unknown.
    Bpe {
        /// Number of pieces, 256 bytes among them.
        vocabulary: usize,
    },
}

fn one() -> u64 {
    1
}

/// The symbols of a text and what they stand for: a Hugging Face tokenizer.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    tokenizer: Tokenizer,
    size: usize,
    /// What stands between two symbols in a text.
    between: &'static str,
}

impl Vocabulary {
    /// Of the lines of a training text.
    ///
    /// # Errors
    /// If there is no text, or a size makes no sense.
    pub fn new(tokens: Tokens, lines: &[&str]) -> Result<Self> {
        if let Tokens::Bpe { vocabulary } = tokens
            && !PIECES.contains(&vocabulary)
        {
            let (least, most) = (PIECES.start(), PIECES.end());
            let reason = format!("a vocabulary of {vocabulary} pieces; use {least} to {most}");
            return Err(Error::Argument(reason));
        }
        let made = match tokens {
            Tokens::Character {} => characters(lines),
            Tokens::Word { least_count, lowercase, punctuation } => {
                words(lines, least_count, lowercase, punctuation)
            }
            Tokens::Bpe { vocabulary } => pieces(lines, vocabulary),
        };
        Self::checked(made.map_err(|error| failed(&*error))?, tokens)
    }

    /// From `tokenizer.json`, as [`Self::to_json`] writes it.
    ///
    /// # Errors
    /// If it is none.
    pub fn from_json(tokens: Tokens, json: &[u8]) -> Result<Self> {
        // The reader of the format stops with a panic at some files that are damaged.
        let read = catch_unwind(|| Tokenizer::from_bytes(json).map_err(|error| failed(&*error)));
        let damaged = |_| Err(Error::Argument("the tokenizer is damaged".to_owned()));
        Self::checked(read.unwrap_or_else(damaged)?, tokens)
    }

    fn checked(tokenizer: Tokenizer, tokens: Tokens) -> Result<Self> {
        let size = tokenizer.get_vocab_size(true);
        if size < 2 {
            return Err(Error::Argument("a text without symbols; give one with some".to_owned()));
        }
        let between = if matches!(tokens, Tokens::Word { .. }) { " " } else { "" };
        Ok(Self { tokenizer, size, between })
    }

    /// Number of symbols.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// The symbols of each line.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub fn symbols(&self, lines: &[&str]) -> Result<Vec<Vec<u32>>> {
        let encode = |line: &&str| {
            let encoding = self.tokenizer.encode_fast(*line, false);
            Ok(encoding.map_err(|error| failed(&*error))?.get_ids().to_vec())
        };
        lines.par_iter().map(encode).collect()
    }

    /// The text of symbols; of those that are none, nothing.
    #[must_use]
    pub fn text(&self, symbols: &[u32]) -> String {
        if self.between.is_empty() {
            return self.tokenizer.decode(symbols, false).unwrap_or_default();
        }
        let words = symbols.iter().filter_map(|symbol| self.tokenizer.id_to_token(*symbol));
        words.collect::<Vec<_>>().join(self.between)
    }

    /// The tokenizer as Hugging Face's libraries read it, `tokenizer.json`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn to_json(&self) -> Result<String> {
        self.tokenizer.to_string(true).map_err(|error| failed(&*error))
    }
}

fn failed(error: &(dyn std::error::Error + Send + Sync)) -> Error {
    Error::Argument(format!("tokenizer: {error}"))
}

/// Numbers for words, the unknown one first.
fn numbered<'a>(words: impl Iterator<Item = &'a str>) -> impl Iterator<Item = (String, u32)> {
    let unknown = std::iter::once(UNKNOWN);
    let words: Vec<String> =
        unknown.chain(words.filter(|word| *word != UNKNOWN)).map(str::to_owned).collect();
    words.into_iter().zip(0..)
}

fn characters(lines: &[&str]) -> tokenizers::Result<Tokenizer> {
    let mut seen: Vec<char> = lines.iter().flat_map(|line| line.chars()).collect();
    seen.par_sort_unstable();
    seen.dedup();
    let seen: Vec<String> = seen.into_iter().map(String::from).collect();
    let vocabulary: ahash::AHashMap<String, u32> =
        numbered(seen.iter().map(String::as_str)).collect();
    let model = BPE::builder()
        .vocab_and_merges(vocabulary, vec![])
        .unk_token(UNKNOWN.to_owned())
        .build()?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_decoder(Some(DecoderWrapper::Fuse(Fuse::new())));
    Ok(tokenizer)
}

fn words(
    lines: &[&str],
    least_count: u64,
    lowercase: bool,
    punctuation: bool,
) -> tokenizers::Result<Tokenizer> {
    let split = || match punctuation {
        true => PreTokenizerWrapper::Whitespace(Whitespace),
        false => PreTokenizerWrapper::WhitespaceSplit(WhitespaceSplit),
    };
    // A tokenizer that knows nothing cuts the text.
    let empty = WordLevel::builder().unk_token(UNKNOWN.to_owned()).build()?;
    let mut tokenizer = Tokenizer::new(empty);
    tokenizer.with_pre_tokenizer(Some(split()));
    if lowercase {
        tokenizer.with_normalizer(Some(NormalizerWrapper::Lowercase(Lowercase)))?;
    }
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for line in lines {
        let line = if lowercase { line.to_lowercase() } else { (*line).to_owned() };
        for word in cut(&tokenizer, &line)? {
            *counts.entry(word).or_default() += 1;
        }
    }
    let mut kept: Vec<(&String, u64)> =
        counts.iter().map(|(word, n)| (word, *n)).filter(|(_, n)| *n >= least_count).collect();
    kept.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    let vocabulary = numbered(kept.iter().map(|(word, _)| word.as_str())).collect();
    let model = WordLevel::builder().vocab(vocabulary).unk_token(UNKNOWN.to_owned()).build()?;
    tokenizer.with_model(model);
    Ok(tokenizer)
}

/// The words of a line.
fn cut(tokenizer: &Tokenizer, line: &str) -> tokenizers::Result<Vec<String>> {
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};
    let mut text = PreTokenizedString::from(line);
    if let Some(split) = tokenizer.get_pre_tokenizer() {
        split.pre_tokenize(&mut text)?;
    }
    let parts = text.get_splits(OffsetReferential::Normalized, OffsetType::Byte);
    Ok(parts.into_iter().map(|(part, _, _)| part.to_owned()).collect())
}

fn pieces(lines: &[&str], size: usize) -> tokenizers::Result<Tokenizer> {
    let bytes = ByteLevel::new(false, true, true);
    let trainer = BpeTrainerBuilder::new()
        .vocab_size(size)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(PreTokenizerWrapper::ByteLevel(bytes)));
    tokenizer.with_decoder(Some(DecoderWrapper::ByteLevel(bytes)));
    let mut trainer = TrainerWrapper::BpeTrainer(trainer);
    tokenizer.train(&mut trainer, lines.iter())?;
    Ok(tokenizer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: [&str; 4] = ["The cat sat.\n", "The dog sat.\n", "A cat, a dog\n", "the end"];

    fn symbols(vocabulary: &Vocabulary, line: &str) -> Vec<u32> {
        vocabulary.symbols(&[line]).unwrap().remove(0)
    }

    #[test]
    fn characters_are_kept_one_by_one_and_others_are_unknown() {
        let characters = Vocabulary::new(Tokens::Character {}, &LINES).unwrap();
        let distinct: std::collections::HashSet<char> = LINES.concat().chars().collect();
        assert_eq!(characters.size(), distinct.len() + 1);
        let ids = symbols(&characters, "A cat, a dog\n");
        assert_eq!((ids.len(), characters.text(&ids).as_str()), (13, "A cat, a dog\n"));
        assert_eq!(symbols(&characters, "zzz"), [0, 0, 0]);
    }

    #[test]
    fn words_are_counted_and_rare_ones_are_unknown() {
        let tokens = |least_count, lowercase, punctuation| Tokens::Word {
            least_count,
            lowercase,
            punctuation,
        };
        let all = Vocabulary::new(tokens(1, false, false), &LINES).unwrap();
        let ids = symbols(&all, "The cat sat.");
        assert_eq!(all.text(&ids), "The cat sat.");
        let few = Vocabulary::new(tokens(2, true, true), &LINES).unwrap();
        // the, cat, sat, a, dog and the full stop.
        assert_eq!(few.size(), 7);
        assert_eq!(few.text(&symbols(&few, "The end, a CAT.")), "the <unk> <unk> a cat .");
        assert_eq!(few.text(&[1]), "the");
    }

    #[test]
    fn pieces_put_any_text_together_again() {
        let pieces = Vocabulary::new(Tokens::Bpe { vocabulary: 270 }, &LINES).unwrap();
        assert_eq!(pieces.size(), 270);
        for text in ["The cat sat.", "Käse, naïve – 猫", " two  spaces\n"] {
            assert_eq!(pieces.text(&symbols(&pieces, text)), text);
        }
        assert!(symbols(&pieces, "The cat").len() < 7);
    }

    #[test]
    fn a_tokenizer_that_was_written_is_read_again() {
        for tokens in [
            Tokens::Character {},
            Tokens::Word { least_count: 1, lowercase: false, punctuation: true },
            Tokens::Bpe { vocabulary: 265 },
        ] {
            let made = Vocabulary::new(tokens, &LINES).unwrap();
            let json = made.to_json().unwrap();
            assert_eq!(json, Vocabulary::new(tokens, &LINES).unwrap().to_json().unwrap());
            let read = Vocabulary::from_json(tokens, json.as_bytes()).unwrap();
            assert_eq!(symbols(&made, "The dog"), symbols(&read, "The dog"));
        }
        assert!(Vocabulary::from_json(Tokens::Character {}, b"{}").is_err());
        assert!(Vocabulary::new(Tokens::Character {}, &[]).is_err());
        for vocabulary in [10, usize::MAX] {
            let error = Vocabulary::new(Tokens::Bpe { vocabulary }, &LINES).unwrap_err();
            assert!(error.to_string().contains("256"), "{error}");
        }
    }
}
