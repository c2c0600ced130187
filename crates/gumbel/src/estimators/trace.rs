//! The conversation between a model and an estimator.
use std::borrow::Cow;

use candle_core::{Result, Tensor};
use gumbel_kernels::{Key, compute_dtype};

use super::Program;
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
pub enum Divergence {
    /// Closed-form `KL(q ‖ p)` of the *discrete* distributions. Under a relaxed draw the sum with the
    /// likelihood is not a bound of any model (Maddison et al. 2017, appendix C, eq. 22).
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
}

impl SiteDraw {
    /// The site's share of a log-weight, `[S | 1, B]` in nats: `-KL(q ‖ p)` or `log p(z) - log q(z)`;
    /// `log p(z)` of an observed site, 0 of one without a prior.
    pub fn log_ratio(&self, divergence: Divergence) -> Result<Tensor> {
        let Some(prior) = &self.prior else {
            let value = &self.draw.value;
            return Tensor::zeros((1, value.dim(1)?), value.dtype(), value.device());
        };
        match (&self.draw.measure, divergence) {
            (Measure::Observed, _) => prior.log_prob(&self.draw.value),
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

/// How an estimator answers a request for a latent.
pub trait Sampler {
    /// Draws `site` from `posterior` with the noise that `key` names.
    fn draw(&mut self, site: &Site, posterior: &Discrete, key: Key) -> Result<Draw>;
}

/// Independent discrete samples.
#[derive(Clone, Copy, Debug)]
pub struct Independent {
    /// Number of samples `S`.
    pub samples: usize,
}

impl Sampler for Independent {
    fn draw(&mut self, _: &Site, posterior: &Discrete, key: Key) -> Result<Draw> {
        Ok(Draw { value: posterior.sample(self.samples, key)?, measure: Measure::Discrete })
    }
}

/// One run of a program: the model asks it for latents, a [`Sampler`] answers, the sites are recorded.
pub struct Trace<'a> {
    sampler: &'a mut dyn Sampler,
    key: Key,
    sites: Vec<SiteDraw>,
    /// Sites whose prior is still to come.
    open: Vec<Site>,
}

impl std::fmt::Debug for Trace<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trace").field("sites", &self.sites).finish_non_exhaustive()
    }
}

impl<'a> Trace<'a> {
    /// Runs `program` with `sampler`: `log p(x | z): [S, B]` in nats, and the sites it visited.
    ///
    /// # Errors
    /// If the program fails, uses a site twice, or does not return a matrix.
    pub fn run(
        program: &Program<'_>,
        sampler: &'a mut dyn Sampler,
        key: Key,
    ) -> Result<(Tensor, Vec<SiteDraw>)> {
        let mut trace = Trace { sampler, key, sites: Vec::new(), open: Vec::new() };
        let log_px = program(&mut trace)?;
        if let Some(site) = trace.open.first() {
            candle_core::bail!("site `{}` has no prior; call `prior` for it", site.path())
        }
        if log_px.rank() != 2 {
            candle_core::bail!(
                "a program returns log p(x|z) of shape [S, B], got {:?}; sum over the event",
                log_px.shape()
            )
        }
        Ok((log_px.to_dtype(compute_dtype(log_px.dtype()))?, trace.sites))
    }

    /// Draws `site ~ posterior`, whose prior is `prior`: `[S, B, N]` of bits, `[S, B, N, K]` of one-hot
    /// vectors, in the dtype of the posterior's logits.
    ///
    /// # Errors
    /// If the site was visited before in this run.
    pub fn sample(
        &mut self,
        site: impl Into<Site>,
        posterior: impl Into<Discrete>,
        prior: impl Into<Discrete>,
    ) -> Result<Tensor> {
        let prior = prior.into().in_compute_dtype();
        self.draw(site.into(), posterior.into(), Some(prior))
    }

    /// [`Self::sample`] where the prior depends on sites that come later, as in a model of several layers whose
    /// inference starts at the data; [`Self::prior`] has to follow.
    ///
    /// # Errors
    /// If the site was visited before in this run.
    pub fn infer(
        &mut self,
        site: impl Into<Site>,
        posterior: impl Into<Discrete>,
    ) -> Result<Tensor> {
        let site = site.into();
        let value = self.draw(site.clone(), posterior.into(), None)?;
        self.open.push(site);
        Ok(value)
    }

    /// The prior of a site that [`Self::infer`] has drawn.
    ///
    /// # Errors
    /// If there is no such site without a prior.
    pub fn prior(&mut self, site: impl Into<Site>, prior: impl Into<Discrete>) -> Result<()> {
        let site = site.into();
        let drawn = self.sites.iter_mut().find(|drawn| drawn.site == site);
        match (self.open.iter().position(|open| *open == site), drawn) {
            (Some(place), Some(drawn)) => {
                self.open.swap_remove(place);
                drawn.prior = Some(prior.into().in_compute_dtype());
                Ok(())
            }
            _ => candle_core::bail!("site `{}` does not wait for a prior", site.path()),
        }
    }

