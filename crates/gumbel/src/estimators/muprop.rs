//! MuProp: a score function with a Taylor expansion of the mean-field network as control variate.
use candle_core::{Result, Tensor};
use gumbel_kernels::Key;

use super::leaves::Leaves;
use super::signal::score;
use super::site::latent;
use super::{
    Draw, Estimator, Independent, Measure, Objective, Program, RunningMoments, Sampler, Site,
    Surrogate, Trace,
};
use crate::distributions::Discrete;

/// MuProp: subtracts from the signal the first-order expansion of `f` around the mean-field values, and adds
/// its gradient back, which is known.
///
/// With `z̄` the values of a run in which every latent is replaced by its probabilities, and `c_i` the total derivative
/// there, later layers included, the signal of site `i` is:
///
/// ```math
/// f(z) - f(\bar z) - \sum_{j \le i} c_j \cdot (z_j - \bar z_j), \qquad c_i = \frac{d f(\bar z)}{d \bar z_i}
/// ```
///
/// Its correction is `c_i · ∇ E[z_i | earlier latents]`. **Unbiased**, because the coefficients do not depend on the
/// draw (up to a factor where signals are scaled). One more run of the model, forward and backward, for all samples
/// together.
///
/// Source: Gu, Levine, Sutskever, Mnih (2016), eq. 10 and section 3.2.
#[derive(Clone, Debug)]
pub struct MuProp {
    /// Number of samples `S`.
    pub samples: usize,
    /// Baseline, and scale of the learning signal.
    pub moments: RunningMoments,
}

/// Replaces every draw by its expectation.
#[derive(Default)]
struct MeanField;

impl Sampler for MeanField {
    fn draw(&mut self, _: &Site, q: &Discrete, _: Key) -> Result<Draw> {
        Ok(Draw { value: q.probs()?, measure: Measure::Discrete })
    }
}

/// A value, and the gradient in the value of each site, of the mean-field run.
struct Expansion {
    /// `[B]` in nats.
    value: Tensor,
    points: Vec<Tensor>,
    slopes: Vec<Tensor>,
}

fn expand(program: &Program<'_>, objective: &dyn Objective, key: Key) -> Result<Expansion> {
    let mut inner = MeanField;
    let mut leaves = Leaves::of(&mut inner);
    let (log_px, sites) = Trace::run(program, &mut leaves, key)?;
    let value = objective.log_weights(&log_px, &sites)?;
    let slopes = leaves.gradients(&value)?;
    let latent = latent(&sites);
    let points = latent.map(|site| site.draw.value.detach()).collect();
    Ok(Expansion { value: value.detach(), points, slopes })
}

impl Estimator for MuProp {
    fn surrogate(
        &self,
        program: &Program<'_>,
        objective: &dyn Objective,
        key: Key,
    ) -> Result<Surrogate> {
        let s = self.samples as f64;
        let (log_px, sites) = Trace::run(program, &mut Independent { samples: self.samples }, key)?;
        let (log_w, bound) = self.moments.weigh(objective, &log_px, &sites)?;
        let Expansion { value, points, slopes } = expand(program, objective, key)?;

        let shape = log_w.shape();
        let mut signal = objective.learning_signal(&log_w.detach())?;
        let at_mean = objective.learning_signal(&value.broadcast_as(shape)?.contiguous()?)?;
        signal = (signal - at_mean)?;
        let mut known = Vec::new();
        let mut signals = Vec::new();
        let latent: Vec<_> = latent(&sites).collect();
        for ((site, point), slope) in latent.iter().zip(&points).zip(&slopes) {
            let step = site.draw.value.broadcast_sub(point)?.broadcast_mul(slope)?;
            signal = signal.broadcast_sub(&(step.flatten_from(2)?.sum(2)? / s)?)?;
            signals.push(signal.clone());
            // The mean over samples of a site that has one law for all of them is that law's own.
            let mean = site.posterior.probs()?.broadcast_mul(slope)?;
            known.push(mean.flatten_from(2)?.sum(2)?.mean(0)?);
        }
        let centred = self.moments.apply(&signals)?;
        let mut gain = bound.clone();
        for ((site, signal), known) in latent.iter().zip(&centred.signals).zip(&known) {
            gain = gain.broadcast_add(&score(site, signal)?)?;
            gain = gain.broadcast_add(&(known * centred.factor)?)?;
        }
        let surrogate = Surrogate::new(&gain, &bound, &log_px, sites)?;
        Ok(surrogate.with_statistics(centred.statistics))
    }

    fn is_unbiased(&self) -> bool {
        !self.moments.is_scaled()
    }

    fn bibtex(&self) -> &'static str {
        include_str!("bibtex/muprop.bib")
    }
}
