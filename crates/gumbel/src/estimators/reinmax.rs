//! ReinMax.
use candle_core::Result;
use gumbel_kernels::Key;

use super::jacobian::{probs_at, softmax_jacobian};
use super::{Draw, Measure, Pathwise, Sampler, Site};
use crate::distributions::{Discrete, positive};

/// ReinMax: straight-through of second order, by Heun's method.
///
/// A discrete sample `z ~ q` forward; backward, with `p` the probabilities of `q` and `p_τ` those at temperature `τ`:
///
/// ```math
/// 2\, J\Bigl(\frac{p_\tau + z}{2}\Bigr) - \frac{1}{2}\, J(p)
/// ```
///
/// At `τ = 1` it is [`Zgr`](super::Zgr), sample by sample, and exact
/// where the objective is quadratic in `z`; otherwise **biased**, and more so the further `τ` is from 1.
///
/// Source: Liu, Dong, Liu, Yu, Gao (2023), "Bridging discrete and backpropagation: straight-through and
/// beyond", algorithm 2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReinMax {
    /// Number of samples `S`.
    pub samples: usize,
    /// Temperature of the probabilities that are averaged with the sample; the authors use 1 or more.
    pub temperature: f64,
}

impl Sampler for ReinMax {
    fn draw(&mut self, _: &Site, q: &Discrete, key: Key) -> Result<Draw> {
        let tempered = probs_at(q, 1. / positive("temperature", self.temperature)?)?;
        let value = q.sample(self.samples, key)?;
        let middle = (value.broadcast_add(&tempered)? * 0.5)?;
        let second = (softmax_jacobian(q, &middle)? * 2.)?;
        let first = (softmax_jacobian(q, &q.probs()?)? * 0.5)?;
        Ok(Draw { value: (value + second.broadcast_sub(&first)?)?, measure: Measure::Discrete })
    }
}

impl Pathwise for ReinMax {
    const BIBTEX: &'static str = include_str!("bibtex/reinmax.bib");
}
