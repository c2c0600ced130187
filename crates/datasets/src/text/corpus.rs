//! Sentences as symbols.
use std::ops::Range;

use candle_core::{Device, Tensor};
use gumbel_kernels::Key;
use rayon::prelude::*;

use super::{Layout, Original};
use crate::languages::{LanguageName, Sentence};
use crate::verify::sha256;
use crate::{Dataset, Error, Result, Split};

/// The most sentences of a corpus.
const MAX_SENTENCES: usize = 1 << 24;

/// Sequences of one length.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SequenceBatch {
    /// `[B, T]` of `u32`: what each symbol follows; the first follows the boundary, or what a longer text has before it.
    pub inputs: Tensor,
    /// `[B, T]` of `u32`: the symbols.
    pub targets: Tensor,
}

/// The sentences of a split, one after another.
///
/// The last symbol of the vocabulary is the boundary: each sentence follows one, and where lengths differ each ends with
/// one, so that a model has to say where a sentence ends. Where all are of one length the end is no news, and is left out.
#[derive(Clone, Debug)]
pub struct Corpus {
    name: String,
    split: Split,
    vocabulary: usize,
    symbols: Vec<u32>,
    /// Where each sentence ends in `symbols`.
    ends: Vec<usize>,
    /// What sentences were made from, as many for each.
    latents: Vec<u32>,
    latents_in_order: bool,
    /// Whether each sequence goes on where the one before it ended, as pieces of a text do.
    goes_on: Vec<bool>,
    original: Option<Original>,
}

impl Corpus {
    /// The first `sentences` of a split of a language, functions of `seed`, the split and their number.
    ///
    /// # Errors
    /// If `sentences` is 0 or above 2²⁴.
    pub fn drawn(name: LanguageName, split: Split, sentences: usize, seed: u64) -> Result<Self> {
        if sentences == 0 || sentences > MAX_SENTENCES {
            let reason = format!("{sentences} sentences, use 1 to {MAX_SENTENCES}");
            return Err(Error::Argument(reason));
        }
        let language = name.build()?;
        let key = Key::from_seed(seed).named(name.as_str()).named(split.as_str());
        let drawn = (0..sentences).into_par_iter().with_min_len(64);
        let drawn: Vec<Sentence> =
            drawn.map(|i| language.sentence(key.fold_in(i as u64))).collect();
        let (least, most) = language.lengths();
        let corpus = Self::new((name.as_str(), split), language.vocabulary(), drawn, least != most);
        Ok(Self { latents_in_order: name != LanguageName::Slots, ..corpus })
    }

    fn new(
        (name, split): (&str, Split),
        words: usize,
        sentences: Vec<Sentence>,
        ended: bool,
    ) -> Self {
        let (mut symbols, mut ends, mut latents) = (Vec::new(), Vec::new(), Vec::new());
        let goes_on = vec![false; sentences.len()];
        for sentence in sentences {
            symbols.extend(sentence.symbols);
            symbols.extend(ended.then_some(words as u32));
            ends.push(symbols.len());
            latents.extend(sentence.latents);
        }
        Self {
            name: name.to_owned(),
            split,
            vocabulary: words + 1,
            symbols,
            ends,
            latents,
            latents_in_order: false,
            goes_on,
            original: None,
        }
    }

