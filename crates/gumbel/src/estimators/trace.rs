//! The conversation between a model and an estimator.
use candle_core::{Result, Tensor};
use gumbel_kernels::{Key, compute_dtype};

use super::{Draw, Measure, Program, Site, SiteDraw};
use crate::distributions::Discrete;

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
    /// Names of continuous latents.
    continuous: Vec<Site>,
    /// Draws so far, of either kind.
    draws: usize,
    /// Sites whose prior is still to come, and the draws that there were with them.
    open: Vec<(Site, usize)>,
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
        let mut trace = Trace {
            sampler,
            key,
            sites: Vec::new(),
            continuous: Vec::new(),
            draws: 0,
            open: Vec::new(),
        };
        let log_px = program(&mut trace)?;
        if let Some((site, _)) = trace.open.first() {
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
        self.open.push((site, self.draws));
        Ok(value)
    }

    /// The prior of a site that [`Self::infer`] has drawn; if anything was drawn since, continuous latents included, the site is
    /// [coupled](SiteDraw::coupled) to that.
    ///
    /// # Errors
    /// If there is no such site without a prior.
    pub fn prior(&mut self, site: impl Into<Site>, prior: impl Into<Discrete>) -> Result<()> {
        let site = site.into();
        let drawn = self.sites.iter_mut().find(|drawn| drawn.site == site);
        match (self.open.iter().position(|(open, _)| *open == site), drawn) {
            (Some(place), Some(drawn)) => {
                let (_, draws) = self.open.swap_remove(place);
                drawn.prior = Some(prior.into().in_compute_dtype());
                drawn.coupled = self.draws > draws;
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

    /// Standard normal noise for a continuous latent that is named `site`: a model makes `mean + scale · noise` of it, and
    /// adds the latent's own share of the log-weight to what it returns. The same for every run with one key.
    ///
    /// # Errors
    /// If the site was visited before in this run.
    pub fn normal(&mut self, site: impl Into<Site>, like: &Tensor) -> Result<Tensor> {
        let site = site.into();
        self.check_new(&site)?;
        let noise = site.key(self.key).normal(like.shape(), like.dtype(), like.device())?;
        self.continuous.push(site);
        self.draws += 1;
        Ok(noise)
    }

    fn draw(&mut self, site: Site, posterior: Discrete, prior: Option<Discrete>) -> Result<Tensor> {
        let dtype = posterior.dtype();
        // Half precision is for the model: samplers, weights and estimates compute in single precision.
        let posterior = posterior.in_compute_dtype();
        let key = site.key(self.key);
        let draw = self.sampler.draw(&site, &posterior, key)?;
        self.draws += 1;
        self.record(SiteDraw { site, posterior, prior, draw, coupled: false })?.to_dtype(dtype)
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
            coupled: false,
        })?;
        Ok(value.clone())
    }

    /// An error if the site was visited before: its noise would be the same once more.
    fn check_new(&self, site: &Site) -> Result<()> {
        let visited = self.sites.iter().map(|visited| &visited.site).chain(&self.continuous);
        if visited.into_iter().any(|visited| visited == site) {
            let Site { name, index } = site;
            candle_core::bail!(
                "site `{name}` (index {index}) was visited twice; give each draw its own index"
            )
        }
        Ok(())
    }

    fn record(&mut self, site: SiteDraw) -> Result<Tensor> {
        self.check_new(&site.site)?;
        let value = site.draw.value.clone();
        self.sites.push(site);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributions::Bernoulli;
    use crate::estimators::{BoundOf, Divergence, Objective};
    use crate::objectives::Elbo;
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
        let like = Tensor::zeros((3, 1), DType::F64, &Device::Cpu)?;
        for both in [
            run(&|t| t.normal("z", &like).and_then(|_| t.normal("z", &like))),
            run(&|t| {
                t.normal("z", &like).and_then(|_| t.sample("z", &fair(1)?, &fair(1)?)?.sum(2))
            }),
            run(&|t| t.sample("z", &fair(1)?, &fair(1)?).and_then(|_| t.normal("z", &like))),
        ] {
            assert!(both.unwrap_err().to_string().contains("`z`"));
        }
        let shape = Trace::run(
            &|t| t.sample(("z", 1), &fair(1)?, &fair(1)?),
            &mut Independent { samples: 1 },
            Key::from_seed(1),
        );
        assert!(shape.unwrap_err().to_string().contains("[S, B]"));
        Ok(())
    }

    fn run(program: &Program<'_>) -> Result<(Tensor, Vec<SiteDraw>)> {
        Trace::run(program, &mut Independent { samples: 3 }, Key::from_seed(1))
    }

    #[test]
    fn a_prior_that_comes_later_is_the_prior() -> Result<()> {
        let (q, p) = (
            fair(9)?,
            Bernoulli::from_logits(&Tensor::ones((1, 1, 2), DType::F64, &Device::Cpu)?)?,
        );
        let (x, at_once) = run(&|t| t.sample("z", &q, &p)?.sum(2))?;
        let (y, later) = run(&|t| {
            let z = t.infer("z", &q)?;
            t.prior("z", &p)?;
            z.sum(2)
        })?;
        assert_eq!(x.to_vec2::<f64>()?, y.to_vec2::<f64>()?);
        for divergence in [Divergence::Analytic, Divergence::Sampled, Divergence::Mass] {
            let [a, b] = [&at_once, &later].map(|sites| sites[0].log_ratio(divergence));
            assert_eq!(a?.to_vec2::<f64>()?, b?.to_vec2::<f64>()?);
        }
        assert!(!later[0].coupled);
        Ok(())
    }

    #[test]
    fn a_prior_that_comes_after_other_draws_couples_its_site_to_them() -> Result<()> {
        let q = fair(1)?;
        let (_, sites) = run(&|t| {
            let z = t.infer("z", &q)?;
            t.infer("top", &q)?;
            t.prior("top", &q)?;
            t.prior("z", &q)?;
            z.sum(2)
        })?;
        assert_eq!([sites[0].coupled, sites[1].coupled], [true, false]);
        // A continuous latent couples as well; what is observed is no draw.
        let like = q.logits().clone();
        let (_, sites) = run(&|t| {
            let z = t.infer("z", &q)?;
            t.normal("w", &like)?;
            t.prior("z", &q)?;
            let last = t.infer("last", &q)?;
            t.observe("y", &q, &last.narrow(0, 0, 1)?)?;
            t.prior("last", &q)?;
            z.sum(2)
        })?;
        assert_eq!([sites[0].coupled, sites[1].coupled], [true, false]);
        Ok(())
    }

    #[test]
    fn a_prior_that_never_comes_or_belongs_to_nothing_is_an_error() -> Result<()> {
        let q = fair(1)?;
        let never = run(&|t| t.infer("z", &q)?.sum(2)).unwrap_err().to_string();
        assert!(never.contains("`z.0` has no prior"), "{never}");
        for wrong in [
            run(&|t| t.prior("z", &q).and_then(|()| t.sample("z", &q, &q)?.sum(2))),
            run(&|t| t.sample("z", &q, &q).and_then(|z| t.prior("z", &q).and(z.sum(2)))),
            run(&|t| t.generate("z", &q).and_then(|z| t.prior("z", &q).and(z.sum(2)))),
        ] {
            assert!(wrong.unwrap_err().to_string().contains("does not wait for a prior"));
        }
        Ok(())
    }

    #[test]
    fn noise_is_named_by_its_site() -> Result<()> {
        let like = Tensor::zeros((3, 9), DType::F64, &Device::Cpu)?;
        let noise = |name: &'static str| run(&|t| t.normal(name, &like))?.0.to_vec2::<f64>();
        assert_eq!(noise("a")?, noise("a")?);
        assert_ne!(noise("a")?, noise("b")?);
        Ok(())
    }

    #[test]
    fn a_draw_of_the_model_itself_weighs_nothing() -> Result<()> {
        let (_, sites) = run(&|t| t.generate("z", &fair(4)?)?.sum(2))?;
        for divergence in [Divergence::Analytic, Divergence::Sampled, Divergence::Mass] {
            assert_eq!(sites[0].log_ratio(divergence)?.to_vec2::<f64>()?, [[0.; 4]]);
        }
        assert!(sites[0].log_q()?.is_some());
        // Nor does the weight of a divergence that there is not say anything about the bound.
        let half = Elbo { beta: 0.5, ..Elbo::default() };
        assert_eq!(half.bounds(&sites), BoundOf::DiscreteModel);
        Ok(())
    }
}
