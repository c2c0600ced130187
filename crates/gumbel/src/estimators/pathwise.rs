//! What estimators that differentiate through the draw have in common.
use candle_core::Result;
use gumbel_kernels::Key;

use super::{Estimator, Objective, Program, Sampler, Surrogate, Trace};

/// A sampler whose draws are differentiated as they stand: one run of the program, one backward pass.
///
/// Whoever implements it is an [`Estimator`]. Such a gradient is that of another function than the expected
/// discrete bound, and so **biased**.
pub trait Pathwise: Sampler + Clone + std::fmt::Debug {
    /// BibTeX of the papers to cite.
    const BIBTEX: &'static str;
}

impl<P: Pathwise> Estimator for P {
    fn surrogate(
        &self,
        program: &Program<'_>,
        objective: &dyn Objective,
        key: Key,
    ) -> Result<Surrogate> {
        let (log_px, sites) = Trace::run(program, &mut self.clone(), key)?;
        let bound = objective.bound(&objective.log_weights(&log_px, &sites)?)?;
        Surrogate::new(&bound, &bound, &log_px, sites)
    }

    fn is_unbiased(&self) -> bool {
        false
    }

    fn bibtex(&self) -> &'static str {
        P::BIBTEX
    }
}
