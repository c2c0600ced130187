//! A tree.
use gumbel_kernels::Key;

use super::dice::Dice;
use super::rows::Rows;
use super::{Language, Sentence};
use crate::{Error, Result};

/// Symbols that have two parts.
const PHRASES: usize = 8;
/// Symbols that stand for a word.
const CLASSES: usize = 12;
/// Both: phrases come first, the first of all is the sentence.
const KINDS: usize = PHRASES + CLASSES;
/// Words.
const WORDS: usize = 40;
/// Concentration of the pairs that a phrase has: some two of the 400 matter.
const PAIRS: f64 = 0.005;
/// Concentration of the words of a class: some two of the 40 matter.
const CHOICE: f64 = 0.05;
/// Least and greatest length; sentences of another are drawn again.
const LENGTHS: (usize, usize) = (4, 24);
/// Phrases that a phrase leads to on average, at most; from 1 on sentences would have no end.
const GROWTH: f64 = 0.85;
/// Drawn sentences that have one of the lengths, at least.
const KEPT: f64 = 0.3;

/// A probabilistic context-free grammar in Chomsky normal form: 8 phrases, each with a distribution over pairs of the 20
/// kinds, and 12 classes of 40 words; lengths 4 to 24.
///
/// `log p(x)` by the inside algorithm, less the logarithm of the probability of these lengths. No chain of states has
/// this structure: models with a chain of latents must fall short of it. With concentrations of 0.3 for both, sentences
/// would be so near to draws of single words that a decoder that sees one word is 0.05 nats from the truth.
#[derive(Clone, Debug)]
pub struct Grammar {
    /// Row: a phrase; column: `left · KINDS + right`.
    rules: Rows,
    /// Row: a class.
    words: Rows,
    /// Probability of the lengths.
    mass: f64,
}

impl Grammar {
    /// The grammar that the key draws: the first whose sentences end, and are not all too short or too long.
    ///
    /// # Errors
    /// If none of a thousand is such a grammar.
    pub fn new(key: Key) -> Result<Self> {
        for attempt in 0..1000 {
            let mut dice = Dice::new(key.fold_in(attempt));
            let mut rules = Vec::with_capacity(PHRASES * KINDS * KINDS);
            for _ in 0..PHRASES {
                rules.extend(dice.dirichlet(KINDS * KINDS, PAIRS)?);
            }
            let mut words = Vec::with_capacity(CLASSES * WORDS);
            for _ in 0..CLASSES {
                words.extend(dice.dirichlet(WORDS, CHOICE)?);
            }
            let (rules, words) = (Rows::new(KINDS * KINDS, rules), Rows::new(WORDS, words));
            let mut grammar = Self { rules, words, mass: 1. };
            grammar.mass = grammar.lengths_mass();
            if grammar.growth() <= GROWTH && grammar.mass >= KEPT {
                return Ok(grammar);
            }
        }
        Err(Error::Argument(format!(
            "none of 1000 grammars of {key:?} has sentences that end; use another key"
        )))
    }

    /// The greatest eigenvalue of the mean numbers of phrases that a phrase leads to.
    fn growth(&self) -> f64 {
        let mut count = [1. / PHRASES as f64; PHRASES];
        let mut growth = 0.;
        for _ in 0..200 {
            let mut next = [0.; PHRASES];
            for (phrase, weight) in count.iter().enumerate() {
                for (pair, p) in self.rules.probs(phrase).iter().enumerate() {
                    for kind in [pair / KINDS, pair % KINDS] {
                        if let Some(next) = next.get_mut(kind) {
                            *next += weight * p;
                        }
                    }
                }
            }
            growth = next.iter().sum();
            count = next.map(|x| x / growth);
        }
        growth
    }

    /// Probability that a sentence, drawn without regard to its length, has one of the lengths.
    fn lengths_mass(&self) -> f64 {
        // [length][kind]
        let mut mass = vec![[0.; KINDS]; LENGTHS.1 + 1];
        for length in 1..=LENGTHS.1 {
            let mut pairs = [0.; KINDS * KINDS];
            for left in 1..length {
                outer(&mut pairs, &mass[left], &mass[length - left]);
            }
            mass[length] = self.spans(&pairs);
            if length == 1 {
                mass[1][PHRASES..].fill(1.);
            }
        }
        mass[LENGTHS.0..].iter().map(|kinds| kinds[0]).sum()
    }

    /// Of each phrase, the sum over its rules of `pairs`; of the classes 0.
    fn spans(&self, pairs: &[f64; KINDS * KINDS]) -> [f64; KINDS] {
        std::array::from_fn(|kind| {
            let rules = if kind < PHRASES { self.rules.probs(kind) } else { &[] };
            rules.iter().zip(pairs).map(|(p, pair)| p * pair).sum()
        })
    }

    /// Adds the words of a kind; false if there are too many.
    fn grow(&self, dice: &mut Dice, symbols: &mut Vec<u32>) -> bool {
        let mut open = vec![0]; // the kinds to come, the next one last
        while let Some(kind) = open.pop() {
            if symbols.len() + open.len() >= LENGTHS.1 {
                return false;
            }
            if kind < PHRASES {
                let pair = dice.pick(self.rules.probs(kind));
                open.extend([pair % KINDS, pair / KINDS]);
            } else {
                symbols.push(dice.pick(self.words.probs(kind - PHRASES)) as u32);
            }
        }
        symbols.len() >= LENGTHS.0
    }
}