    /// From the symbols of the lines of a text, in pieces of at most `longest`; those of a sentence end with the boundary.
    pub(super) fn read(
        (name, split): (&str, Split),
        words: usize,
        lines: Vec<Vec<u32>>,
        (layout, longest): (Layout, usize),
        original: Original,
    ) -> Result<Self> {
        let (mut symbols, mut ends, mut goes_on) = (Vec::new(), Vec::new(), Vec::new());
        let ended = layout == Layout::Sentences;
        let texts = if ended { lines } else { vec![lines.concat()] };
        let longest = longest.max(1);
        for mut text in texts {
            text.extend(ended.then_some(words as u32));
            for (index, piece) in text.chunks(longest).enumerate() {
                symbols.extend_from_slice(piece);
                ends.push(symbols.len());
                goes_on.push(index > 0);
            }
        }
        if ends.len() > MAX_SENTENCES {
            let reason = format!("{} sequences, use at most {MAX_SENTENCES}", ends.len());
            return Err(Error::Argument(reason));
        }
        Ok(Self {
            name: name.to_owned(),
            split,
            vocabulary: words + 1,
            symbols,
            ends,
            latents: vec![],
            latents_in_order: false,
            goes_on,
            original: Some(original),
        })
    }

    /// What the text was before it was made symbols of; nothing of a language.
    #[must_use]
    pub fn original(&self) -> Option<Original> {
        self.original
    }

    /// Number of symbols `V`, the boundary among them.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// The boundary.
    #[must_use]
    pub fn boundary(&self) -> u32 {
        self.vocabulary as u32 - 1
    }

    /// Symbols of all sentences, ends included: what perplexities are per.
    #[must_use]
    pub fn symbols(&self) -> usize {
        self.symbols.len()
    }

    /// Length of each sentence, its end included.
    pub fn lengths(&self) -> impl Iterator<Item = usize> {
        (0..self.ends.len()).map(|row| self.range(row).len())
    }

    /// The symbols of a sentence, its end included where it has one; nothing of one that is not there.
    #[must_use]
    pub fn sentence(&self, row: usize) -> &[u32] {
        self.symbols.get(self.range(row)).unwrap_or_default()
    }

    /// The symbols of a sentence without its end.
    #[must_use]
    pub fn words(&self, row: usize) -> &[u32] {
        let sentence = self.sentence(row);
        sentence.strip_suffix(&[self.boundary()]).unwrap_or(sentence)
    }

    /// What a sentence was made from; empty where that is not known.
    #[must_use]
    pub fn latents(&self, row: usize) -> &[u32] {
        let each = self.latents.len() / self.ends.len().max(1);
        self.latents.get(row * each..(row + 1) * each).unwrap_or_default()
    }

    /// Whether latents are one after another along the sentence, each for as long as any other; else each is of all of it.
    #[must_use]
    pub fn latents_are_in_order(&self) -> bool {
        self.latents_in_order
    }

    /// What the data are, for the record of a run: name, split, sentences, symbols, SHA-256.
    #[must_use]
    pub fn identity(&self) -> String {
        let symbols = self.symbols.iter().flat_map(|symbol| symbol.to_le_bytes());
        let ends = self.ends.iter().flat_map(|end| (*end as u64).to_le_bytes());
        let hash = sha256(&symbols.chain(ends).collect::<Vec<_>>());
        let (name, split) = (&self.name, self.split);
        format!(
            "{name} {split} {} sentences {} symbols sha256 {hash}",
            self.ends.len(),
            self.symbols.len()
        )
    }

    /// What the first symbol of a row follows.
    fn before(&self, row: usize) -> u32 {
        let goes_on = self.goes_on.get(row).copied().unwrap_or(false);
        let last = row.checked_sub(1).and_then(|before| self.sentence(before).last());
        last.copied().filter(|_| goes_on).unwrap_or(self.boundary())
    }

    fn range(&self, row: usize) -> Range<usize> {
        let end = self.ends.get(row).copied().unwrap_or(0);
        let start = row.checked_sub(1).and_then(|row| self.ends.get(row)).copied().unwrap_or(0);
        start.min(end)..end
    }
}

impl Dataset for Corpus {
    type Batch = SequenceBatch;

    fn len(&self) -> usize {
        self.ends.len()
    }

