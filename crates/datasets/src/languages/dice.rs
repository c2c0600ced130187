//! Draws from a key, one after another.
use gumbel_kernels::Key;
use rand_distr::{Distribution, Gamma};

use crate::{Error, Result};

/// Random numbers of a key in the order in which they are asked for.
#[derive(Debug)]
pub(crate) struct Dice {
    key: Key,
    next: u64,
}

impl Dice {
    pub(crate) const fn new(key: Key) -> Self {
        Self { key, next: 0 }
    }

    fn word(&mut self) -> u32 {
        let word = self.key.word(self.next);
        self.next += 1;
        word
    }

    /// Uniform within 0 to 1, neither of them.
    fn uniform(&mut self) -> f64 {
        let word = self.key.uniform_at(self.next);
        self.next += 1;
        word
    }

    /// Uniform over `0..n`.
    pub(crate) fn choose(&mut self, n: usize) -> usize {
        ((u64::from(self.word()) * n as u64) >> 32) as usize
    }

    /// An index with the probability that stands there.
    pub(crate) fn pick(&mut self, probs: &[f64]) -> usize {
        let mut rest = self.uniform() * probs.iter().sum::<f64>();
        for (index, p) in probs.iter().enumerate() {
            rest -= p;
            if rest < 0. {
                return index;
            }
        }
        // What rounding left over belongs to the last that is possible.
        probs.iter().rposition(|p| *p > 0.).unwrap_or(0)
    }

    /// Probabilities of `n` outcomes from a symmetric Dirichlet distribution.
    pub(crate) fn dirichlet(&mut self, n: usize, concentration: f64) -> Result<Vec<f64>> {
        let wrong = || Error::Argument(format!("concentration {concentration}, use 0.001 to 1000"));
        if !(1e-3..=1e3).contains(&concentration) {
            return Err(wrong());
        }
        let gamma = Gamma::new(concentration, 1.).map_err(|_| wrong())?;
        let mut probs: Vec<f64> = (0..n).map(|_| gamma.sample(self)).collect();
        normalise(&mut probs);
        Ok(probs)
    }
}

/// Divides by the sum; where that is 0, all are alike.
pub(crate) fn normalise(probs: &mut [f64]) {
    let (n, sum) = (probs.len(), probs.iter().sum::<f64>());
    for p in probs {
        *p = if sum > 0. { *p / sum } else { 1. / n as f64 };
    }
}

/// For the samplers of `rand_distr`.
impl rand_core::RngCore for Dice {
    fn next_u32(&mut self) -> u32 {
        self.word()
    }

    fn next_u64(&mut self) -> u64 {
        u64::from(self.word()) << 32 | u64::from(self.word())
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(4) {
            for (byte, random) in chunk.iter_mut().zip(self.word().to_le_bytes()) {
                *byte = random;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_come_as_often_as_their_probabilities_say() {
        let (mut dice, draws) = (Dice::new(Key::from_seed(1)), 100_000);
        let probs = [0.5, 0., 0.3, 0.2, 0.];
        let mut counts = [0.; 5];
        (0..draws).for_each(|_| counts[dice.pick(&probs)] += 1.);
        for (p, count) in probs.iter().zip(counts) {
            let error = (p * (1. - p) / f64::from(draws)).sqrt();
            assert!((count / f64::from(draws) - p).abs() <= 4.5 * error, "{count} {p}");
        }
    }

    /// Variance of one of `n` under a symmetric Dirichlet distribution: `(1/n)(1 - 1/n) / (n α + 1)`.
    #[test]
    fn probabilities_spread_as_the_concentration_says() {
        let (n, draws) = (4, 20_000);
        for concentration in [0.1, 1., 3.] {
            let mut dice = Dice::new(Key::from_seed(2));
            let drawn: Vec<f64> = (0..draws)
                .map(|_| dice.dirichlet(n, concentration).unwrap()[1] - 1. / n as f64)
                .collect();
            let variance = drawn.iter().map(|x| x * x).sum::<f64>() / f64::from(draws);
            let (p, n) = (1. / n as f64, n as f64);
            let expected = p * (1. - p) / (n * concentration + 1.);
            assert!((variance / expected - 1.).abs() < 0.05, "{variance} {expected}");
        }
        for concentration in [0., f64::INFINITY, f64::NAN] {
            assert!(Dice::new(Key::from_seed(2)).dirichlet(3, concentration).is_err());
        }
    }
}