/// Adds `left ⊗ right`.
fn outer(pairs: &mut [f64; KINDS * KINDS], left: &[f64; KINDS], right: &[f64; KINDS]) {
    for (row, l) in pairs.chunks_exact_mut(KINDS).zip(left).filter(|(_, l)| **l > 0.) {
        row.iter_mut().zip(right).for_each(|(pair, r)| *pair += l * r);
    }
}

impl Language for Grammar {
    fn vocabulary(&self) -> usize {
        WORDS
    }

    fn lengths(&self) -> (usize, usize) {
        LENGTHS
    }

    fn sentence(&self, key: Key) -> Sentence {
        let mut dice = Dice::new(key);
        let mut symbols = Vec::new();
        while !self.grow(&mut dice, &mut symbols) {
            symbols.clear();
        }
        Sentence { symbols, latents: Vec::new() }
    }

    fn log_prob(&self, symbols: &[u32]) -> f64 {
        let n = symbols.len();
        if n < LENGTHS.0 || n > LENGTHS.1 || symbols.iter().any(|x| *x as usize >= WORDS) {
            return f64::NEG_INFINITY;
        }
        // [length - 1][first]: probability of the words of a span under each kind.
        let word = |symbol: &u32| -> [f64; KINDS] {
            std::array::from_fn(|kind| match kind.checked_sub(PHRASES) {
                Some(class) => self.words.log(class, *symbol as usize).exp(),
                None => 0.,
            })
        };
        let mut inside: Vec<Vec<[f64; KINDS]>> = vec![symbols.iter().map(word).collect()];
        for length in 2..=n {
            let span = |first: usize| {
                let mut pairs = [0.; KINDS * KINDS];
                for left in 1..length {
                    outer(
                        &mut pairs,
                        &inside[left - 1][first],
                        &inside[length - left - 1][first + left],
                    );
                }
                self.spans(&pairs)
            };
            let spans = (0..=n - length).map(span).collect();
            inside.push(spans);
        }
        (inside[n - 1][0][0] / self.mass).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where every word of a class is the same, sentences of a length are one, whose probability is that of the length.
    #[test]
    fn lengths_have_the_probability_that_is_divided_by() {
        let mut grammar = Grammar::new(Key::from_seed(1)).unwrap();
        let one = (0..CLASSES * WORDS).map(|i| f64::from(u8::from(i % WORDS == 7))).collect();
        grammar.words = Rows::new(WORDS, one);
        let total: f64 = (LENGTHS.0..=LENGTHS.1).map(|n| grammar.log_prob(&vec![7; n]).exp()).sum();
        assert!((total - 1.).abs() < 1e-9, "{total}");
        // And drawn sentences have these lengths as often.
        let draws = 20_000;
        let mut short = 0.;
        for index in 0..draws {
            let sentence = grammar.sentence(Key::from_seed(2).fold_in(index));
            short += f64::from(u8::from(sentence.symbols.len() == 4)) / draws as f64;
        }
        let p = grammar.log_prob(&[7; 4]).exp();
        assert!((short - p).abs() < 4.5 * (p * (1. - p) / draws as f64).sqrt(), "{short} {p}");
    }

    /// With two words, the sentences of a length have the probability of that length together; and those of four words
    /// come as often as each should.
    #[test]
    fn sentences_of_two_words_have_the_probability_of_their_length() {
        let mut grammar = Grammar::new(Key::from_seed(1)).unwrap();
        let one = (0..CLASSES * WORDS).map(|i| f64::from(u8::from(i % WORDS == 7))).collect();
        let share = |class: usize| 0.1 + 0.07 * class as f64;
        let two = (0..CLASSES * WORDS).map(|i| match i % WORDS {
            0 => share(i / WORDS),
            1 => 1. - share(i / WORDS),
            _ => 0.,
        });
        let two = two.collect();
        let sentences = |n: usize| {
            (0..1u32 << n).map(move |x| (0..n).map(|t| x >> t & 1).collect::<Vec<u32>>())
        };
        let mut lengths = Vec::new();
        grammar.words = Rows::new(WORDS, one);
        (4..9).for_each(|n| lengths.push(grammar.log_prob(&vec![7; n]).exp()));
        grammar.words = Rows::new(WORDS, two);
        for (n, expected) in (4..9).zip(lengths) {
            let total: f64 = sentences(n).map(|x| grammar.log_prob(&x).exp()).sum();
            assert!((total - expected).abs() < 1e-12, "{n}: {total} {expected}");
        }
        let draws = 40_000;
        let mut counts = [0.; 16];
        for index in 0..draws {
            let x = grammar.sentence(Key::from_seed(3).fold_in(index)).symbols;
            if x.len() == 4 {
                counts[x.iter().enumerate().map(|(t, x)| (*x as usize) << t).sum::<usize>()] += 1.;
            }
        }
        for (x, count) in sentences(4).zip(counts) {
            let expected = grammar.log_prob(&x).exp() * draws as f64;
            assert!((count - expected).abs() < 4.5 * expected.sqrt(), "{x:?} {count} {expected}");
        }
        assert_eq!(grammar.log_prob(&[1; 3]), f64::NEG_INFINITY);
        assert_eq!(grammar.log_prob(&[1; 25]), f64::NEG_INFINITY);
    }
}
