//! The zero-temperature limit of Gumbel–Rao.
use candle_core::Result;
use gumbel_kernels::Key;

use super::jacobian::{outer_jacobian, softmax_jacobian};
use super::{Draw, Measure, Pathwise, Sampler, Site};
use crate::distributions::Discrete;

/// ZGR: the limit of [`GumbelRao`](super::GumbelRao) as draws grow and the temperature falls to 0.
///
/// A discrete sample `z ~ q` forward; backward, with `p` the probabilities of `q`:
///
/// ```math
/// \frac{1}{2} \bigl[ J(p) + (z - p) (z - p)^\top \bigr]
/// ```
///
/// Half of straight-through, and half of what DARN would do with `z̄ = p`. No temperature. **Biased**, except where the
/// objective is quadratic in `z`.
///
/// Source: Shekhovtsov (2023), "Cold analysis of Rao-Blackwellized straight-through Gumbel-Softmax gradient
/// estimator".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zgr {
    /// Number of samples `S`.
    pub samples: usize,
}

impl Sampler for Zgr {
    fn draw(&mut self, _: &Site, q: &Discrete, key: Key) -> Result<Draw> {
        let (value, probs) = (q.sample(self.samples, key)?, q.probs()?.detach());
        let straight = softmax_jacobian(q, &probs)?;
        let step = value.broadcast_sub(&probs)?;
        let outer = outer_jacobian(q, &step, &step)?;
        let gradient = (outer.broadcast_add(&straight)? * 0.5)?;
        Ok(Draw { value: (value + gradient)?, measure: Measure::Discrete })
    }
}

impl Pathwise for Zgr {
    const BIBTEX: &'static str = include_str!("bibtex/zgr.bib");
}
