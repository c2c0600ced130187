//! ARMS: any number of antithetic copies.
use candle_core::Result;
use gumbel_kernels::Key;

use super::antithetic::{Weights, surrogate};
use super::{Estimator, Objective, Program, Surrogate};

/// ARMS: leave-one-out among `n` bits that avoid each other, freed of the bias that their dependence brings.
///
/// With copies `b_i` from a Dirichlet copula, of which each is 1 with probability `p`, `ρ < 0` the correlation of two,
/// and `f̄` the mean of `f` over them, the gradient in the logit of a bit is:
///
/// ```math
/// \frac{1}{(n - 1)(1 - \rho)} \sum_{i=1}^{n} \bigl(f(b_i) - \bar f\bigr) (b_i - p)
/// ```
///
/// **Unbiased**. Two copies make [`DisArm`](super::DisArm); independent ones would make
/// [`LeaveOneOut`](super::LeaveOneOut). `n` runs of the model for each sample of the bound. For sites that are
/// not bits with shared logits see [`Arm`](super::Arm).
///
/// Source: Dimitriev and Zhou (2021), "ARMS", theorem 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arms {
    /// Number of samples `S` of the bound.
    pub samples: usize,
    /// Antithetic copies `n ≥ 2` of each.
    pub copies: usize,
}

impl Estimator for Arms {
    fn surrogate(
        &self,
        program: &Program<'_>,
        objective: &dyn Objective,
        key: Key,
    ) -> Result<Surrogate> {
        surrogate((self.copies, self.samples), Weights::Arms, program, objective, key)
    }

    fn is_unbiased(&self) -> bool {
        true
    }

    fn bibtex(&self) -> &'static str {
        include_str!("bibtex/arms.bib")
    }
}
