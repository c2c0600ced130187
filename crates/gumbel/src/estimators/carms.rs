//! CARMS: antithetic copies of classes.
use candle_core::Result;
use gumbel_kernels::Key;

use super::antithetic::{Weights, surrogate};
use super::{Estimator, Objective, Program, Surrogate};

/// CARMS: leave-one-out among `n` classes that avoid each other, freed of bias by importance weights.
///
/// With the joint law `P` of two copies, the gradient in the logits of each variable is:
///
/// ```math
/// \frac{1}{n (n - 1)} \sum_{i < j} R_{ij} \bigl(f(z_i) - f(z_j)\bigr) (z_i - z_j), \qquad
/// R_{ij} = \frac{q(z_i)\, q(z_j)}{P(z_i, z_j)}
/// ```
///
/// **Unbiased**. The copies of a variable come from a Dirichlet copula on its cumulative probabilities, in one of the
/// cyclic orders of its categories that put each pair at the two ends once, so that every pair can occur. For bits it
/// is [`Arms`](super::Arms). Variables of more
/// than 16 categories seldom repeat a class, and are drawn independently, which makes it
/// [`LeaveOneOut`](super::LeaveOneOut); so are sites whose law depends on earlier latents, as described at
/// [`Arm`](super::Arm).
///
/// Source: Dimitriev and Zhou (2021), "CARMS".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carms {
    /// Number of samples `S` of the bound.
    pub samples: usize,
    /// Antithetic copies `n ≥ 2` of each.
    pub copies: usize,
}

impl Estimator for Carms {
    fn surrogate(
        &self,
        program: &Program<'_>,
        objective: &dyn Objective,
        key: Key,
    ) -> Result<Surrogate> {
        surrogate((self.copies, self.samples), Weights::Carms, program, objective, key)
    }

    fn is_unbiased(&self) -> bool {
        true
    }

    fn bibtex(&self) -> &'static str {
        include_str!("bibtex/carms.bib")
    }
}
