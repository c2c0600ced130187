//! Centring and scaling of learning signals by their running moments.
use std::borrow::Cow;

use candle_core::{DType, Device, Result, Tensor, Var};
use serde::{Deserialize, Serialize};

use super::jacobian::scaled_gradient;
use super::{Objective, SiteDraw, Store};

/// How learning signals are centred and scaled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SignalConfig {
    /// Whether the moving average is subtracted.
    pub centred: bool,
    /// Whether the gradient in the posteriors is divided by the signal's running standard deviation where that is above
    /// 1. Of the surrogate only: another loss on the same network, as a classifier's, weighs as much more beside it.
    pub scaled: bool,
    /// Weight of the past in the moving averages.
    pub decay: f64,
}

impl Default for SignalConfig {
    fn default() -> Self {
        Self { centred: true, scaled: false, decay: 0.9 }
    }
}

impl SignalConfig {
    /// Centred and scaled.
    pub(crate) fn scaled() -> Self {
        Self { scaled: true, ..Self::default() }
    }
}

/// How a score-function estimator centres and scales its learning signals.
///
/// The moments are those of the signals *before* this step, so that centring leaves the gradient unbiased.
/// Scaling divides by `max(1, σ)`, which is a choice of step size: what is estimated is the gradient over that
/// number (Mnih and Gregor 2014, section 2.3). It is all of the gradient in the posteriors that is divided, that
/// of a divergence in closed form included: were only the signals, the divergence would outweigh them by `σ` and
/// the posterior collapse to the prior. The signal is that of one sample, which for the ELBO is its share `log w / S`: more
/// samples reach the threshold later.
#[derive(Clone, Debug, Default)]
pub struct RunningMoments {
    /// `[3]`: decayed sums of the signal, of its square, and of 1. Absent: signals stay as they are.
    statistics: Option<Var>,
    config: SignalConfig,
}

/// Learning signals after centring and scaling, and the moments to go on with.
pub(crate) struct Centred {
    pub(crate) signals: Vec<Tensor>,
    /// What the signals were multiplied by.
    pub(crate) factor: f64,
    pub(crate) statistics: Vec<(Var, Tensor)>,
}

impl RunningMoments {
    /// Signals stay as they are.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Signals are centred and scaled as `config` says; the moving averages are in `store`.
    ///
    /// # Errors
    /// If the decay is not in `[0, 1)`.
    pub fn new(config: SignalConfig, store: &mut dyn Store) -> Result<Self> {
        let SignalConfig { centred, scaled, decay } = config;
        if !(0. ..1.).contains(&decay) {
            candle_core::bail!("the decay of a moving average is in [0, 1), got {decay}")
        }
        if !centred && !scaled {
            return Ok(Self::none());
        }
        let zeros = Tensor::zeros(3, DType::F64, &Device::Cpu)?;
        Ok(Self { statistics: Some(store.statistic("signal_moments", &zeros)?), config })
    }

    /// Whether the estimate is divided by a number.
    #[must_use]
    pub(crate) fn is_scaled(&self) -> bool {
        self.statistics.is_some() && self.config.scaled
    }

    /// Mean and standard deviation so far; 0 and 1 at the start.
    fn current(&self) -> Result<(f64, f64)> {
        let sums = match &self.statistics {
            Some(statistics) => statistics.to_vec1::<f64>()?,
            None => vec![],
        };
        Ok(match *sums.as_slice() {
            [sum, squares, weight] if weight > 0. => {
                let mean = sum / weight;
                (mean, (squares / weight - mean * mean).max(0.).sqrt())
            }
            _ => (0., 1.),
        })
    }

    /// What centring subtracts.
    pub(crate) fn centre(&self) -> Result<f64> {
        Ok(if self.config.centred { self.current()?.0 } else { 0. })
    }

    /// What signals are multiplied by.
    fn factor(&self) -> Result<f64> {
        Ok(if self.is_scaled() { 1. / self.current()?.1.max(1.) } else { 1. })
    }

    /// Log-weights whose gradient in the posteriors is multiplied as the signals are, and their bound.
    pub(crate) fn weigh(
        &self,
        objective: &dyn Objective,
        log_px: &Tensor,
        sites: &[SiteDraw],
    ) -> Result<(Tensor, Tensor)> {
        let log_w = objective.log_weights(log_px, &self.scale_posterior_gradients(sites)?)?;
        let bound = objective.bound(&log_w)?;
        Ok((log_w, bound))
    }

