//! The gapped straight-through estimator.
use candle_core::{D, Result, Tensor};
use gumbel_kernels::Key;
use serde::{Deserialize, Serialize};

use super::jacobian::softmax_jacobian;
use super::{Draw, Measure, Pathwise, Sampler, Site};
use crate::distributions::{Discrete, positive};

/// Gapped straight-through: Gumbel-Softmax without its noise, which a shift of the logits replaces.
///
/// Draws `z ~ q`, raises the logit of the drawn class to the largest one, lowers the others to at most a `gap`
/// below it, and hands out `z` with the Jacobian of a softmax of the shifted logits `s`:
///
/// ```math
/// \frac{1}{\tau}\, J\bigl(\operatorname{softmax}(s / \tau)\bigr), \qquad
/// s_k = \begin{cases}
/// \max_j \mathrm{logits}_j & z_k = 1 \\
/// \min\bigl(\mathrm{logits}_k,\ \max_j \mathrm{logits}_j - \mathrm{gap}\bigr) & z_k = 0
/// \end{cases}
/// ```
///
/// The shift is deterministic given `z` and carries no gradient. Less variance than
/// [`StraightThroughGumbelSoftmax`](super::StraightThroughGumbelSoftmax); **biased**.
///
/// Source: Fan, Chi, Rudnicky, Ramadge (2022), section 4.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GappedStraightThrough {
    /// Number of samples `S`.
    pub samples: usize,
    /// Temperature of the backward pass.
    pub temperature: f64,
    /// How far the drawn class is ahead of the others.
    pub gap: Gap,
}

/// The gap of [`GappedStraightThrough`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Gap {
    /// The same for every class, in nats.
    Constant(f64),
    /// The wider, the more probable the drawn class.
    ///
    /// For a class of probability `p` it is, in nats:
    ///
    /// ```math
    /// -\frac{\ln(1 - p)}{p}
    /// ```
    Probability(ByProbability),
}

/// The word for [`Gap::Probability`] in a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ByProbability {
    /// `-ln(1 - p) / p`.
    Probability,
}

impl Default for Gap {
    fn default() -> Self {
        Self::Constant(1.)
    }
}

impl Sampler for GappedStraightThrough {
    fn draw(&mut self, _: &Site, q: &Discrete, key: Key) -> Result<Draw> {
        let temperature = positive("temperature", self.temperature)?;
        let value = q.sample(self.samples, key)?;
        let shifted = match q {
            Discrete::Categorical(_) => self.shift(q.logits(), &value)?,
            // The two logits 0 and l, of which the second one is kept.
            Discrete::Bernoulli(_) => {
                let (two, one_hot) = (pair(q.logits())?, classes(&value)?);
                let shifted = self.shift(&two, &one_hot)?;
                let [zero, one] = [0, 1].map(|i| shifted.narrow(D::Minus1, i, 1));
                (one? - zero?)?.squeeze(D::Minus1)?
            }
        };
        let relaxed = q.with_logits(&(shifted / temperature)?)?.probs()?;
        let gradient = (softmax_jacobian(q, &relaxed)? / temperature)?;
        Ok(Draw { value: (value + gradient)?, measure: Measure::Discrete })
    }
}

impl GappedStraightThrough {
    /// The shifted logits, detached.
    fn shift(&self, logits: &Tensor, one_hot: &Tensor) -> Result<Tensor> {
        let logits = logits.detach().broadcast_as(one_hot.shape())?;
        let top = logits.max_keepdim(D::Minus1)?;
        let ceiling = match self.gap {
            Gap::Constant(gap) => {
                if !(gap >= 0. && gap.is_finite()) {
                    candle_core::bail!("gap must be finite and at least 0, got {gap}")
                }
                (&top - gap)?
            }
            Gap::Probability(_) => {
                let log_probs = gumbel_kernels::log_softmax(&logits)?.maximum(-80.)?;
                let p = (one_hot * log_probs.exp()?)?.sum_keepdim(D::Minus1)?;
                let p = p.clamp(1e-12, 1. - 1e-6)?;
                (&top + ((1. - &p)?.log()? / p)?)?
            }
        };
        let others = logits.broadcast_minimum(&ceiling)?;
        let drawn = one_hot.ne(0.)?;
        drawn.where_cond(&top.broadcast_as(one_hot.shape())?.contiguous()?, &others)
    }
}

/// `[.., 2]` of logits `0` and `l`.
fn pair(logits: &Tensor) -> Result<Tensor> {
    Tensor::stack(&[&logits.zeros_like()?, &logits.detach()], D::Minus1)
}

/// `[.., 2]` of bits as one-hot vectors.
fn classes(bits: &Tensor) -> Result<Tensor> {
    Tensor::stack(&[&(1. - bits)?, bits], D::Minus1)
}

impl Pathwise for GappedStraightThrough {
    const BIBTEX: &'static str = include_str!("bibtex/gapped.bib");
}
