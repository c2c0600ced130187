//! The straight-through estimator.
use candle_core::Result;
use gumbel_kernels::Key;

use super::{Draw, Measure, Pathwise, Sampler, Site};
use crate::distributions::Discrete;

/// Straight-through: a discrete sample forward, the gradient of its probabilities backward.
///
/// With `z ~ q`, `p` the probabilities of `q`, and `sg` for a value without its gradient, the model sees:
///
/// ```math
/// z + \bigl(p - \operatorname{sg}(p)\bigr)
/// ```
///
/// The gradient treats sampling as the identity on the vector of probabilities. **Biased**, except where the objective
/// is linear in `z`.
///
/// Source: Bengio, Léonard, Courville (2013); Jang et al. (2017), section 3.1. Both treat bits; the form for categories is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StraightThrough {
    /// Number of samples `S`.
    pub samples: usize,
}

impl Sampler for StraightThrough {
    fn draw(&mut self, _: &Site, posterior: &Discrete, key: Key) -> Result<Draw> {
        let probs = posterior.probs()?;
        let identity = (&probs - probs.detach())?;
        let value = posterior.sample(self.samples, key)?.broadcast_add(&identity)?;
        Ok(Draw { value, measure: Measure::Discrete })
    }
}

impl Pathwise for StraightThrough {
    const BIBTEX: &'static str = include_str!("bibtex/straight-through.bib");
}
