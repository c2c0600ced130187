//! Estimators over the course of a training run.
use candle_core::{DType, Result, Tensor};
use gumbel_kernels::{Key, SparseMap};

use super::{
    Arm, Arms, Carms, Darn, DecoupledStraightThroughGumbelSoftmax, DisArm, DoubleControlVariates,
    Enumerate, Estimator, GappedStraightThrough, GumbelRao, GumbelSoftmax, GumbelSparse,
    Independent, InvertibleGaussianReparameterisation, LeaveOneOut, Method, MuProp, Nvil, Program,
    Rebar, ReinMax, ReinMaxRao, Reinforce, Relax, Rodeo, RunningMoments, SiteDraw,
    SlopeAnnealedStraightThrough, Store, StraightThrough, StraightThroughGumbelSoftmax,
    SumAndSample, Trace, Zgr,
};
use crate::Schedule;
use crate::distributions::Temperature;

/// A [`Method`] with its learned parts: gives the estimator of each step.
pub struct ScheduledEstimator {
    at: Box<dyn Fn(u64) -> Box<dyn Estimator>>,
    temperature: Option<Posterior>,
}

/// The temperature of the posterior.
#[derive(Clone, Debug)]
enum Posterior {
    Scheduled(Schedule),
    /// `ln τ`, a parameter.
    Learned(Tensor),
}

impl std::fmt::Debug for ScheduledEstimator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ScheduledEstimator").field(&self.at(0)).finish()
    }
}

impl ScheduledEstimator {
    /// The estimator at a training step.
    #[must_use]
    pub fn at(&self, step: u64) -> Box<dyn Estimator> {
        (self.at)(step)
    }

    /// The posterior's temperature at a step, of an estimator that has one.
    pub fn temperature_at(&self, step: u64) -> Result<Option<f64>> {
        match &self.temperature {
            None => Ok(None),
            Some(Posterior::Scheduled(schedule)) => Ok(Some(schedule.at(step))),
            Some(Posterior::Learned(log)) => {
                Ok(Some(log.detach().to_dtype(DType::F64)?.to_scalar::<f64>()?.exp()))
            }
        }
    }
}

/// An estimator for each step.
fn each<E: Estimator + 'static>(at: impl Fn(u64) -> E + 'static) -> ScheduledEstimator {
    ScheduledEstimator { at: Box::new(move |step| Box::new(at(step))), temperature: None }
}

/// The same estimator at every step.
fn always<E: Estimator + Clone + 'static>(estimator: E) -> ScheduledEstimator {
    each(move |_| estimator.clone())
}

impl Method {
    /// The estimator, whose learned parts are made for the sites that `program` visits, and kept in `store`.
    ///
    /// The program runs once; any batch will do. Initial values come from `key`.
    ///
    /// # Errors
    /// If the program fails, or a setting is outside its range.
    pub fn build(
        &self,
        program: &Program<'_>,
        store: &mut dyn Store,
        key: Key,
    ) -> Result<ScheduledEstimator> {
        self.check().map_err(candle_core::Error::msg)?;
        let (_, sites) = Trace::run(program, &mut Independent { samples: 1 }, key)?;
        let scheduled = self.posterior_temperature().map(Posterior::Scheduled);
        let estimator = match self.pathwise().or_else(|| self.discrete()) {
            Some(estimator) => estimator,
            None => self.learned(&sites, store, key)?,
        };
        // Of learned temperatures only the estimator knows.
        let temperature = estimator.temperature.clone().or(scheduled);
        Ok(ScheduledEstimator { temperature, ..estimator })
    }

    /// The estimator at a training step, of a method that learns nothing and keeps no statistics; none for others.
    #[must_use]
    pub fn stateless_at(&self, step: u64) -> Option<Box<dyn Estimator>> {
        Some(self.pathwise().or_else(|| self.discrete())?.at(step))
    }

