//! Augment-REINFORCE-merge.
use candle_core::Result;
use gumbel_kernels::Key;

use super::antithetic::{Weights, surrogate};
use super::{Estimator, Objective, Program, Surrogate};

/// ARM: the difference of the bound at two antithetic draws of the bits, times `u - 1/2`.
///
/// With one uniform `u` for each bit, the gradient in its logit `l` is:
///
/// ```math
/// \bigl(f(b_1) - f(b_2)\bigr) \Bigl(u - \frac{1}{2}\Bigr), \qquad
/// b_1 = \mathbf{1}[u > \sigma(-l)], \quad b_2 = \mathbf{1}[u < \sigma(l)]
/// ```
///
/// **Unbiased**. Two runs of the model for each sample.
///
/// For bits whose logits are shared by the samples. Bits whose law depends on earlier latents, and one-hot
/// vectors, are drawn independently and take the score function with the other draw as baseline, which is
/// unbiased, too.
///
/// Source: Yin and Zhou (2019), theorem 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arm {
    /// Number of samples `S` of the bound, each with an antithetic one.
    pub samples: usize,
}

impl Estimator for Arm {
    fn surrogate(
        &self,
        program: &Program<'_>,
        objective: &dyn Objective,
        key: Key,
    ) -> Result<Surrogate> {
        surrogate((2, self.samples), Weights::Arm, program, objective, key)
    }

    fn is_unbiased(&self) -> bool {
        true
    }

    fn bibtex(&self) -> &'static str {
        include_str!("bibtex/arm.bib")
    }
}
