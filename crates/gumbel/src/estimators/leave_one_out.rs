//! Score functions with leave-one-out baselines: RLOO and VIMCO.
use candle_core::{Result, Tensor};
use gumbel_kernels::Key;

use super::others::{at_least_two, mean_of_other_weights};
use super::signal::{bound_with_replaced, total_log_q};
use super::{Estimator, Independent, Objective, Program, Surrogate, Trace};

/// The score-function estimator in which every sample's baseline is made of the other samples.
///
/// The learning signal of sample `j` is the bound, less what it is with `log w_j` replaced by the mean of the others:
///
/// ```math
/// \mathrm{bound}(\log w_1, \dots, \log w_S)
/// - \mathrm{bound}\Bigl(\dots, \log w_{j-1},\, \frac{1}{S - 1} \sum_{i \ne j} \log w_i,\, \log w_{j+1}, \dots\Bigr)
/// ```
///
/// The second part does not depend on sample `j`, which leaves the gradient **unbiased**. With the ELBO this is RLOO,
/// `(log w_j - mean of the others) / S`; with the multi-sample bound it is VIMCO with the geometric mean: one rule, two
/// bounds.
///
/// Source: Kool, van Hoof, Welling (2019), "Buy 4 REINFORCE samples, get a baseline for free"; Mnih and
/// Rezende (2016), "Variational inference for Monte Carlo objectives", eq. 10.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaveOneOut {
    /// Number of samples `S ≥ 2`.
    pub samples: usize,
}

impl Estimator for LeaveOneOut {
    fn surrogate(
        &self,
        program: &Program<'_>,
        objective: &dyn Objective,
        key: Key,
    ) -> Result<Surrogate> {
        at_least_two("leave-one-out", self.samples)?;
        let (log_px, sites) = Trace::run(program, &mut Independent { samples: self.samples }, key)?;
        let log_w = objective.log_weights(&log_px, &sites)?;
        let bound = objective.bound(&log_w)?;
        let signal = learning_signal(&log_w.detach(), &bound.detach(), objective)?;
        let gain = (&bound + (signal * total_log_q(&sites)?)?.sum(0)?)?;
        Surrogate::new(&gain, &bound, &log_px, sites)
    }

    fn is_unbiased(&self) -> bool {
        true
    }

    fn bibtex(&self) -> &'static str {
        include_str!("bibtex/leave-one-out.bib")
    }
}

/// `bound(log w) - bound(log w without s)` for each sample: `[S, B]` from `log w: [S, B]`.
pub(crate) fn learning_signal(
    log_w: &Tensor,
    bound: &Tensor,
    objective: &dyn Objective,
) -> Result<Tensor> {
    let without = bound_with_replaced(log_w, &mean_of_other_weights(log_w)?, objective)?;
    Ok(bound.detach().unsqueeze(0)?.broadcast_sub(&without)?.detach())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objectives::{Elbo, Iwae};
    use candle_core::Device;

    #[test]
    fn an_impossible_draw_leaves_every_signal_a_number() -> Result<()> {
        let log_w = Tensor::new(&[[f64::NEG_INFINITY], [-1.], [-2.]], &Device::Cpu)?;
        let bound = Iwae.bound(&log_w)?;
        let signal = learning_signal(&log_w, &bound, &Iwae)?.flatten_all()?.to_vec1::<f64>()?;
        assert!(signal.iter().all(|x| x.is_finite()) && signal[0] < 0., "{signal:?}");
        Ok(())
    }

    #[test]
    fn the_signal_is_that_of_rloo_and_of_vimco() -> Result<()> {
        let log_w = Tensor::new(&[[1f64, -2.], [3., 0.5], [-1., 4.]], &Device::Cpu)?;
        let rows = log_w.to_vec2::<f64>()?;
        for iwae in [false, true] {
            let objective: &dyn Objective = if iwae { &Iwae } else { &Elbo::default() };
            let bound = objective.bound(&log_w)?;
            let signal = learning_signal(&log_w, &bound, objective)?.to_vec2::<f64>()?;
            for b in 0..2 {
                let w: Vec<f64> = rows.iter().map(|r| r[b]).collect();
                let value = |w: &[f64]| {
                    if iwae {
                        (w.iter().map(|w| w.exp()).sum::<f64>() / 3.).ln()
                    } else {
                        w.iter().sum::<f64>() / 3.
                    }
                };
                for j in 0..3 {
                    let mut without = w.clone();
                    without[j] = (w.iter().sum::<f64>() - w[j]) / 2.;
                    assert!((signal[j][b] - (value(&w) - value(&without))).abs() < 1e-12);
                }
            }
        }
        Ok(())
    }
}
