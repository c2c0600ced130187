//! Chosen Jacobians: the tool of the straight-through family.
use candle_core::{D, Result, Tensor};

use super::signal::MASKED;
use crate::distributions::Discrete;

/// A zero whose derivative in the logits of `q` is `J(p) = diag(p) - p pᵀ`, the Jacobian of a softmax that
/// has the value `probs`; `p (1 - p)` for bits. Nothing flows into `probs`.
///
/// A discrete value plus such a zero has the gradient that an estimator asks for.
pub(crate) fn softmax_jacobian(q: &Discrete, probs: &Tensor) -> Result<Tensor> {
    let (p, logits) = (probs.detach(), q.logits().maximum(MASKED)?);
    zero(match q {
        Discrete::Bernoulli(_) => (&p * (1. - &p)?)?.broadcast_mul(&logits)?,
        Discrete::Categorical(_) => {
            let mean = p.broadcast_mul(&logits)?.sum_keepdim(D::Minus1)?;
            p.broadcast_mul(&logits.broadcast_sub(&mean)?)?
        }
    })
}

/// A zero that takes a gradient `g` to `u ⟨w, g⟩` in the logits of `q`; to `u w g` for bits. Nothing flows into
/// `u` and `w`.
pub(crate) fn outer_jacobian(q: &Discrete, u: &Tensor, w: &Tensor) -> Result<Tensor> {
    let (u, w, logits) = (u.detach(), w.detach(), q.logits().maximum(MASKED)?);
    let along = u.broadcast_mul(&logits)?;
    zero(match q {
        Discrete::Bernoulli(_) => (along * w)?,
        Discrete::Categorical(_) => w.broadcast_mul(&along.sum_keepdim(D::Minus1)?)?,
    })
}

/// `J(p) g`, the product of a gradient with the Jacobian of a softmax (for bits: a sigmoid) of value `p`.
pub(crate) fn jacobian_product(q: &Discrete, p: &Tensor, g: &Tensor) -> Result<Tensor> {
    match q {
        Discrete::Bernoulli(_) => g.broadcast_mul(&(p * (1. - p)?)?),
        Discrete::Categorical(_) => {
            let mean = g.broadcast_mul(p)?.sum_keepdim(D::Minus1)?;
            g.broadcast_sub(&mean)?.broadcast_mul(p)
        }
    }
}

/// `x - x`, with the derivative of the first `x`.
fn zero(x: Tensor) -> Result<Tensor> {
    &x - x.detach()
}

/// `q` with its gradient multiplied by `factor`.
pub(crate) fn scaled_gradient(q: &Discrete, factor: f64) -> Result<Discrete> {
    let change = zero((q.logits().maximum(MASKED)? * (factor - 1.))?)?;
    q.with_logits(&(q.logits() + change)?)
}

/// `q` at another slope: probabilities of the logits times `slope`.
pub(crate) fn probs_at(q: &Discrete, slope: f64) -> Result<Tensor> {
    q.with_logits(&(q.logits().detach() * slope)?)?.probs()
}