    /// Relaxed and straight-through estimators, at each step's temperature.
    fn pathwise(&self) -> Option<ScheduledEstimator> {
        Some(match *self {
            Self::GumbelSoftmax {
                samples,
                temperature,
                prior_temperature,
                learned_temperature: false,
            } => {
                let prior = prior_temperature.unwrap_or(temperature);
                each(move |step| GumbelSoftmax {
                    samples,
                    temperature: temperature.at(step).into(),
                    prior_temperature: prior.at(step).into(),
                })
            }
            Self::StraightThroughGumbelSoftmax { samples, temperature } => each(move |step| {
                let temperature = temperature.at(step);
                StraightThroughGumbelSoftmax { samples, temperature }
            }),
            Self::StraightThrough { samples } => always(StraightThrough { samples }),
            Self::SlopeAnnealedStraightThrough { samples, slope } => {
                each(move |step| SlopeAnnealedStraightThrough { samples, slope: slope.at(step) })
            }
            Self::DecoupledStraightThroughGumbelSoftmax {
                samples,
                forward_temperature,
                backward_temperature,
            } => each(move |step| DecoupledStraightThroughGumbelSoftmax {
                samples,
                forward_temperature: forward_temperature.at(step),
                backward_temperature: backward_temperature.at(step),
            }),
            Self::GappedStraightThrough { samples, temperature, gap } => each(move |step| {
                GappedStraightThrough { samples, temperature: temperature.at(step), gap }
            }),
            Self::GumbelRao { samples, temperature, draws } => {
                each(move |step| GumbelRao { samples, temperature: temperature.at(step), draws })
            }
            Self::GumbelSparsemax { samples, temperature } => {
                sparse(samples, temperature, SparseMap::Sparsemax)
            }
            Self::GumbelEntmax { samples, temperature } => {
                sparse(samples, temperature, SparseMap::Entmax15)
            }
            Self::InvertibleGaussian { samples, temperature } => each(move |step| {
                InvertibleGaussianReparameterisation { samples, temperature: temperature.at(step) }
            }),
            Self::Zgr { samples } => always(Zgr { samples }),
            Self::ReinMax { samples, temperature } => {
                each(move |step| ReinMax { samples, temperature: temperature.at(step) })
            }
            Self::ReinMaxRao { samples, temperature, draws } => {
                each(move |step| ReinMaxRao { samples, temperature: temperature.at(step), draws })
            }
            Self::Darn { samples } => always(Darn { samples }),
            _ => return None,
        })
    }

    /// Estimators on discrete draws that learn nothing.
    fn discrete(&self) -> Option<ScheduledEstimator> {
        Some(match *self {
            Self::LeaveOneOut { samples } => always(LeaveOneOut { samples }),
            Self::Arm { samples } => always(Arm { samples }),
            Self::DisArm { samples } => always(DisArm { samples }),
            Self::Arms { samples, copies } => always(Arms { samples, copies }),
            Self::Carms { samples, copies } => always(Carms { samples, copies }),
            Self::SumAndSample { classes } => always(SumAndSample { classes }),
            Self::Enumerate { samples } => always(Enumerate { samples }),
            _ => return None,
        })
    }

    /// Estimators with learned parts.
    fn learned(
        &self,
        sites: &[SiteDraw],
        store: &mut dyn Store,
        key: Key,
    ) -> Result<ScheduledEstimator> {
        Ok(match *self {
            Self::GumbelSoftmax {
                samples,
                temperature,
                prior_temperature,
                learned_temperature: true,
            } => {
                let start = temperature.at(0);
                let log = store.parameter("log_temperature", &like_logits(start.ln(), sites)?)?;
                learned_temperature(samples, &log, prior_temperature)
            }
            Self::Reinforce { samples, signal } => {
                always(Reinforce { samples, moments: RunningMoments::new(signal, store)? })
            }
            Self::Nvil { samples, signal, hidden } => {
                let moments = RunningMoments::new(signal, store)?;
                always(Nvil::new(samples, moments, hidden, sites, store, key)?)
            }
            Self::MuProp { samples, signal } => {
                always(MuProp { samples, moments: RunningMoments::new(signal, store)? })
            }
            Self::Rebar { samples, temperature } => {
                always(Rebar::new(samples, temperature, sites, store)?)
            }
            Self::Relax { samples, temperature, hidden } => {
                always(Relax::new(samples, temperature, hidden, sites, store, key)?)
            }
            Self::DoubleControlVariates { samples } => {
                always(DoubleControlVariates::new(samples, sites, store)?)
            }
            Self::Rodeo { samples, hidden } => {
                always(Rodeo::new(samples, hidden, sites, store, key)?)
            }
            _ => candle_core::bail!("{self:?} has no learned parts"),
        })
    }
}