    /// The sites, for a log-weight whose gradient in the posteriors is multiplied as the signals are.
    fn scale_posterior_gradients<'a>(&self, sites: &'a [SiteDraw]) -> Result<Cow<'a, [SiteDraw]>> {
        let factor = self.factor()?;
        if factor == 1. {
            return Ok(Cow::Borrowed(sites));
        }
        let scaled = sites.iter().map(|site| {
            let posterior = scaled_gradient(&site.posterior, factor)?;
            Ok(SiteDraw { posterior, ..site.clone() })
        });
        scaled.collect::<Result<_>>().map(Cow::Owned)
    }

    /// Centres and scales the signals `[S, B]` of each site.
    pub(crate) fn apply(&self, signals: &[Tensor]) -> Result<Centred> {
        let (centre, factor) = (self.centre()?, self.factor()?);
        let centred = signals.iter().map(|signal| signal.affine(factor, -centre * factor));
        Ok(Centred {
            signals: centred.collect::<Result<_>>()?,
            factor,
            statistics: self.next(signals)?,
        })
    }

    /// The moving averages after a step with these signals, as they were before centring.
    pub(crate) fn next(&self, signals: &[Tensor]) -> Result<Vec<(Var, Tensor)>> {
        let Some(statistics) = &self.statistics else { return Ok(vec![]) };
        let (mut sum, mut squares) = (0., 0.);
        for signal in signals {
            let signal = signal.detach().to_dtype(DType::F64)?;
            let share = 1. / signals.len() as f64;
            sum += share * signal.mean_all()?.to_scalar::<f64>()?;
            squares += share * signal.sqr()?.mean_all()?.to_scalar::<f64>()?;
        }
        let decay = self.config.decay;
        let new = Tensor::new(&[sum, squares, 1.], statistics.device())?;
        let next = ((statistics.as_detached_tensor() * decay)? + new * (1. - decay))?;
        Ok(vec![(statistics.clone(), next)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributions::Categorical;
    use crate::estimators::{
        Divergence, Estimator, Independent, MuProp, Nvil, Reinforce, Surrogate, Trace, Variables,
    };
    use crate::objectives::Elbo;
    use gumbel_kernels::Key;

    /// The direction of the gradient in the posterior, its divergence included, is not changed by a scale.
    #[test]
    fn scaling_divides_all_of_the_gradient_in_the_posterior() -> Result<()> {
        let uniform = Key::from_seed(1).uniform((1, 5, 2, 3), DType::F64, &Device::Cpu)?;
        let logits = Var::from_tensor(&uniform)?;
        let program = |trace: &mut Trace<'_>| {
            let q = Categorical::from_logits(logits.as_tensor())?;
            let z = trace.sample("z", &q, &Categorical::uniform_like(&q)?)?;
            let weights = Tensor::new(&[1., -50., 100.], &Device::Cpu)?;
            z.broadcast_mul(&weights)?.sum(3)?.sum(2)?.sqr()
        };
        let config = SignalConfig { centred: false, scaled: true, decay: 0.9 };
        let moments = RunningMoments::new(config, &mut Variables::default())?;
        let sites = Trace::run(&program, &mut Independent { samples: 2 }, Key::from_seed(2))?.1;
        let estimator = |moments: RunningMoments| -> Result<Vec<Box<dyn Estimator>>> {
            let mut store = Variables::default();
            let key = Key::from_seed(3);
            Ok(vec![
                Box::new(Reinforce { samples: 2, moments: moments.clone() }),
                Box::new(MuProp { samples: 2, moments: moments.clone() }),
                Box::new(Nvil::new(2, moments, 4, &sites, &mut store, key)?),
            ])
        };
        let [plain, scaled] = [estimator(RunningMoments::none())?, estimator(moments.clone())?];
        for divergence in [Divergence::Analytic, Divergence::Sampled] {
            let elbo = Elbo { divergence, beta: 1. };
            let run = |e: &dyn Estimator| e.surrogate(&program, &elbo, Key::from_seed(4));
            let gradient = |surrogate: &Surrogate| -> Result<Vec<f64>> {
                let grads = surrogate.loss.backward()?;
                grads.get(logits.as_tensor()).unwrap().flatten_all()?.to_vec1()
            };
            for (plain, scaled) in plain.iter().zip(&scaled) {
                run(&**scaled)?.update_statistics()?;
                let factor = moments.factor()?;
                assert!(factor < 0.1, "the signals do not vary: {factor}");
                let [plain, scaled] = [run(&**plain)?, run(&**scaled)?];
                assert_eq!(plain.bound.to_vec1::<f64>()?, scaled.bound.to_vec1::<f64>()?);
                for (plain, scaled) in gradient(&plain)?.iter().zip(gradient(&scaled)?) {
                    assert!(
                        (plain * factor - scaled).abs() < 1e-12 * plain.abs().max(1.),
                        "{divergence:?}"
                    );
                }
            }
        }
        Ok(())
    }
}
