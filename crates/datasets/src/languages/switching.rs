//! One latent value for each segment of a sentence, a Markov chain.
use gumbel_kernels::Key;

use super::dice::{Dice, normalise};
use super::rows::{MOST, Rows, log_sum_exp};
use super::{Language, Sentence};
use crate::{Error, Result};

/// Probability that a segment has the state of the one before it.
const STAY: f64 = 0.6;
/// Concentration of the rows: a state has few likely successors of each symbol.
const CONCENTRATION: f64 = 0.1;
/// No symbol is less likely than about this.
const FLOOR: f64 = 1e-6;

/// A hidden Markov chain of segments: `z_1` uniform over `K`, `z_s` the same as `z_{s-1}` with probability 0.6, else
/// uniform over the others; within segment `s`, `x_t ~ B_{z_s}(x_{t-1}, ·)`, with `x_0 = 0`.
///
/// `log p(x)` by the forward algorithm over segments. Rows of `B` are from a Dirichlet distribution of concentration
/// 0.1, with a floor of 1e-6.
#[derive(Clone, Debug)]
pub struct Switching {
    states: usize,
    symbols: usize,
    segments: usize,
    /// Symbols of a segment.
    length: usize,
    /// Row `z · V + x`.
    chains: Rows,
}

impl Switching {
    /// `states` over `symbols`; a sentence is `segments` of `length`.
    ///
    /// # Errors
    /// If `states` is below 2, another size is 0, or there were more than 2²⁴ probabilities.
    pub fn new(
        states: usize,
        symbols: usize,
        (segments, length): (usize, usize),
        key: Key,
    ) -> Result<Self> {
        let count = states.saturating_mul(symbols).saturating_mul(symbols);
        let sizes = segments.checked_mul(length).unwrap_or(0);
        if states < 2 || count == 0 || count > MOST || sizes == 0 {
            return Err(Error::Argument(format!(
                "{states} states over {symbols} symbols, {segments} segments of {length}; use at least 2 states, 1 of \
                 the others, and at most {MOST} probabilities"
            )));
        }
        let mut dice = Dice::new(key);
        let mut probs = Vec::with_capacity(count);
        for _ in 0..states * symbols {
            let mut row = dice.dirichlet(symbols, CONCENTRATION)?;
            row.iter_mut().for_each(|p| *p = p.max(FLOOR));
            normalise(&mut row);
            probs.extend(row);
        }
        Ok(Self { states, symbols, segments, length, chains: Rows::new(symbols, probs) })
    }

    /// Probability of each other state.
    fn leave(&self) -> f64 {
        (1. - STAY) / (self.states - 1) as f64
    }
}

impl Language for Switching {
    fn vocabulary(&self) -> usize {
        self.symbols
    }

    fn lengths(&self) -> (usize, usize) {
        (self.segments * self.length, self.segments * self.length)
    }

    fn sentence(&self, key: Key) -> Sentence {
        let mut dice = Dice::new(key);
        let mut sentence = Sentence::default();
        let (mut z, mut x) = (dice.choose(self.states), 0);
        for segment in 0..self.segments {
            if segment > 0 {
                let mut next = vec![self.leave(); self.states];
                next[z] = STAY;
                z = dice.pick(&next);
            }
            sentence.latents.push(z as u32);
            for _ in 0..self.length {
                x = dice.pick(self.chains.probs(z * self.symbols + x));
                sentence.symbols.push(x as u32);
            }
        }
        sentence
    }

    fn log_prob(&self, symbols: &[u32]) -> f64 {
        let known = symbols.iter().all(|x| (*x as usize) < self.symbols);
        if symbols.len() != self.segments * self.length || !known {
            return f64::NEG_INFINITY;
        }
        let (stay, leave) = (STAY.ln(), self.leave().ln());
        // log p(x up to the segment, z)
        let mut forward = vec![-(self.states as f64).ln(); self.states];
        let mut before = 0;
        for (index, segment) in symbols.chunks(self.length).enumerate() {
            if index > 0 {
                let reach = |z: usize| {
                    let terms = forward.iter().enumerate();
                    log_sum_exp(terms.map(|(y, f)| f + if y == z { stay } else { leave }))
                };
                forward = (0..self.states).map(reach).collect();
            }
            let mut last = before;
            for (z, f) in forward.iter_mut().enumerate() {
                last = before;
                for x in segment {
                    *f += self.chains.log(z * self.symbols + last, *x as usize);
                    last = *x as usize;
                }
            }
            before = last;
        }
        log_sum_exp(forward.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests_support::{assert_frequencies, assert_sums_to_one};
    use super::*;

    #[test]
    fn it_is_a_distribution_and_sentences_follow_it() {
        for (segments, length) in [(3, 2), (5, 1), (1, 4)] {
            let language = Switching::new(3, 3, (segments, length), Key::from_seed(1)).unwrap();
            assert_sums_to_one(&language);
            assert_frequencies(&language);
        }
    }

    #[test]
    fn impossible_sizes_are_errors() {
        for (states, symbols, segments) in
            [(1, 3, (3, 2)), (2, 0, (3, 2)), (2, 3, (0, 2)), (2, 3, (usize::MAX, 2))]
        {
            assert!(Switching::new(states, symbols, segments, Key::from_seed(1)).is_err());
        }
    }
}
