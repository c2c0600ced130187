//! The slope-annealed straight-through estimator.
use candle_core::Result;
use gumbel_kernels::Key;

use super::jacobian::{probs_at, softmax_jacobian};
use super::{Draw, Measure, Pathwise, Sampler, Site};
use crate::distributions::{Discrete, positive};

/// Slope-annealed straight-through: a discrete sample forward, backward the gradient of a steeper softmax.
///
/// The Jacobian of the backward pass is:
///
/// ```math
/// \mathrm{slope} \cdot J\bigl(\operatorname{softmax}(\mathrm{slope} \cdot \mathrm{logits})\bigr)
/// ```
///
/// The law that is sampled keeps the slope 1. With a slope that grows in training the backward pass comes
/// nearer to the step function of the forward pass. A slope of `1/τ` is straight-through at temperature `τ`.
/// **Biased**.
///
/// Source: Chung, Ahn, Bengio (2017), section 3.3; Jang et al. (2017), table 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlopeAnnealedStraightThrough {
    /// Number of samples `S`.
    pub samples: usize,
    /// Factor of the logits in the backward pass; 1 is [`StraightThrough`](super::StraightThrough).
    pub slope: f64,
}

impl Sampler for SlopeAnnealedStraightThrough {
    fn draw(&mut self, _: &Site, q: &Discrete, key: Key) -> Result<Draw> {
        let probs = probs_at(q, positive("slope", self.slope)?)?;
        let gradient = (softmax_jacobian(q, &probs)? * self.slope)?;
        let value = q.sample(self.samples, key)?.broadcast_add(&gradient)?;
        Ok(Draw { value, measure: Measure::Discrete })
    }
}

impl Pathwise for SlopeAnnealedStraightThrough {
    const BIBTEX: &'static str = concat!(
        include_str!("bibtex/slope-annealed.bib"),
        include_str!("bibtex/straight-through.bib")
    );
}
