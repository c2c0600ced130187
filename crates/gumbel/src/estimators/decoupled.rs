//! Straight-through Gumbel-Softmax with two temperatures.
use candle_core::{Result, Tensor};
use gumbel_kernels::{Forward, Key, gumbel_sigmoid, gumbel_softmax};

use super::jacobian::softmax_jacobian;
use super::{Draw, Measure, Pathwise, Sampler, Site};
use crate::distributions::{Discrete, positive};

/// Decoupled straight-through Gumbel-Softmax: one temperature for the sample, another for its gradient.
///
/// Forward, the one-hot vector of the largest of `logits / τ_f + G`: the sample of a law that is sharper
/// (`τ_f < 1`) or flatter than `q`. Backward, the Jacobian of the relaxed sample of the same noise in the logits:
///
/// ```math
/// \frac{1}{\tau_f \tau_b}\,
/// J\Bigl(\operatorname{softmax}\Bigl(\frac{\mathrm{logits} / \tau_f + G}{\tau_b}\Bigr)\Bigr)
/// ```
///
/// At `τ_f = 1` it is [`StraightThroughGumbelSoftmax`](super::StraightThroughGumbelSoftmax) at `τ_b`.
///
/// **Biased**; and for `τ_f ≠ 1` the value is no draw of `q`: then neither `E[log p(x|z)]` nor the objective
/// belongs to the discrete model, and a sampled divergence is refused. Evaluation samples from `q` itself.
///
/// Source: Shah, Yan, Mozer, Liu (2024). That `τ_f` scales the logits is our reading: the division of the sum
/// `logits + G` would change nothing in a hard sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DecoupledStraightThroughGumbelSoftmax {
    /// Number of samples `S`.
    pub samples: usize,
    /// Temperature `τ_f` of the law that is sampled.
    pub forward_temperature: f64,
    /// Temperature `τ_b` of the relaxed sample whose Jacobian is used.
    pub backward_temperature: f64,
}

impl Sampler for DecoupledStraightThroughGumbelSoftmax {
    fn draw(&mut self, _: &Site, q: &Discrete, key: Key) -> Result<Draw> {
        let forward = positive("forward_temperature", self.forward_temperature)?;
        let backward = positive("backward_temperature", self.backward_temperature)?;
        let tempered = q.with_logits(&(q.logits() / forward)?)?;
        let (value, relaxed) = relaxed_pair(&tempered, self.samples, backward, key)?;
        let gradient = (softmax_jacobian(&tempered, &relaxed)? / backward)?;
        let measure = if forward == 1. { Measure::Discrete } else { Measure::Intractable };
        Ok(Draw { value: value.broadcast_add(&gradient)?, measure })
    }
}

/// A discrete draw of `q`, and the relaxed one of the same noise. No gradient.
fn relaxed_pair(
    q: &Discrete,
    samples: usize,
    temperature: f64,
    key: Key,
) -> Result<(Tensor, Tensor)> {
    let value = q.sample(samples, key)?;
    let logits = q.logits().detach();
    let relaxed = match q {
        Discrete::Categorical(_) => {
            gumbel_softmax(&logits, samples, temperature, Forward::Soft, key)?
        }
        Discrete::Bernoulli(_) => {
            gumbel_sigmoid(&logits, samples, temperature, Forward::Soft, key)?
        }
    };
    Ok((value, relaxed))
}

impl Pathwise for DecoupledStraightThroughGumbelSoftmax {
    const BIBTEX: &'static str =
        concat!(include_str!("bibtex/decoupled.bib"), include_str!("bibtex/gumbel-softmax.bib"));
}
