//! The evidence lower bound.
use candle_core::{Result, Tensor};

use super::{has_divergence, model_of, weigh};
use crate::estimators::{BoundOf, Divergence, Objective, SiteDraw};

/// The evidence lower bound, averaged over the samples.
///
/// With the weight `β` of the divergence:
///
/// ```math
/// \mathbb{E}_{q(z \mid x)}\bigl[\log p(x \mid z)\bigr] - \beta\, \mathrm{KL}(q \,\|\, p)
/// ```
///
/// Discrete draws: a bound of `log p(x)` for `β ≥ 1`. Relaxed draws with [`Divergence::Sampled`]: a bound
/// of the relaxed model. Relaxed draws with [`Divergence::Analytic`]: **not a bound** of anything, though
/// it is what most Gumbel-Softmax code trains; report the discrete bound beside it. Where nothing has a prior there is no
/// divergence, and its form and weight say nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Elbo {
    /// Form of the divergence.
    pub divergence: Divergence,
    /// Weight `β` of the divergence.
    pub beta: f64,
}

impl Default for Elbo {
    fn default() -> Self {
        Self { divergence: Divergence::Analytic, beta: 1. }
    }
}

impl Objective for Elbo {
    fn log_weights(&self, log_px: &Tensor, sites: &[SiteDraw]) -> Result<Tensor> {
        weigh(log_px, sites, self.divergence, self.beta)
    }

    fn bound(&self, log_w: &Tensor) -> Result<Tensor> {
        log_w.mean(0)
    }

    fn bounds(&self, sites: &[SiteDraw]) -> BoundOf {
        match model_of(sites) {
            model if !has_divergence(sites) => model,
            _ if self.beta < 1. => BoundOf::Nothing,
            BoundOf::RelaxedModel if self.divergence != Divergence::Sampled => BoundOf::Nothing,
            model => model,
        }
    }

    /// `log w_s / S`: the other samples are terms of their own.
    fn learning_signal(&self, log_w: &Tensor) -> Result<Tensor> {
        log_w / log_w.dim(0)? as f64
    }
}
