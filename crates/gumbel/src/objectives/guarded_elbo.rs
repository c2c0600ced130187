//! The evidence lower bound with guards against latents that say nothing.
use candle_core::{Result, Tensor};
use gumbel_kernels::scale;

use super::model_of;
use crate::distributions::Discrete;
use crate::estimators::{BoundOf, Divergence, Objective, SiteDraw};

/// The evidence lower bound, whose divergences are guarded against collapse: a model that can do without its latents
/// soon has a posterior that is the prior.
///
/// On average over samples and batch it is, with `q̄` the average of `q` over both, and a divergence `D_n` of each
/// variable `n`:
///
/// ```math
/// \begin{aligned}
/// &\mathbb{E}_q\bigl[\log p(x \mid z)\bigr] - \beta \sum_n D_n \\
/// &D_n = \max\Bigl(\lambda,\ \frac{1 - w}{S B} \sum_{s, b} \mathrm{KL}(q_n \,\|\, p_n)
/// + w\, \mathrm{KL}(\bar q_n \,\|\, \mathrm{uniform})\Bigr)
/// \end{aligned}
/// ```
///
/// Free nats `λ` take away what is gained by less divergence than that (Kingma et al. 2016, appendix C.8); the share
/// `w` asks only that values be used alike on average (Zhao, Lee, Eskenazi 2018, section 3.1), so that an observation is
/// free to choose one, and a learned prior cannot settle on a single one. The divergence is that of the discrete
/// distributions.
///
/// A variable is below its free nats, or not, by the average over samples and observations; for estimators that sum over all
/// values, that is the average over values, not under `q`. Free nats alone keep the value a bound, on average over the batch; with `w > 0` or `β < 1` it is **not a bound**. Let
/// the guards end before training does.
///
/// Averages over the batch tie observations together. That leaves estimators unbiased where no posterior depends on an earlier
/// draw; where one does, score functions miss what a draw changes in the averages of others, and are **biased** whatever
/// they say of themselves.
///
/// A [coupled](SiteDraw::coupled) site, as of a model of several layers, is an error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GuardedElbo {
    /// Weight `β` of the divergence.
    pub beta: f64,
    /// Nats `λ` of each variable.
    pub free_nats: f64,
    /// Share `w`, in `[0, 1]`.
    pub batch_prior: f64,
}

impl Default for GuardedElbo {
    /// No guard: the ELBO.
    fn default() -> Self {
        Self { beta: 1., free_nats: 0., batch_prior: 0. }
    }
}

impl GuardedElbo {
    /// The guarded divergence of a site, `[S | 1, B | 1]`.
    fn divergence(&self, site: &SiteDraw, prior: &Discrete) -> Result<Tensor> {
        if site.coupled {
            candle_core::bail!(
                "the prior of site `{}` depends on draws given its own, so that its divergence has no closed form to \
                 guard; use Elbo for a model of several layers",
                site.site.path()
            )
        }
        let each = site.posterior.kl_per_variable(prior)?;
        let blended = if self.batch_prior > 0. {
            let average = divergence_of_average(&site.posterior)?;
            scale(&each, 1. - self.batch_prior)?.broadcast_add(&(average * self.batch_prior)?)?
        } else {
            each
        };
        if self.free_nats > 0. {
            // The larger of the two on average over the batch, but a number of each sample: what differs between samples
            // is what score functions weigh.
            let mean = blended.mean_keepdim(0)?.mean_keepdim(1)?.detach();
            let above = mean.ge(self.free_nats)?.to_dtype(blended.dtype())?;
            let free = (above.affine(-1., 1.)? * self.free_nats)?;
            blended.broadcast_mul(&above)?.broadcast_add(&free)?.sum(2)
        } else {
            blended.sum(2)
        }
    }
}

/// `KL(q̄_n ‖ uniform) = ln K - H(q̄_n)` of the average over samples and observations: `[1, 1, N]`.
fn divergence_of_average(posterior: &Discrete) -> Result<Tensor> {
    let average = posterior.probs()?.mean_keepdim(0)?.mean_keepdim(1)?;
    // p ln p, 0 where p is 0.
    let term = |p: &Tensor| p * (p + 1e-30)?.log()?;
    let negative_entropy = match posterior {
        Discrete::Bernoulli(_) => (term(&average)? + term(&average.affine(-1., 1.)?)?)?,
        Discrete::Categorical(_) => term(&average)?.sum(3)?,
    };
    negative_entropy + (posterior.categories() as f64).ln()
}

impl Objective for GuardedElbo {
    fn log_weights(&self, log_px: &Tensor, sites: &[SiteDraw]) -> Result<Tensor> {
        sites.iter().try_fold(log_px.clone(), |log_w, site| match &site.prior {
            Some(prior) if !site.is_observed() => {
                let divergence = self.divergence(site, prior)?;
                log_w.broadcast_sub(&scale(&divergence, self.beta)?)
            }
            _ => log_w.broadcast_add(&site.log_ratio(Divergence::Analytic)?),
        })
    }

    fn bound(&self, log_w: &Tensor) -> Result<Tensor> {
        log_w.mean(0)
    }

    fn bounds(&self, sites: &[SiteDraw]) -> BoundOf {
        match model_of(sites) {
            BoundOf::DiscreteModel if self.beta >= 1. && self.batch_prior == 0. => {
                BoundOf::DiscreteModel
            }
            _ => BoundOf::Nothing,
        }
    }

