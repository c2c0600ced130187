//! The score-function estimator.
use candle_core::Result;
use gumbel_kernels::Key;

use super::signal::score;
use super::{Estimator, Independent, Objective, Program, RunningMoments, Surrogate, Trace};

/// REINFORCE: the score function, with a moving average as baseline.
///
/// With `f` the bound, or the sample's term of it where the bound is a sum over the samples, and `b` the average of
/// earlier steps:
///
/// ```math
/// \nabla\, \mathbb{E}_q[f(z)] = \mathbb{E}_q\bigl[\nabla f(z) + (f(z) - b)\, \nabla \log q(z)\bigr]
/// ```
///
/// **Unbiased** (up to a factor where signals are scaled), and of high variance: it asks nothing of the model.
///
/// Source: Williams (1992).
#[derive(Clone, Debug)]
pub struct Reinforce {
    /// Number of samples `S`.
    pub samples: usize,
    /// Baseline, and scale of the learning signal.
    pub moments: RunningMoments,
}

impl Estimator for Reinforce {
    fn surrogate(
        &self,
        program: &Program<'_>,
        objective: &dyn Objective,
        key: Key,
    ) -> Result<Surrogate> {
        let (log_px, sites) = Trace::run(program, &mut Independent { samples: self.samples }, key)?;
        let (log_w, bound) = self.moments.weigh(objective, &log_px, &sites)?;
        let signal = objective.learning_signal(&log_w.detach())?;
        let centred = self.moments.apply(&[signal])?;
        let mut gain = bound.clone();
        for (site, signal) in sites.iter().zip(centred.signals.iter().cycle()) {
            gain = gain.broadcast_add(&score(site, signal)?)?;
        }
        let surrogate = Surrogate::new(&gain, &bound, &log_px, sites)?;
        Ok(surrogate.with_statistics(centred.statistics))
    }

    fn is_unbiased(&self) -> bool {
        !self.moments.is_scaled()
    }

    fn bibtex(&self) -> &'static str {
        include_str!("bibtex/reinforce.bib")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributions::Bernoulli;
    use crate::estimators::{SignalConfig, Variables};
    use crate::objectives::Elbo;
    use candle_core::{DType, Device, Tensor};

    #[test]
    fn the_baseline_is_the_average_of_earlier_steps() -> Result<()> {
        let q = Bernoulli::from_logits(&Tensor::zeros((1, 4, 1), DType::F64, &Device::Cpu)?)?;
        let program = |t: &mut Trace<'_>| t.sample("z", &q, &q)?.sum(2)?.affine(0., 3.);
        let key = Key::from_seed(1);
        let config = SignalConfig { scaled: true, ..SignalConfig::default() };
        let moments = RunningMoments::new(config, &mut Variables::default())?;
        let estimator = Reinforce { samples: 1, moments };
        let elbo = Elbo::default();
        let first = estimator.surrogate(&program, &elbo, key)?;
        let again = estimator.surrogate(&program, &elbo, key)?;
        let loss = |s: &Surrogate| s.loss.to_scalar::<f64>();
        // Nothing moves until it is told to.
        assert_eq!(loss(&first)?, loss(&again)?);
        assert!((loss(&first)? - (3. * 2f64.ln() - 3.)).abs() < 1e-12);
        again.update_statistics()?;
        let second = estimator.surrogate(&program, &elbo, key)?;
        assert!((loss(&second)? + 3.).abs() < 1e-12, "the signal is its own average");
        let config = SignalConfig { decay: 1., ..config };
        assert!(RunningMoments::new(config, &mut Variables::default()).is_err());
        Ok(())
    }
}
