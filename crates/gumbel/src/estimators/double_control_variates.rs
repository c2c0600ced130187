//! Double control variates.
use candle_core::{Result, Tensor};
use gumbel_kernels::Key;

use super::jacobian::jacobian_product;
use super::leave_one_out::learning_signal;
use super::leaves::Leaves;
use super::others::{at_least_two, mean_of_others};
use super::signal::{score, score_in_logits, sum_to};
use super::site::{latent, of_site};
use super::{Estimator, Independent, Objective, Program, Site, SiteDraw, Store, Surrogate, Trace};

/// Double control variates: leave-one-out, made sharper twice by the gradient of the model in its latents.
///
/// With `f = log w`, `μ` the expectation of each site's draw given the earlier ones, and gradients at the *other*
/// samples, a linear control variate is:
///
/// ```math
/// c_s = \alpha\, \bar g_s \cdot (z_s - \mu_s), \qquad \bar g_s = \frac{1}{S - 1} \sum_{j \ne s} \nabla f(z_j)
/// ```
///
/// It enters twice:
/// - local: it is subtracted from the signal of its own sample, and its gradient `α ḡ_s · ∇μ_s` added back;
/// - global: its mean over the other samples corrects the baseline.
///
/// Given all other samples `c_s` has mean 0, so that the gradient stays **unbiased** for every `α`. Each site has
/// its own `α`, which starts at 0, where this is [`LeaveOneOut`](super::LeaveOneOut), and descends the squared
/// size of the gradient in the site's logits. One backward pass more, no run more.
///
/// Source: Titsias and Shi (2022), sections 3 and 4.
#[derive(Clone, Debug)]
pub struct DoubleControlVariates {
    samples: usize,
    scales: Vec<(Site, Tensor)>,
}

impl DoubleControlVariates {
    /// For the sites that a first run visited.
    ///
    /// # Errors
    /// If `store` refuses a parameter.
    pub fn new(samples: usize, sites: &[SiteDraw], store: &mut dyn Store) -> Result<Self> {
        let mut scales = Vec::new();
        for site in latent(sites) {
            let logits = site.posterior.logits();
            let zero = Tensor::zeros((), logits.dtype(), logits.device())?;
            let scale = store.parameter(&format!("{}.scale", site.site.path()), &zero)?;
            scales.push((site.site.clone(), scale));
        }
        Ok(Self { samples, scales })
    }

    fn scale(&self, site: &SiteDraw) -> Result<&Tensor> {
        of_site(&self.scales, |(name, _)| name, site).map(|(_, scale)| scale)
    }
}

impl Estimator for DoubleControlVariates {
    fn surrogate(
        &self,
        program: &Program<'_>,
        objective: &dyn Objective,
        key: Key,
    ) -> Result<Surrogate> {
        at_least_two("the double control variate", self.samples)?;
        let mut inner = Independent { samples: self.samples };
        let mut leaves = Leaves::of(&mut inner);
        let (log_px, sites) = Trace::run(program, &mut leaves, key)?;
        let log_w = objective.log_weights(&log_px, &sites)?;
        let bound = objective.bound(&log_w)?;
        let slopes = leaves.gradients(&log_w)?;
        let latent: Vec<_> = latent(&sites).collect();

        let mut signal = learning_signal(&log_w, &bound, objective)?;
        // The constant 1/S, whatever the objective: only a linear control has a mean of 0.
        let (share, batch) = (1. / self.samples as f64, bound.dim(0)? as f64);
        let others = slopes.iter().map(mean_of_others).collect::<Result<Vec<_>>>()?;
        for (site, others) in latent.iter().zip(&others) {
            let step = site.draw.value.detach().broadcast_sub(&site.posterior.probs()?.detach())?;
            let linear = (step * others)?.flatten_from(2)?.sum(2)?; // [S, B]
            let control = ((&linear - mean_of_others(&linear)?)? * share)?;
            signal = (signal - control.broadcast_mul(self.scale(site)?)?)?;
        }
        let (mut gain, mut auxiliary) = (bound.clone(), Vec::new());
        for (site, others) in latent.iter().zip(&others) {
            gain = gain.broadcast_add(&score(site, &signal)?)?;
            let known = others.broadcast_mul(&site.posterior.probs()?)?.flatten_from(2)?.sum(2)?;
            let known = (known.sum(0)? * share)?.broadcast_mul(&self.scale(site)?.detach())?;
            gain = (gain + known)?;
            let probs = site.posterior.probs()?.detach();
            let known = (jacobian_product(&site.posterior, &probs, others)? * share)?;
            let known = sum_to(&known, site.posterior.logits())?;
            let gradient = score_in_logits(site, &signal)?;
            let gradient = (gradient + known.broadcast_mul(self.scale(site)?)?)?;
            auxiliary.push((gradient.sqr()?.sum_all()? / batch)?);
        }
        let auxiliary = Tensor::stack(&auxiliary, 0)?.sum_all()?;
        Surrogate::new(&gain, &bound, &log_px, sites)?.with_auxiliary(&auxiliary)
    }

    fn is_unbiased(&self) -> bool {
        true
    }

    fn bibtex(&self) -> &'static str {
        include_str!("bibtex/double-control-variates.bib")
    }
}
