//! The estimator of deep autoregressive networks.
use candle_core::Result;
use gumbel_kernels::Key;

use super::leaves::Leaves;
use super::signal::score;
use super::{Estimator, Independent, Objective, Program, RunningMoments, Surrogate, Trace};

/// DARN: a score function whose signal is a first-order estimate of `f(z) - f(z̄)`, with `z̄` in the middle.
///
/// The baseline is the expansion of `f` around the draw, taken at `z̄ = 1/2` for bits and `1/K` for one-hot
/// vectors, so that the signal is `f'(z) · (z - z̄)`. **Biased**, because this baseline depends on the draw
/// and the correction for that is left out; exact for bits if `f` is quadratic in each of them.
///
/// Source: Gregor, Danihelka, Mnih, Blundell, Wierstra (2014); for categories, Jang et al. (2017), section 3.2.
#[derive(Clone, Debug)]
pub struct Darn {
    /// Number of samples `S`.
    pub samples: usize,
    /// Baseline, and scale of the learning signal.
    pub moments: RunningMoments,
}

impl Estimator for Darn {
    fn surrogate(
        &self,
        program: &Program<'_>,
        objective: &dyn Objective,
        key: Key,
    ) -> Result<Surrogate> {
        let mut inner = Independent { samples: self.samples };
        let mut leaves = Leaves::of(&mut inner);
        let (log_px, sites) = Trace::run(program, &mut leaves, key)?;
        let bound = objective.bound(&objective.log_weights(&log_px, &sites)?)?;
        let slopes = leaves.gradients(&bound)?;
        let latent: Vec<_> = sites.iter().filter(|site| !site.is_observed()).collect();
        let mut signals = Vec::with_capacity(latent.len());
        for (site, slope) in latent.iter().zip(&slopes) {
            let middle = 1. / site.posterior.categories() as f64;
            let step = (site.draw.value.detach() - middle)?;
            signals.push((step * slope)?.flatten_from(2)?.sum(2)?);
        }
        let centred = self.moments.apply(&signals)?;
        let mut gain = bound.clone();
        for (site, signal) in latent.iter().zip(&centred.signals) {
            gain = gain.broadcast_add(&score(site, signal)?)?;
        }
        let surrogate = Surrogate::new(&gain, &bound, &log_px, sites)?;
        Ok(surrogate.with_statistics(centred.statistics))
    }

    fn is_unbiased(&self) -> bool {
        false
    }

    fn bibtex(&self) -> &'static str {
        include_str!("bibtex/darn.bib")
    }
}
