//! Double control variates.
use candle_core::Result;
use gumbel_kernels::Key;

use super::leaves::Leaves;
use super::others::{at_least_two, mean_of_others};
use super::signal::{bound_with_replaced, score};
use super::{Estimator, Independent, Objective, Program, Surrogate, Trace};

/// Double control variates: leave-one-out, made sharper twice by the gradient of the model in its latents.
///
/// With `f = log w`, `μ` the expectation of each site's draw given the earlier ones, and `g_j = ∇f(z_j)`:
/// - global: the baseline of sample `s` is made of `f(z_j) - g_j · (z_j - μ_j)`, `j ≠ s`, what `f` would be at
///   the mean if it were linear;
/// - local: `ḡ_s · (z_s - μ_s)`, with `ḡ_s` the mean of `g_j` over `j ≠ s`, is subtracted from the signal, and its
///   gradient `ḡ_s · ∇μ_s` added back.
///
/// Neither depends on the own draw but linearly, so that the gradient stays **unbiased**. One backward pass
/// more than [`LeaveOneOut`](super::LeaveOneOut), no run more. Here both control variates have weight 1, which
/// is exact for linear `f`; the paper also learns weights.
///
/// Source: Titsias and Shi (2022), section 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoubleControlVariates {
    /// Number of samples `S ≥ 2`.
    pub samples: usize,
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
        let latent: Vec<_> = sites.iter().filter(|site| !site.is_observed()).collect();

        let share = 1. / self.samples as f64;
        let mut gain = bound.clone();
        let (mut own, mut local) = (log_w.detach(), log_w.zeros_like()?.detach());
        for (site, slope) in latent.iter().zip(&slopes) {
            let mean = site.posterior.probs()?;
            let step = site.draw.value.detach().broadcast_sub(&mean.detach())?;
            let others = mean_of_others(slope)?;
            own = (own - (&step * slope)?.flatten_from(2)?.sum(2)?)?;
            local = (local + (step * &others)?.flatten_from(2)?.sum(2)?)?;
            let known = others.broadcast_mul(&mean)?.flatten_from(2)?.sum(2)?.sum(0)?;
            gain = (gain + (known * share)?)?;
        }
        let without = bound_with_replaced(&log_w, &mean_of_others(&own)?, objective)?;
        let signal = bound.detach().unsqueeze(0)?.broadcast_sub(&without)?;
        let signal = (signal - (local * share)?)?;
        for site in latent {
            gain = gain.broadcast_add(&score(site, &signal)?)?;
        }
        Surrogate::new(&gain, &bound, &log_px, sites)
    }

    fn is_unbiased(&self) -> bool {
        true
    }

    fn bibtex(&self) -> &'static str {
        include_str!("bibtex/double-control-variates.bib")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributions::Bernoulli;
    use crate::objectives::Elbo;
    use candle_core::{DType, Device, Tensor, Var};

    #[test]
    fn a_linear_likelihood_leaves_no_variance() -> Result<()> {
        let logits =
            Var::from_tensor(&Key::from_seed(1).normal((1, 50, 3), DType::F64, &Device::Cpu)?)?;
        let weights = Tensor::new(&[1f64, -2., 0.5], &Device::Cpu)?;
        let program = |t: &mut Trace<'_>| {
            let q = Bernoulli::from_logits(&logits)?;
            t.sample("z", &q, &q)?.broadcast_mul(&weights)?.sum(2)
        };
        let elbo = Elbo::default();
        let surrogate =
            DoubleControlVariates { samples: 2 }.surrogate(&program, &elbo, Key::from_seed(2))?;
        let grads = surrogate.loss.backward()?;
        let p = gumbel_kernels::sigmoid(&logits)?;
        let exact = ((&p * (1. - &p)?)?.broadcast_mul(&weights)? * (-1. / 50.))?;
        let gap = (grads.get(logits.as_tensor()).unwrap() - exact)?.abs()?.max_all()?;
        assert!(gap.to_scalar::<f64>()? < 1e-15);
        Ok(())
    }
}