    /// Draws `site ~ law` where the model itself draws and nothing is inferred: what is maximised is the expectation
    /// over it, and the site adds nothing to the log-weight.
    ///
    /// # Errors
    /// If the site was visited before in this run.
    pub fn generate(&mut self, site: impl Into<Site>, law: impl Into<Discrete>) -> Result<Tensor> {
        self.draw(site.into(), law.into(), None)
    }

    fn draw(&mut self, site: Site, posterior: Discrete, prior: Option<Discrete>) -> Result<Tensor> {
        let dtype = posterior.dtype();
        // Half precision is for the model: samplers, weights and estimates compute in single precision.
        let posterior = posterior.in_compute_dtype();
        let key = site.key(self.key);
        let draw = self.sampler.draw(&site, &posterior, key)?;
        self.record(SiteDraw { site, posterior, prior, draw })?.to_dtype(dtype)
    }

    /// A site whose value is known: adds `log p(value)` to the log-weight and returns the value.
    ///
    /// # Errors
    /// If the site was visited before in this run.
    pub fn observe(
        &mut self,
        site: impl Into<Site>,
        prior: impl Into<Discrete>,
        value: &Tensor,
    ) -> Result<Tensor> {
        let prior = prior.into().in_compute_dtype();
        let wide = value.to_dtype(compute_dtype(value.dtype()))?;
        let draw = Draw { value: wide, measure: Measure::Observed };
        self.record(SiteDraw {
            site: site.into(),
            posterior: prior.clone(),
            prior: Some(prior),
            draw,
        })?;
        Ok(value.clone())
    }

    fn record(&mut self, site: SiteDraw) -> Result<Tensor> {
        if self.sites.iter().any(|other| other.site == site.site) {
            let Site { name, index } = &site.site;
            candle_core::bail!(
                "site `{name}` (index {index}) was visited twice; give each draw its own index"
            )
        }
        let value = site.draw.value.clone();
        self.sites.push(site);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributions::Bernoulli;
    use candle_core::{DType, Device};

    fn fair(b: usize) -> Result<Bernoulli> {
        Bernoulli::from_logits(&Tensor::zeros((1, b, 2), DType::F64, &Device::Cpu)?)
    }

    #[test]
    fn the_noise_of_a_site_does_not_depend_on_the_other_sites() -> Result<()> {
        let key = Key::from_seed(1);
        let alone = Trace::run(
            &|t| t.sample("b", &fair(9)?, &fair(9)?)?.sum(2),
            &mut Independent { samples: 3 },
            key,
        )?;
        let second = Trace::run(
            &|t| {
                t.sample("a", &fair(9)?, &fair(9)?)?;
                t.sample("b", &fair(9)?, &fair(9)?)?.sum(2)
            },
            &mut Independent { samples: 3 },
            key,
        )?;
        assert_eq!(alone.0.to_vec2::<f64>()?, second.0.to_vec2::<f64>()?);
        Ok(())
    }

    #[test]
    fn an_observed_site_adds_its_log_probability() -> Result<()> {
        let value = Tensor::ones((1, 3, 2), DType::F64, &Device::Cpu)?;
        let (_, sites) = Trace::run(
            &|t| t.observe("y", &fair(3)?, &value)?.sum(2),
            &mut Independent { samples: 1 },
            Key::from_seed(1),
        )?;
        for divergence in [Divergence::Analytic, Divergence::Sampled] {
            let ratio = sites[0].log_ratio(divergence)?.to_vec2::<f64>()?;
            assert!(ratio[0].iter().all(|r| (r + 2. * 2f64.ln()).abs() < 1e-14), "{ratio:?}");
        }
        assert!(sites[0].log_q()?.is_none());
        Ok(())
    }

    #[test]
    fn a_site_visited_twice_and_a_result_that_is_no_matrix_are_errors() -> Result<()> {
        let twice = Trace::run(
            &|t| {
                t.sample("z", &fair(1)?, &fair(1)?)?;
                t.sample("z", &fair(1)?, &fair(1)?)?.sum(2)
            },
            &mut Independent { samples: 1 },
            Key::from_seed(1),
        );
        assert!(twice.unwrap_err().to_string().contains("`z`"));
        let shape = Trace::run(
            &|t| t.sample(("z", 1), &fair(1)?, &fair(1)?),
            &mut Independent { samples: 1 },
            Key::from_seed(1),
        );
        assert!(shape.unwrap_err().to_string().contains("[S, B]"));
        Ok(())
    }
}
