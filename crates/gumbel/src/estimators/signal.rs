//! Learning signals: what the score of a sample is multiplied by.
use candle_core::{DType, Result, Tensor};

use super::{Objective, SiteDraw};
use crate::distributions::Discrete;

/// What a masked logit of `-∞` counts as where it is multiplied by a coefficient of 0.
pub(crate) const MASKED: f64 = -1e30;

/// `bound(log w with log w_s replaced by replacement_s)` for each sample `s`: `[S, B]`, detached.
///
/// Both arguments are `[S, B]`. The other samples keep their weights.
pub(crate) fn bound_with_replaced(
    log_w: &Tensor,
    replacement: &Tensor,
    objective: &dyn Objective,
) -> Result<Tensor> {
    let (log_w, (s, b)) = (log_w.detach(), log_w.dims2()?);
    // Column (s, b) of the grid [S, S, B] holds the weights of b with that of sample s replaced.
    let replaced = Tensor::eye(s, DType::U8, log_w.device())?.unsqueeze(2)?;
    let [kept, replacement] = [log_w.unsqueeze(1)?, replacement.detach().unsqueeze(0)?]
        .map(|weights| weights.broadcast_as((s, s, b)));
    // Chosen and not multiplied by 0 and 1: a weight may be -∞.
    let grid = replaced.broadcast_as((s, s, b))?.where_cond(&replacement?, &kept?)?;
    objective.bound(&grid.reshape((s, s * b))?)?.reshape((s, b))
}

/// `Σ_sites log q(z)`: `[S, B]`.
pub(crate) fn total_log_q(sites: &[SiteDraw]) -> Result<Tensor> {
    let mut total: Option<Tensor> = None;
    for site in sites {
        if let Some(log_q) = site.log_q()? {
            total = Some(match total {
                Some(sum) => sum.broadcast_add(&log_q)?,
                None => log_q,
            });
        }
    }
    match total {
        Some(total) => Ok(total),
        None => candle_core::bail!("the program drew no latent: there is nothing to estimate"),
    }
}

/// `Σ_s signal_s log q(z_s)` of one site, `[B]`: its gradient is the score-function estimate.
///
/// `signal: [S | 1, B]` counts as a number; an observed site has no score, and gives 0.
pub(crate) fn score(site: &SiteDraw, signal: &Tensor) -> Result<Tensor> {
    match site.log_q()? {
        Some(log_q) => signal.detach().broadcast_mul(&log_q)?.sum(0),
        None => signal.detach().sum(0)?.zeros_like(),
    }
}

/// A scalar whose gradient in the logits of a site is `coefficients`, which count as numbers and were summed over
/// a batch of `batch`: the loss takes the mean.
pub(crate) fn along_logits(site: &SiteDraw, coefficients: &Tensor, batch: usize) -> Result<Tensor> {
    let logits = site.posterior.logits().maximum(MASKED)?;
    coefficients.detach().broadcast_mul(&logits)?.sum_all()? / batch as f64
}

/// `Σ_s signal_s ∇ log q(z_s)` in the logits, in their shape.
pub(crate) fn score_in_logits(site: &SiteDraw, signal: &Tensor) -> Result<Tensor> {
    let step = site.draw.value.detach().broadcast_sub(&site.posterior.probs()?.detach())?;
    let (s, b) = signal.dims2()?;
    let signal = match site.posterior {
        Discrete::Bernoulli(_) => signal.reshape((s, b, 1))?,
        Discrete::Categorical(_) => signal.reshape((s, b, 1, 1))?,
    };
    sum_to(&step.broadcast_mul(&signal)?, site.posterior.logits())
}

/// Sums over the axes of samples and batch that `like` does not have.
pub(crate) fn sum_to(x: &Tensor, like: &Tensor) -> Result<Tensor> {
    let mut x = x.clone();
    for axis in [0, 1] {
        if like.dim(axis)? == 1 && x.dim(axis)? != 1 {
            x = x.sum_keepdim(axis)?;
        }
    }
    Ok(x)
}
