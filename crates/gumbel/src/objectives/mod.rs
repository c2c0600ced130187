//! Bounds on `log p(x)`: how weights are formed, how they are reduced. They know no estimator and no model.
mod config;
mod elbo;
mod evaluation;
mod guarded_elbo;
mod iwae;

pub use config::ObjectiveConfig;
pub use elbo::Elbo;
pub use evaluation::{exact_log_likelihood, exact_posterior, multi_sample_bound};
pub use guarded_elbo::GuardedElbo;
pub use iwae::Iwae;

use candle_core::{Result, Tensor};
use gumbel_kernels::scale;

use crate::estimators::{BoundOf, Divergence, SiteDraw};

/// `log p(x|z) + β Σ_sites log_ratio`: `[S, B]`; the log-probability of an observed site has weight 1.
fn weigh(log_px: &Tensor, sites: &[SiteDraw], divergence: Divergence, beta: f64) -> Result<Tensor> {
    sites.iter().try_fold(log_px.clone(), |log_w, site| {
        let ratio = site.log_ratio(divergence)?;
        let ratio = if site.is_observed() || beta == 1. { ratio } else { scale(&ratio, beta)? };
        log_w.broadcast_add(&ratio)
    })
}

/// Whether a divergence is part of the weights: not where the model itself draws all that it does not observe.
fn has_divergence(sites: &[SiteDraw]) -> bool {
    sites.iter().any(|site| site.prior.is_some() && !site.is_observed())
}

/// The model that the draws belong to: relaxed if one of them is.
fn model_of(sites: &[SiteDraw]) -> BoundOf {
    if sites.iter().any(SiteDraw::is_relaxed) {
        BoundOf::RelaxedModel
    } else {
        BoundOf::DiscreteModel
    }
}
