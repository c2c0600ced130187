//! DisARM, also known as the U2G estimator.
use candle_core::Result;
use gumbel_kernels::Key;

use super::antithetic::{Weights, surrogate};
use super::{Estimator, Objective, Program, Surrogate};

/// DisARM (U2G): ARM with the uniform numbers integrated out, given the pair of draws.
///
/// The gradient in the logit `l` of each bit is:
///
/// ```math
/// \frac{1}{2} \bigl(f(b_1) - f(b_2)\bigr) (b_1 - b_2)\, \sigma(|l|)
/// ```
///
/// **Unbiased**, and never of more variance than [`Arm`](super::Arm). Two runs of the model for each sample. For sites
/// that are not bits with shared logits see there.
///
/// Source: Dong, Mnih, Tucker (2020), eq. 5; Yin, Ho, Yan, Qian, Zhou (2020), U2G.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DisArm {
    /// Number of samples `S` of the bound, each with an antithetic one.
    pub samples: usize,
}

impl Estimator for DisArm {
    fn surrogate(
        &self,
        program: &Program<'_>,
        objective: &dyn Objective,
        key: Key,
    ) -> Result<Surrogate> {
        // For two copies the weight of ARMS is that of DisARM.
        surrogate((2, self.samples), Weights::Arms, program, objective, key)
    }

    fn is_unbiased(&self) -> bool {
        true
    }

    fn bibtex(&self) -> &'static str {
        include_str!("bibtex/disarm.bib")
    }
}
