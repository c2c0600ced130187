//! The Gumbel–Rao estimator.
use candle_core::{Result, Tensor};
use gumbel_kernels::{Key, log_softmax, sigmoid};

use super::jacobian::softmax_jacobian;
use super::slope_annealed::positive;
use super::{Draw, Measure, Pathwise, Sampler, Site};
use crate::distributions::{Discrete, conditional_gumbel, conditional_logistic};

/// Gumbel–Rao: straight-through Gumbel-Softmax averaged over the noise that leads to the same sample.
///
/// A discrete sample `z ~ q` forward; backward the mean of `J(softmax((logits + G_k) / τ)) / τ` over `draws`
/// vectors of Gumbel noise *given* that `z` is the largest. The same mean as
/// [`StraightThroughGumbelSoftmax`](super::StraightThroughGumbelSoftmax), so as **biased**, and never more
/// variance; one draw is that estimator. The model runs once, whatever `draws` is, and memory does not grow
/// with it.
///
/// The conditional noise depends on the logits, and is held fixed: with the derivative through it the mean
/// would be another one.
///
/// Source: Paulus, Maddison, Krause (2021), section 3.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GumbelRao {
    /// Number of samples `S`.
    pub samples: usize,
    /// Temperature of the backward pass.
    pub temperature: f64,
    /// Draws of conditional noise that are averaged.
    pub draws: usize,
}

impl Sampler for GumbelRao {
    fn draw(&mut self, _: &Site, q: &Discrete, _: &Discrete, key: Key) -> Result<Draw> {
        let temperature = positive("temperature", self.temperature)?;
        if self.draws == 0 {
            candle_core::bail!("Gumbel-Rao averages over at least one draw, got draws = 0")
        }
        let value = q.sample(self.samples, key)?;
        let conditional = key.named("conditional");
        let scale = 1. / (temperature * self.draws as f64);
        let mut total = value.clone();
        for draw in 0..self.draws as u64 {
            let relaxed = relaxed_given(q, &value, temperature, conditional.fold_in(draw))?;
            total = (total + (softmax_jacobian(q, &relaxed)? * scale)?)?;
        }
        Ok(Draw { value: total, measure: Measure::Discrete })
    }
}

/// A relaxed draw that rounds to `value`. No gradient.
fn relaxed_given(q: &Discrete, value: &Tensor, temperature: f64, key: Key) -> Result<Tensor> {
    let (shape, logits) = (value.shape(), q.logits().detach());
    let (dtype, device) = (logits.dtype(), logits.device());
    match q {
        Discrete::Categorical(_) => {
            let noise = key.gumbel(shape, dtype, device)?;
            log_softmax(&(conditional_gumbel(&logits, value, &noise)? / temperature)?)?.exp()
        }
        Discrete::Bernoulli(_) => {
            let noise = key.logistic(shape, dtype, device)?;
            sigmoid(&(conditional_logistic(&logits, value, &noise)? / temperature)?)
        }
    }
}

impl Pathwise for GumbelRao {
    const BIBTEX: &'static str = include_str!("bibtex/gumbel-rao.bib");
}
