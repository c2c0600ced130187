//! The estimator of deep autoregressive networks.
use candle_core::Result;
use gumbel_kernels::Key;

use super::jacobian::outer_jacobian;
use super::{Draw, Measure, Pathwise, Sampler, Site};
use crate::distributions::Discrete;

/// DARN: a score function whose signal is a first-order estimate of `f(z) - f(z̄)`, with `z̄` in the middle.
///
/// The baseline of a variable is the expansion of `f` around the draw, taken at `z̄ = 1/2` for bits and `1/K` for
/// one-hot vectors, so that its signal is `∂f/∂z · (z - z̄)` and needs no value of `f`. A discrete sample `z ~ q`
/// forward; backward, with `p` the probabilities of `q`:
///
/// ```math
/// (z - p) (z - \bar z)^\top
/// ```
///
/// **Biased**, because this baseline depends on the draw and the correction for that is left out; exact for bits if `f`
/// is quadratic in each of them.
///
/// Source: Gregor, Danihelka, Mnih, Blundell, Wierstra (2014); Jang et al. (2017), section 3.2. Both
/// treat bits; the form for categories is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Darn {
    /// Number of samples `S`.
    pub samples: usize,
}

impl Sampler for Darn {
    fn draw(&mut self, _: &Site, q: &Discrete, key: Key) -> Result<Draw> {
        let value = q.sample(self.samples, key)?;
        let score = value.broadcast_sub(&q.probs()?)?;
        let step = (&value - 1. / q.categories() as f64)?;
        let gradient = outer_jacobian(q, &score, &step)?;
        Ok(Draw { value: (value + gradient)?, measure: Measure::Discrete })
    }
}

impl Pathwise for Darn {
    const BIBTEX: &'static str = include_str!("bibtex/darn.bib");
}
