//! SYNTHETIC languages with a known discrete structure and an exact likelihood: text that is always there.
//!
//! Tables and sentences are functions of a [`Key`]. Whatever model is trained on them, how far it is from the best that
//! can be is known exactly: the mean of `-log_prob` over held-out sentences is the entropy of the language, but for the
//! error of that mean.
mod dice;
mod grammar;
mod mixture;
mod name;
mod rows;
mod slots;
mod switching;
mod syllable;

use std::fmt::Debug;

use gumbel_kernels::Key;

pub use grammar::Grammar;
pub use mixture::Mixture;
pub use name::LanguageName;
pub use slots::Slots;
pub use switching::Switching;

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
        syllable::syllable(symbol)
    }
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
    use super::*;

    /// Their entropies in nats per sentence, over 2,000 sentences of one key.
    #[test]
    fn standard_languages_stay_what_they_are() {
        let pinned = [198.077, 91.570, 65.980, 18.614];
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
