//! One latent value for a whole sentence.
use gumbel_kernels::Key;

use super::dice::Dice;
use super::rows::{MOST, Rows, log_sum_exp};
use super::{Language, Sentence};
use crate::{Error, Result};

/// A mixture of `K` Markov chains over `V` symbols: `z` uniform, `x_1` uniform, `x_t ~ B_z(x_{t-1}, ·)`, rows of `B`
/// from a symmetric Dirichlet distribution.
///
/// `log p(x) = log Σ_z exp(Σ_t log B_z(x_{t-1}, x_t)) - log K - log V`. A decoder that sees few symbols cannot tell
/// which chain it is in; a latent of the sentence can, for `ln K` nats.
#[derive(Clone, Debug)]
pub struct Mixture {
    states: usize,
    symbols: usize,
    length: usize,
    /// Row `z · V + x`.
    chains: Rows,
}

impl Mixture {
    /// `states` chains over `symbols`, sentences of `length`, rows of a Dirichlet distribution with `concentration`.
    ///
    /// # Errors
    /// If a size is 0, there were more than 2²⁴ probabilities, or `concentration` is not above 0.
    pub fn new(
        states: usize,
        symbols: usize,
        length: usize,
        concentration: f64,
        key: Key,
    ) -> Result<Self> {
        let count = states.saturating_mul(symbols).saturating_mul(symbols);
        if count == 0 || count > MOST || length == 0 {
            return Err(Error::Argument(format!(
                "a mixture of {states} chains over {symbols} symbols, sentences of {length}; use at least 1 of each \
                 and at most {MOST} probabilities"
            )));
        }
        let mut dice = Dice::new(key);
        let mut probs = Vec::with_capacity(count);
        for _ in 0..states * symbols {
            probs.extend(dice.dirichlet(symbols, concentration)?);
        }
        Ok(Self { states, symbols, length, chains: Rows::new(symbols, probs) })
    }
}

impl Language for Mixture {
    fn vocabulary(&self) -> usize {
        self.symbols
    }

    fn lengths(&self) -> (usize, usize) {
        (self.length, self.length)
    }

    fn sentence(&self, key: Key) -> Sentence {
        let mut dice = Dice::new(key);
        let z = dice.choose(self.states);
        let mut x = dice.choose(self.symbols);
        let mut symbols = vec![x as u32];
        while symbols.len() < self.length {
            x = dice.pick(self.chains.probs(z * self.symbols + x));
            symbols.push(x as u32);
        }
        Sentence { symbols, latents: vec![z as u32] }
    }

    fn log_prob(&self, symbols: &[u32]) -> f64 {
        let known = symbols.iter().all(|x| (*x as usize) < self.symbols);
        if symbols.len() != self.length || !known {
            return f64::NEG_INFINITY;
        }
        let chain = |z: usize| -> f64 {
            let step = |pair: &[u32]| {
                self.chains.log(z * self.symbols + pair[0] as usize, pair[1] as usize)
            };
            symbols.windows(2).map(step).sum()
        };
        let choices = (self.states as f64).ln() + (self.symbols as f64).ln();
        log_sum_exp((0..self.states).map(chain)) - choices
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests_support::{assert_frequencies, assert_sums_to_one};
    use super::*;

    #[test]
    fn it_is_a_distribution_and_sentences_follow_it() {
        let language = Mixture::new(2, 3, 4, 1., Key::from_seed(1)).unwrap();
        assert_sums_to_one(&language);
        assert_frequencies(&language);
    }

    #[test]
    fn impossible_sizes_are_errors() {
        for (states, symbols, length, concentration) in
            [(0, 3, 4, 1.), (2, 0, 4, 1.), (2, 3, 0, 1.), (2, 3, 4, 0.), (usize::MAX, 9, 4, 1.)]
        {
            assert!(
                Mixture::new(states, symbols, length, concentration, Key::from_seed(1)).is_err()
            );
        }
    }
}