fn sparse(samples: usize, temperature: Schedule, map: SparseMap) -> ScheduledEstimator {
    each(move |step| GumbelSparse { samples, temperature: temperature.at(step), map })
}

/// Gumbel-Softmax at `τ = e^{log}`; the prior follows, unless it has a schedule of its own.
fn learned_temperature(
    samples: usize,
    log: &Tensor,
    prior: Option<Schedule>,
) -> ScheduledEstimator {
    let parameter = log.clone();
    let posterior = move || match parameter.exp() {
        Ok(temperature) => Temperature::Tensor(temperature),
        // What a failed operation leaves is refused where the temperature is used.
        Err(_) => Temperature::Fixed(f64::NAN),
    };
    let estimator = each(move |step| {
        let temperature = posterior();
        let prior_temperature =
            prior.map_or_else(|| temperature.clone(), |prior| prior.at(step).into());
        GumbelSoftmax { samples, temperature, prior_temperature }
    });
    ScheduledEstimator { temperature: Some(Posterior::Learned(log.clone())), ..estimator }
}

/// A scalar of the kind of the first site's logits.
fn like_logits(x: f64, sites: &[SiteDraw]) -> Result<Tensor> {
    match sites.first() {
        Some(site) => {
            let logits = site.posterior.logits();
            Tensor::new(x, logits.device())?.to_dtype(logits.dtype())
        }
        None => candle_core::bail!("the program drew no latent: there is nothing to estimate"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributions::Categorical;
    use crate::estimators::Variables;
    use crate::objectives::Elbo;
    use candle_core::Device;

    fn build(text: &str, store: &mut Variables) -> Result<ScheduledEstimator> {
        let method: Method = toml::from_str(text).map_err(candle_core::Error::msg)?;
        method.build(&program, store, Key::from_seed(1))
    }

    fn program(trace: &mut Trace<'_>) -> Result<Tensor> {
        let logits = Key::from_seed(5).normal((1, 4, 2, 3), DType::F32, &Device::Cpu)?;
        let q = Categorical::from_logits(&logits)?;
        trace.sample("z", &q, &Categorical::uniform_like(&q)?)?.sqr()?.sum((2, 3))
    }

    #[test]
    fn a_schedule_reaches_the_estimator() -> Result<()> {
        let text = "method = \"straight-through-gumbel-softmax\"\n\
                    temperature = { kind = \"linear\", start = 1.0, end = 0.5, steps = 10 }";
        let estimator = build(text, &mut Variables::default())?;
        assert_eq!(estimator.temperature_at(10)?, Some(0.5));
        assert!(format!("{:?}", estimator.at(5)).contains("0.75"));
        Ok(())
    }

    #[test]
    fn a_learned_temperature_has_a_gradient() -> Result<()> {
        let mut store = Variables::default();
        let text = "method = \"gumbel-softmax\"\ntemperature = 0.5\nlearned_temperature = true";
        let estimator = build(text, &mut store)?;
        assert!((estimator.temperature_at(7)?.unwrap() - 0.5).abs() < 1e-6);
        let surrogate = estimator.at(7).surrogate(&program, &Elbo::default(), Key::from_seed(2))?;
        let grads = surrogate.loss.backward()?;
        let gradient = grads.get(store.parameters["log_temperature"].as_tensor()).unwrap();
        // A colder sample is nearer to a corner, and its square longer.
        assert!(gradient.to_scalar::<f32>()? > 0.);
        Ok(())
    }

    #[test]
    fn learned_parts_are_named_after_their_sites() -> Result<()> {
        for (method, names) in [
            ("nvil", &["z.0.bias", "z.0.constant", "z.0.output", "z.0.weight"][..]),
            ("rebar", &["z.0.log_temperature", "z.0.scale"]),
            ("rodeo\"\nsamples = 2 #\"", &["z.0.bias", "z.0.output", "z.0.slope", "z.0.weight"]),
            ("reinforce", &[]),
        ] {
            let mut store = Variables::default();
            let estimator = build(&format!("method = \"{method}\""), &mut store)?;
            assert_eq!(store.parameters.keys().collect::<Vec<_>>(), names);
            let key = Key::from_seed(3);
            let surrogate = estimator.at(0).surrogate(&program, &Elbo::default(), key)?;
            let grads = surrogate.loss.backward()?;
            assert!(store.parameters.values().all(|var| grads.get(var.as_tensor()).is_some()));
        }
        Ok(())
    }
}
