//! A site of a model: its name, its laws, its draw and its share of a log-weight.
use std::borrow::Cow;

use candle_core::{Result, Tensor};
use gumbel_kernels::Key;

use crate::distributions::{Discrete, Relaxed, Temperature};

/// The name of a latent variable in a model, with an index where there are several of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Name given by the model.
    pub name: Cow<'static, str>,
    /// Position among the sites of that name: a layer, a time step.
    pub index: u64,
}

impl From<&'static str> for Site {
    fn from(name: &'static str) -> Self {
        Self { name: Cow::Borrowed(name), index: 0 }
    }
}

impl From<(&'static str, usize)> for Site {
    fn from((name, index): (&'static str, usize)) -> Self {
        Self { name: Cow::Borrowed(name), index: index as u64 }
    }
}

impl Site {
    /// `name.index`: the site's part of the name of a parameter.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}.{}", self.name, self.index)
    }

    /// The error of an estimator that has learned nothing for this site.
    pub(crate) fn unknown<T>(&self) -> Result<T> {
        candle_core::bail!(
            "site `{}` is new to the estimator, whose learned parts were made for other sites; build it with a \
             program that visits all sites",
            self.path()
        )
    }

    /// The key of this site's noise: it depends on the name, not on the order of the sites.
    #[must_use]
    pub fn key(&self, run: Key) -> Key {
        run.named(&self.name).fold_in(self.index)
    }
}

/// What a sampler hands out for a site.
#[derive(Clone, Debug)]
pub struct Draw {
    /// What the model sees: `[S, B, N]` of bits, `[S, B, N, K]` of one-hot vectors.
    pub value: Tensor,
    /// What kind of value that is, and so which measure its probability is taken under.
    pub measure: Measure,
}

/// The measure under which `log q` and `log p` of a draw are taken.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Measure {
    /// A discrete value (perhaps with a straight-through gradient): probability mass.
    Discrete,
    /// A relaxed value: density in (logit or log) coordinates. The densities are computed where an
    /// objective asks for them, by making the same noise again.
    Relaxed {
        /// Relaxed posterior.
        posterior: Relaxed,
        /// Temperature of the relaxed prior, where it has one.
        prior_temperature: Temperature,
        /// Number of samples `S`.
        samples: usize,
        /// Key of the noise.
        key: Key,
    },
    /// A value that is no draw of the posterior and has neither mass nor density that could be written
    /// down: only a divergence that does not ask for one can be used.
    Intractable,
    /// A value that was given: no posterior, no randomness.
    Observed,
}

/// How the divergence between posterior and prior enters a log-weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Divergence {
    /// Closed-form `KL(q ‖ p)` of the *discrete* distributions. Under a relaxed draw the sum with the
    /// likelihood is not a bound of any model (Maddison et al. 2017, appendix C, eq. 22).
    ///
    /// Of a [coupled](SiteDraw::coupled) site, whose prior depends on what was drawn given its own draw, only the
    /// entropy of `q` has a closed form: there it is `-H(q) - log p(z)`, with the mass of `p` at the draw.
    #[default]
    Analytic,
    /// `log q(z) - log p(z)` at the draw, under the measure it was drawn from: densities of relaxed draws
    /// (Maddison et al. 2017, eq. 20, a bound of the relaxed model), mass of discrete ones.
    Sampled,
    /// `log q(z) - log p(z)` with the *mass* of the discrete distributions, `Σ_k z_k log q_k`, even at a
    /// relaxed draw (Maddison et al. 2017, eq. 21). Then the sum with the likelihood is not a bound of any
    /// model; what some published "Concrete" baselines train. Of discrete draws it is [`Self::Sampled`].
    Mass,
}

/// A visited site: its laws and its draw.
#[derive(Clone, Debug)]
pub struct SiteDraw {
    /// Which site.
    pub site: Site,
    /// Posterior `q`, which it was drawn from; equal to the prior of an observed site.
    pub posterior: Discrete,
    /// Prior `p`; none where the draw is one of the model itself, not an inference.
    pub prior: Option<Discrete>,
    /// The draw.
    pub draw: Draw,
    /// Whether further sites were drawn before the prior was told, as in a model of several layers: draws that may depend on
    /// this one and that the prior may depend on. `KL(q ‖ p)` would pair them with values they do not belong to.
    pub coupled: bool,
}

impl SiteDraw {
    /// The site's share of a log-weight, `[S | 1, B]` in nats, by [`Divergence`]: `-KL(q ‖ p)` or `log p(z) - log q(z)`;
    /// `log p(z)` of an observed site, 0 of one without a prior.
    pub fn log_ratio(&self, divergence: Divergence) -> Result<Tensor> {
        let Some(prior) = &self.prior else {
            let value = &self.draw.value;
            return Tensor::zeros((1, value.dim(1)?), value.dtype(), value.device());
        };
        match (&self.draw.measure, divergence) {
            (Measure::Observed, _) => prior.log_prob(&self.draw.value),
            (_, Divergence::Analytic) if self.coupled => {
                prior.log_prob(&self.draw.value)?.broadcast_add(&self.posterior.entropy()?)
            }
            (_, Divergence::Analytic) => self.posterior.kl(prior)?.neg(),
            (Measure::Discrete, _)
            | (Measure::Relaxed { .. } | Measure::Intractable, Divergence::Mass) => {
                let log_p = prior.log_prob(&self.draw.value)?;
                log_p.broadcast_sub(&self.posterior.log_prob(&self.draw.value)?)
            }
            (
                Measure::Relaxed { posterior, prior_temperature, samples, key },
                Divergence::Sampled,
            ) => {
                let prior = posterior.prior(prior, prior_temperature)?;
                let (coordinates, log_q) = posterior.rsample_with_log_density(*samples, *key)?;
                prior.log_density(&coordinates)? - log_q
            }
            (Measure::Intractable, Divergence::Sampled) => candle_core::bail!(
                "the draw of site `{}` has no density under this estimator; use the analytic divergence",
                self.site.path()
            ),
        }
    }

    /// Whether the value was given, not drawn.
    #[must_use]
    pub fn is_observed(&self) -> bool {
        matches!(self.draw.measure, Measure::Observed)
    }

    /// Whether the value is no draw of the discrete posterior.
    #[must_use]
    pub fn is_relaxed(&self) -> bool {
        matches!(self.draw.measure, Measure::Relaxed { .. } | Measure::Intractable)
    }

    /// `log q(z)` of the discrete draw in nats, `[S, B]`: what a score function differentiates.
    ///
    /// # Errors
    /// If the draw is relaxed.
    pub fn log_q(&self) -> Result<Option<Tensor>> {
        match self.draw.measure {
            Measure::Observed => Ok(None),
            Measure::Discrete => self.posterior.log_prob(&self.draw.value).map(Some),
            Measure::Relaxed { .. } | Measure::Intractable => {
                candle_core::bail!(
                    "site `{}` was drawn relaxed: it has no probability mass",
                    self.site.name
                )
            }
        }
    }
}
/// The sites that are drawn and not given.
pub(crate) fn latent(sites: &[SiteDraw]) -> impl Iterator<Item = &SiteDraw> {
    sites.iter().filter(|site| !site.is_observed())
}

/// What an estimator has for `site`, of `all` that it has.
///
/// # Errors
/// If the site was not there when the estimator was made.
pub(crate) fn of_site<'a, T>(
    all: &'a [T],
    name: impl Fn(&T) -> &Site,
    site: &SiteDraw,
) -> Result<&'a T> {
    all.iter().find(|one| *name(one) == site.site).map_or_else(|| site.site.unknown(), Ok)
}