    /// `log w_s / S`: the other samples are terms of their own.
    fn learning_signal(&self, log_w: &Tensor) -> Result<Tensor> {
        log_w / log_w.dim(0)? as f64
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};
    use gumbel_kernels::Key;

    use super::*;
    use crate::distributions::{Bernoulli, Categorical};
    use crate::estimators::{Independent, Trace};
    use crate::objectives::Elbo;

    fn value(objective: &dyn Objective, q: &Discrete, p: &Discrete) -> Result<(Tensor, BoundOf)> {
        let program = |t: &mut Trace<'_>| {
            let z = t.sample("z", q, p)?;
            z.flatten_from(2)?.sum(2)?.affine(0., -3.)
        };
        let (log_px, sites) =
            Trace::run(&program, &mut Independent { samples: 2 }, Key::from_seed(1))?;
        Ok((objective.bound(&objective.log_weights(&log_px, &sites)?)?, objective.bounds(&sites)))
    }

    fn laws() -> Result<[(Discrete, Discrete); 2]> {
        let normal =
            |seed, shape: &[usize]| Key::from_seed(seed).normal(shape, DType::F64, &Device::Cpu);
        let categorical = |seed| {
            Ok::<_, candle_core::Error>(Discrete::from(&Categorical::from_logits(&normal(
                seed,
                &[1, 4, 2, 3],
            )?)?))
        };
        let bernoulli = |seed| {
            Ok::<_, candle_core::Error>(Discrete::from(&Bernoulli::from_logits(&normal(
                seed,
                &[1, 4, 2],
            )?)?))
        };
        Ok([(categorical(1)?, categorical(2)?), (bernoulli(3)?, bernoulli(4)?)])
    }

    #[test]
    fn without_guards_it_is_the_plain_bound() -> Result<()> {
        for (q, p) in laws()? {
            let plain = GuardedElbo { beta: 1., free_nats: 0., batch_prior: 0. };
            let (guarded, bounds) = value(&plain, &q, &p)?;
            let (elbo, _) = value(&Elbo::default(), &q, &p)?;
            assert_eq!(guarded.to_vec1::<f64>()?, elbo.to_vec1::<f64>()?);
            assert_eq!(bounds, BoundOf::DiscreteModel);
        }
        Ok(())
    }

    /// More than any variable's divergence: what is left has no slope.
    #[test]
    fn free_nats_bound_from_below_and_take_the_slope_away() -> Result<()> {
        let logits =
            Var::from_tensor(&Key::from_seed(1).normal((1, 4, 2, 3), DType::F64, &Device::Cpu)?)?;
        let q = Discrete::from(&Categorical::from_logits(&logits)?);
        let p = Discrete::uniform_like(&q)?;
        let guarded = |free_nats| GuardedElbo { beta: 2., free_nats, batch_prior: 0. };
        let (bound, bounds) = value(&guarded(5.), &q, &p)?;
        assert!(bound.to_vec1::<f64>()?.iter().all(|b| (b + 3. + 2. * 10.).abs() < 1e-12));
        assert_eq!(bounds, BoundOf::DiscreteModel);
        let slope = bound
            .sum_all()?
            .backward()?
            .get(&logits)
            .map(|g| g.abs()?.sum_all()?.to_scalar::<f64>());
        assert!(slope.transpose()?.unwrap_or(0.) == 0.);
        let mean = |b: Tensor| b.mean_all()?.to_scalar::<f64>();
        let (little, _) = value(&guarded(1e-9), &q, &p)?;
        let (none, _) = value(&guarded(0.), &q, &p)?;
        assert!((mean(little)? - mean(none)?).abs() < 1e-12);
        Ok(())
    }

    /// What the closed form of a lower layer would be is not its divergence.
    #[test]
    fn a_prior_that_depends_on_later_draws_is_refused() -> Result<()> {
        let [(q, p), _] = laws()?;
        let program = |t: &mut Trace<'_>| {
            let z = t.infer(("z", 0), &q)?;
            t.sample(("z", 1), &q, &p)?;
            t.prior(("z", 0), &p)?;
            z.flatten_from(2)?.sum(2)
        };
        let (log_px, sites) =
            Trace::run(&program, &mut Independent { samples: 2 }, Key::from_seed(1))?;
        assert!(Elbo::default().log_weights(&log_px, &sites).is_ok());
        let error = GuardedElbo::default().log_weights(&log_px, &sites).unwrap_err().to_string();
        assert!(error.contains("`z.0`") && error.contains("several layers"), "{error}");
        Ok(())
    }

    /// Two observations with opposite codes are, together, the prior.
    #[test]
    fn the_average_over_the_batch_may_be_the_prior_while_no_observation_is() -> Result<()> {
        let logits = Tensor::new(&[[[[9., 0.]], [[0., 9.]]]], &Device::Cpu)?;
        let q = Discrete::from(&Categorical::from_logits(&logits)?);
        let p = Discrete::uniform_like(&q)?;
        let of = |batch_prior| {
            let (bound, bounds) =
                value(&GuardedElbo { beta: 1., free_nats: 0., batch_prior }, &q, &p)?;
            Ok::<_, candle_core::Error>((bound.to_vec1::<f64>()?[0] + 3., bounds))
        };
        let (none, half, all) = (of(0.)?, of(0.5)?, of(1.)?);
        assert!(all.0.abs() < 1e-12 && none.0 < -0.6 && (half.0 - none.0 / 2.).abs() < 1e-12);
        assert_eq!((none.1, all.1), (BoundOf::DiscreteModel, BoundOf::Nothing));
        Ok(())
    }
}
