//! Control variates made of relaxed draws: what REBAR and RELAX share.
use candle_core::{DType, Result, Tensor, Var};
use gumbel_kernels::{Key, log_softmax, sigmoid};

use super::network::Network;
use super::replay::Replay;
use super::signal::{along_logits, score, score_in_logits, sum_to};
use super::site::{latent, of_site};
use super::{
    Independent, Objective, Program, RunningMoments, SignalConfig, Site, SiteDraw, Store,
    Surrogate, Trace,
};
use crate::distributions::{
    Discrete, conditional_gumbel, conditional_gumbel_weight, conditional_logistic,
    conditional_logistic_slope, positive,
};

/// Distance in `ln τ` at which the variance is compared, to know its slope.
const STEP: f64 = 0.05;

/// The learned parts of one site.
#[derive(Clone, Debug)]
struct Parts {
    site: Site,
    /// Weight `η` of the relaxed control variate, a scalar.
    scale: Tensor,
    /// `ln τ`, a scalar.
    log_temperature: Tensor,
    network: Option<Network>,
}

/// Estimates the gradient with a relaxed control variate for each site.
#[derive(Clone, Debug)]
pub(crate) struct RelaxedControl {
    samples: usize,
    /// Centre what is left of the signal; a constant shift is no control variate's business.
    moments: RunningMoments,
    parts: Vec<Parts>,
}

/// The run that is differentiated, and what it is made of.
struct Run<'a> {
    program: &'a Program<'a>,
    objective: &'a dyn Objective,
    key: Key,
    samples: usize,
    latent: Vec<&'a SiteDraw>,
}

/// `h` at one relaxed value of a site: its learning signal `[S, B]`, and the derivative of its bound in the
/// logits of the site, in their shape. Detached.
struct Relaxed {
    signal: Tensor,
    slope: Tensor,
}

/// The control variate at one temperature: the signal of the value conditional on the draw, and the slope
/// of the free value less that of the conditional one.
struct Pair {
    signal: Tensor,
    slope: Tensor,
}

impl RelaxedControl {
    pub(crate) fn new(
        samples: usize,
        temperature: f64,
        sites: &[SiteDraw],
        store: &mut dyn Store,
        mut network: impl FnMut(&SiteDraw, &mut dyn Store) -> Result<Option<Network>>,
    ) -> Result<Self> {
        positive("temperature", temperature)?;
        let mut parts = Vec::new();
        for site in latent(sites) {
            let logits = site.posterior.logits();
            let scalar = |x: f64| Tensor::new(x, logits.device())?.to_dtype(logits.dtype());
            let path = site.site.path();
            parts.push(Parts {
                site: site.site.clone(),
                scale: store.parameter(&format!("{path}.scale"), &scalar(1.)?)?,
                log_temperature: store
                    .parameter(&format!("{path}.log_temperature"), &scalar(temperature.ln())?)?,
                network: network(site, store)?,
            });
        }
        let moments = RunningMoments::new(SignalConfig::default(), store)?;
        Ok(Self { samples, moments, parts })
    }

    fn parts_of(&self, site: &SiteDraw) -> Result<&Parts> {
        of_site(&self.parts, |parts| &parts.site, site)
    }

    pub(crate) fn surrogate(
        &self,
        program: &Program<'_>,
        objective: &dyn Objective,
        key: Key,
    ) -> Result<Surrogate> {
        let samples = self.samples;
        let (log_px, sites) = Trace::run(program, &mut Independent { samples }, key)?;
        let log_w = objective.log_weights(&log_px, &sites)?;
        let bound = objective.bound(&log_w)?;
        let signal = objective.learning_signal(&log_w.detach())?;
        let latent: Vec<&SiteDraw> = latent(&sites).collect();
        let run = Run { program, objective, key, samples, latent };
        let centre = self.moments.centre()?;
        let centred = (signal - centre)?;
        let (mut gain, mut auxiliary, mut signals) = (bound.clone(), Vec::new(), Vec::new());
        for (index, site) in run.latent.iter().enumerate() {
            let estimate = run.estimate(index, self.parts_of(site)?, &centred)?;
            gain = gain.broadcast_add(&score(site, &estimate.signal)?)?;
            let path = along_logits(site, &estimate.path, bound.dim(0)?)?;
            gain = gain.broadcast_add(&path)?;
            auxiliary.push(estimate.auxiliary);
            signals.push((estimate.signal + centre)?);
        }
        let auxiliary = Tensor::stack(&auxiliary, 0)?.sum_all()?;
        drop(run);
        let surrogate = Surrogate::new(&gain, &bound, &log_px, sites)?;
        surrogate.with_statistics(self.moments.next(&signals)?).with_auxiliary(&auxiliary)
    }
}

/// What one site adds to the loss.
struct Estimate {
    /// What the score is multiplied by, `[S, B]`.
    signal: Tensor,
    /// What the logits are multiplied by, in their shape.
    path: Tensor,
    /// The squared size of the site's gradient, as a function of the learned parts: a scalar.
    auxiliary: Tensor,
}

