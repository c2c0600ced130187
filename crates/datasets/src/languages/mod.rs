//! SYNTHETIC languages with a known discrete structure and an exact likelihood: text that is always there.
//!
//! Tables and sentences are functions of a [`Key`]. Whatever model is trained on them, how far it is from the best that
//! can be is known exactly: the mean of `-log_prob` over held-out sentences is the entropy of the language, but for the
//! error of that mean.
mod dice;
mod grammar;
mod mixture;
mod slots;
mod switching;

use std::fmt::Debug;

use gumbel_kernels::Key;
use serde::{Deserialize, Serialize};

pub use grammar::Grammar;
pub use mixture::Mixture;
pub use slots::Slots;
pub use switching::Switching;

use crate::Result;

/// A sentence and what it was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sentence {
    /// Each below the vocabulary.
    pub symbols: Vec<u32>,
    /// Values of the latent variables, as many in each sentence; none where the structure is a tree.
    pub latents: Vec<u32>,
}

/// A distribution over sentences that is known exactly.
pub trait Language: Debug + Send + Sync {
    /// Number of symbols `V`.
    fn vocabulary(&self) -> usize;

    /// Least and greatest length of a sentence.
    fn lengths(&self) -> (usize, usize);

    /// A sentence, a function of the key.
    fn sentence(&self, key: Key) -> Sentence;

    /// `log p(x)` in nats, summed over all that is latent; of a sentence that cannot be, -∞.
    fn log_prob(&self, symbols: &[u32]) -> f64;

    /// What a symbol looks like.
    fn word(&self, symbol: u32) -> String {
        syllable(symbol)
    }
}

/// A language by the name that configurations have for it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LanguageName {
    /// [`Mixture`]: one latent value per sentence.
    #[default]
    Mixture,
    /// [`Switching`]: one latent value per segment, a Markov chain.
    Switching,
    /// [`Slots`]: six latent attributes and a template.
    Slots,
    /// [`Grammar`]: a tree.
    Grammar,
}

impl LanguageName {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Mixture, Self::Switching, Self::Slots, Self::Grammar];

    /// The name as it is written in a configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mixture => "mixture",
            Self::Switching => "switching",
            Self::Slots => "slots",
            Self::Grammar => "grammar",
        }
    }

    /// The language in its standard size. There is one of each name: its tables do not depend on the seed of a run.
    ///
    /// # Errors
    /// None, but that the sizes are checked as those of any other are.
    pub fn build(self) -> Result<Box<dyn Language>> {
        let key = Key::from_seed(0).named(self.as_str());
        Ok(match self {
            Self::Mixture => Box::new(Mixture::new(8, 32, 64, 1., key)?),
            Self::Switching => Box::new(Switching::new(8, 16, (8, 8), key)?),
            Self::Slots => Box::new(Slots::new(key)),
            Self::Grammar => Box::new(Grammar::new(key)?),
        })
    }
}

/// Conditional distributions: rows of probabilities and their logarithms.
#[derive(Clone, Debug)]
struct Rows {
    width: usize,
    probs: Vec<f64>,
    logs: Vec<f64>,
}

impl Rows {
    fn new(width: usize, probs: Vec<f64>) -> Self {
        let logs = probs.iter().map(|p| p.ln()).collect();
        Self { width, probs, logs }
    }

    fn probs(&self, row: usize) -> &[f64] {
        self.probs.get(row * self.width..(row + 1) * self.width).unwrap_or_default()
    }

    /// -∞ of what is not in the table.
    fn log(&self, row: usize, symbol: usize) -> f64 {
        if symbol >= self.width {
            return f64::NEG_INFINITY;
        }
        self.logs.get(row * self.width + symbol).copied().unwrap_or(f64::NEG_INFINITY)
    }
}

/// `log Σ exp`, -∞ of nothing.
fn log_sum_exp(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let most = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    if most == f64::NEG_INFINITY {
        return most;
    }
    most + terms.map(|x| (x - most).exp()).sum::<f64>().ln()
}

/// A name for a symbol that has none: a consonant and a vowel, more of them from the 91st on.
fn syllable(symbol: u32) -> String {
    const CONSONANTS: [char; 18] =
        ['b', 'd', 'f', 'g', 'h', 'j', 'k', 'l', 'm', 'n', 'p', 'r', 's', 't', 'v', 'w', 'y', 'z'];
    const VOWELS: [char; 5] = ['a', 'e', 'i', 'o', 'u'];
    let (rest, place) = (symbol / 90, symbol as usize % 90);
    let first = [CONSONANTS[place % 18], VOWELS[place / 18]].iter().collect();
    if rest == 0 { first } else { syllable(rest - 1) + &first }
}

#[cfg(test)]
mod tests_support {
    use std::collections::HashMap;

    use super::*;

    /// All sequences of the length of a small language.
    fn all(language: &dyn Language) -> impl Iterator<Item = Vec<u32>> {
        let (v, length) = (language.vocabulary(), language.lengths().1);
        (0..v.pow(length as u32))
            .map(move |i| (0..length).map(|t| (i / v.pow(t as u32) % v) as u32).collect())
    }

    pub(super) fn assert_sums_to_one(language: &dyn Language) {
        let total: f64 = all(language).map(|x| language.log_prob(&x).exp()).sum();
        assert!((total - 1.).abs() < 1e-9, "{total}");
    }

    /// Sentences come as often as their probability says: χ² over those that are expected at least ten times.
    pub(super) fn assert_frequencies(language: &dyn Language) {
        let draws = 40_000;
        let mut counts: HashMap<Vec<u32>, f64> = HashMap::new();
        for index in 0..draws {
            let sentence = language.sentence(Key::from_seed(5).fold_in(index));
            *counts.entry(sentence.symbols).or_default() += 1.;
        }
        let (mut chi, mut cells) = (0., 0.);
        for x in all(language) {
            let expected = language.log_prob(&x).exp() * draws as f64;
            if expected >= 10. {
                let found = counts.get(&x).copied().unwrap_or(0.);
                chi += (found - expected).powi(2) / expected;
                cells += 1.;
            }
        }
        assert!(cells >= 5. && chi < cells + 4.5 * (2_f64 * cells).sqrt(), "{chi} of {cells}");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn syllables_differ() {
        let words: HashSet<String> = (0..20_000).map(syllable).collect();
        assert_eq!(words.len(), 20_000);
    }

    /// Their entropies in nats per sentence, over 2,000 sentences of one key.
    #[test]
    fn standard_languages_stay_what_they_are() {
        let pinned = [198.077, 91.570, 65.980, 30.522];
        for (name, pinned) in LanguageName::ALL.into_iter().zip(pinned) {
            let language = name.build().unwrap();
            let (mut sum, n) = (0., 2000);
            for index in 0..n {
                let sentence = language.sentence(Key::from_seed(1).fold_in(index));
                let (least, most) = language.lengths();
                assert!((least..=most).contains(&sentence.symbols.len()));
                assert!(sentence.symbols.iter().all(|s| (*s as usize) < language.vocabulary()));
                let log_p = language.log_prob(&sentence.symbols);
                assert!(log_p.is_finite() && log_p < 0.);
                sum -= log_p;
            }
            let mean = sum / n as f64;
            assert!((mean - pinned).abs() < 1e-3, "{}: {mean}", name.as_str());
            assert_eq!(language.sentence(Key::from_seed(7)), language.sentence(Key::from_seed(7)));
            assert_eq!(language.log_prob(&[u32::MAX; 8]), f64::NEG_INFINITY);
        }
    }
}