    /// # Errors
    /// If a row is not there, or the sentences are not of one length.
    fn gather(&self, rows: &[u32], device: &Device) -> Result<SequenceBatch> {
        let length = rows.first().map_or(0, |row| self.sentence(*row as usize).len());
        let (mut inputs, mut targets) = (Vec::new(), Vec::new());
        for row in rows {
            if *row as usize >= self.len() {
                return Err(Error::Row { row: *row, rows: self.len() });
            }
            let sentence = self.sentence(*row as usize);
            if sentence.len() != length {
                return Err(Error::Argument(format!(
                    "sentences of {length} and {} symbols in one batch; use LengthBatches",
                    sentence.len()
                )));
            }
            inputs.push(self.before(*row as usize));
            inputs.extend(sentence.iter().take(length.saturating_sub(1)));
            targets.extend_from_slice(sentence);
        }
        let tensor = |ids| Tensor::from_vec(ids, (rows.len(), length), device);
        Ok(SequenceBatch { inputs: tensor(inputs)?, targets: tensor(targets)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::LengthBatches;

    #[test]
    fn what_a_symbol_follows_is_the_one_before_it_and_the_boundary_first() {
        for name in LanguageName::ALL {
            let corpus = Corpus::drawn(name, Split::Train, 300, 1).unwrap();
            let batches = LengthBatches::new(corpus.lengths(), 32, Key::from_seed(1)).unwrap();
            let mut count = 0;
            for rows in batches.in_order() {
                let batch = corpus.gather(rows, &Device::Cpu).unwrap();
                let inputs = batch.inputs.to_vec2::<u32>().unwrap();
                let targets = batch.targets.to_vec2::<u32>().unwrap();
                for ((input, target), row) in inputs.iter().zip(&targets).zip(rows) {
                    assert_eq!(target, corpus.sentence(*row as usize));
                    assert_eq!(input[1..], target[..target.len() - 1]);
                    assert_eq!(input[0], corpus.boundary());
                    count += target.len();
                }
            }
            assert_eq!(count, corpus.symbols());
        }
    }

    #[test]
    fn sentences_end_where_their_lengths_differ_and_are_those_of_the_language() {
        let language = LanguageName::Grammar.build().unwrap();
        let corpus = Corpus::drawn(LanguageName::Grammar, Split::Test, 50, 1).unwrap();
        for row in 0..50 {
            assert_eq!(corpus.sentence(row).last(), Some(&40));
            assert!(language.log_prob(corpus.words(row)).is_finite());
            assert!(corpus.latents(row).is_empty());
        }
        let corpus = Corpus::drawn(LanguageName::Slots, Split::Test, 50, 1).unwrap();
        assert!((0..50).all(|row| corpus.words(row).len() == 36 && corpus.latents(row).len() == 6));
    }

    #[test]
    fn splits_and_seeds_differ_and_the_first_sentences_do_not_depend_on_how_many() {
        let draw = |split, n, seed| Corpus::drawn(LanguageName::Mixture, split, n, seed).unwrap();
        let (few, many) = (draw(Split::Train, 3, 1), draw(Split::Train, 200, 1));
        assert_eq!(few.sentence(2), many.sentence(2));
        assert_ne!(few.identity(), draw(Split::Valid, 3, 1).identity());
        assert_ne!(few.identity(), draw(Split::Train, 3, 2).identity());
    }

    #[test]
    fn mistakes_are_named() {
        let corpus = Corpus::drawn(LanguageName::Grammar, Split::Test, 50, 1).unwrap();
        let complaint = |rows: &[u32]| corpus.gather(rows, &Device::Cpu).unwrap_err().to_string();
        assert!(complaint(&[50]).contains("row 50"));
        let other = (1..50).find(|row| corpus.sentence(*row).len() != corpus.sentence(0).len());
        assert!(complaint(&[0, other.unwrap() as u32]).contains("LengthBatches"));
        assert!(Corpus::drawn(LanguageName::Mixture, Split::Test, 0, 1).is_err());
        assert!(corpus.sentence(50).is_empty() && corpus.latents(99).is_empty());
    }
}