impl Run<'_> {
    fn estimate(&self, index: usize, parts: &Parts, signal: &Tensor) -> Result<Estimate> {
        let site = self.latent[index];
        let log_temperature = parts.log_temperature.detach().to_dtype(DType::F64)?;
        let log_temperature = log_temperature.to_scalar::<f64>()?;
        let at = |shift: f64| self.pair(index, (log_temperature + shift).exp());
        let Pair { signal: relaxed, slope } = at(0.)?;
        let mut total = signal.broadcast_sub(&relaxed.broadcast_mul(&parts.scale)?)?;
        let mut path = slope.broadcast_mul(&parts.scale)?;
        let mut network = None;
        if let Some(net) = &parts.network {
            let (value, gradient) = self.network(site, net)?;
            total = (total - &value)?;
            path = (path + &gradient)?;
            network = Some((value.detach(), gradient.detach()));
        }
        let squared_size = |total: &Tensor, path: &Tensor| {
            let batch = signal.dim(1)? as f64;
            // The moving average follows η and τ only slowly; what it has not caught up with is not variance.
            let total = if total.elem_count() > 1 {
                total.broadcast_sub(&total.mean_all()?)?
            } else {
                total.clone()
            };
            (score_in_logits(site, &total)? + path)?.sqr()?.sum_all()? / batch
        };
        let mut auxiliary = squared_size(&total, &path)?;
        // No graph leads from the estimate to its temperature: a difference stands in for it.
        let scale = parts.scale.detach();
        let size_at = |shift| {
            let Pair { signal: relaxed, slope } = at(shift)?;
            let mut total = signal.broadcast_sub(&relaxed.broadcast_mul(&scale)?)?;
            let mut path = slope.broadcast_mul(&scale)?;
            if let Some((value, gradient)) = &network {
                (total, path) = ((total - value)?, (path + gradient)?);
            }
            squared_size(&total, &path)
        };
        let slope = ((size_at(STEP)? - size_at(-STEP)?)? / (2. * STEP))?;
        auxiliary = (auxiliary + (slope * &parts.log_temperature)?)?;
        Ok(Estimate { signal: total.detach(), path: path.detach(), auxiliary })
    }

    fn pair(&self, index: usize, temperature: f64) -> Result<Pair> {
        let free = self.relaxed(index, temperature, false)?;
        let conditional = self.relaxed(index, temperature, true)?;
        Ok(Pair { signal: conditional.signal, slope: (free.slope - conditional.slope)? })
    }

    /// Runs the program with relaxed values of one site and of later ones.
    fn relaxed(&self, index: usize, temperature: f64, conditional: bool) -> Result<Relaxed> {
        let site = self.latent[index];
        let logits = Var::from_tensor(&site.posterior.logits().detach())?;
        let scores = (self.perturbed(site, logits.as_tensor(), conditional)? / temperature)?;
        let value = match site.posterior {
            Discrete::Bernoulli(_) => sigmoid(&scores)?,
            Discrete::Categorical(_) => log_softmax(&scores)?.exp()?,
        };
        let mut replay = Replay::new(&self.latent[..index], value, self.samples, temperature);
        let (log_px, sites) = Trace::run(self.program, &mut replay, self.key)?;
        let log_w = self.objective.log_weights(&log_px, &sites)?;
        let grads = self.objective.bound(&log_w)?.sum_all()?.backward()?;
        let slope = match grads.get(logits.as_tensor()) {
            Some(slope) => slope.detach(),
            None => logits.as_detached_tensor().zeros_like()?,
        };
        Ok(Relaxed { signal: self.objective.learning_signal(&log_w.detach())?, slope })
    }

    /// `logits + noise`: with the noise of the draw, or given the draw with fresh noise.
    fn perturbed(&self, site: &SiteDraw, logits: &Tensor, conditional: bool) -> Result<Tensor> {
        let value = site.draw.value.detach();
        let noise = self.noise(site, conditional)?;
        match (&site.posterior, conditional) {
            (_, false) => noise.broadcast_add(logits),
            (Discrete::Bernoulli(_), true) => conditional_logistic(logits, &value, &noise),
            (Discrete::Categorical(_), true) => conditional_gumbel(logits, &value, &noise),
        }
    }

    fn noise(&self, site: &SiteDraw, conditional: bool) -> Result<Tensor> {
        let key = site.site.key(self.key);
        let key = if conditional { key.named("conditional") } else { key };
        let value = &site.draw.value;
        match site.posterior {
            Discrete::Bernoulli(_) => key.logistic(value.shape(), value.dtype(), value.device()),
            Discrete::Categorical(_) => key.gumbel(value.shape(), value.dtype(), value.device()),
        }
    }

    /// What the network adds: its value at the conditional perturbed logits, `[S, B]`, and the derivative of
    /// its free less its conditional value in the logits. Differentiable in the network.
    fn network(&self, site: &SiteDraw, network: &Network) -> Result<(Tensor, Tensor)> {
        let logits = site.posterior.logits().detach();
        let draw = site.draw.value.detach();
        let (_, free) = network.value_and_gradient(&self.perturbed(site, &logits, false)?)?;
        let given = self.perturbed(site, &logits, true)?;
        let (value, slope) = network.value_and_gradient(&given)?;
        let noise = self.noise(site, true)?;
        let conditional = match site.posterior {
            Discrete::Bernoulli(_) => {
                (slope * conditional_logistic_slope(&logits, &draw, &noise)?)?
            }
            Discrete::Categorical(_) => {
                let weight = conditional_gumbel_weight(&logits, &draw, &noise)?;
                let shared = (&slope * (1. - &weight)?)?.sum_keepdim(3)?;
                let probs = site.posterior.probs()?.detach();
                ((slope * weight)? + shared.broadcast_mul(&probs)?)?
            }
        };
        Ok((value, sum_to(&(free - conditional)?, &logits)?))
    }
}
