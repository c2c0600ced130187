//! The multi-sample bound.
use candle_core::{Result, Tensor};
use gumbel_kernels::log_sum_exp;

use super::{model_of, weigh};
use crate::estimators::{BoundOf, Divergence, Objective, SiteDraw};

/// The multi-sample (importance-weighted) bound, tighter with every sample.
///
/// With the importance weight of each sample:
///
/// ```math
/// \log \frac{1}{S} \sum_{s=1}^{S} w_s, \qquad w_s = \frac{p(x \mid z_s)\, p(z_s)}{q(z_s \mid x)}
/// ```
///
/// The weights use the sampled divergence: mass of discrete draws, densities of relaxed ones.
/// Source: Burda, Grosse, Salakhutdinov (2016), eq. 8; for relaxed draws Maddison et al. (2017), eq. 20.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Iwae;

impl Objective for Iwae {
    fn log_weights(&self, log_px: &Tensor, sites: &[SiteDraw]) -> Result<Tensor> {
        weigh(log_px, sites, Divergence::Sampled, 1.)
    }

    fn bound(&self, log_w: &Tensor) -> Result<Tensor> {
        log_sum_exp(log_w, 0)? - (log_w.dim(0)? as f64).ln()
    }

    fn bounds(&self, sites: &[SiteDraw]) -> BoundOf {
        model_of(sites)
    }
}
