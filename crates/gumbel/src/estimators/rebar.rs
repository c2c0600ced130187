//! REBAR.
use candle_core::Result;
use gumbel_kernels::Key;

use super::relaxed_control::RelaxedControl;
use super::{Estimator, Objective, Program, SiteDraw, Store, Surrogate};

/// REBAR: a score function whose control variate is the relaxed model itself, tuned as training goes on.
///
/// With `z` the relaxed value of a site and `z̃` one drawn given the discrete draw `b`, both at temperature
/// `τ`, the gradient in the site's logits is:
///
/// ```math
/// \bigl[f(b) - \eta f(\tilde z)\bigr] \nabla \log q(b) + \eta \nabla f(z) - \eta \nabla f(\tilde z)
/// ```
///
/// **Unbiased** for every `η` and `τ`.
///
/// Sites that depend on each other are handled layer by layer: the relaxed value of a site enters a run of its
/// own, in which earlier sites keep their draws and later ones are relaxed with the noise that they were drawn with. `η` and
/// `τ` of each site descend the squared size of the gradient in its logits, whose slope in `τ` is taken by a
/// difference. What is left of the signal is centred by a moving average. Six runs of the model for each site,
/// forward and backward.
///
/// Source: Tucker, Mnih, Maddison, Lawson, Sohl-Dickstein (2017), eq. 7 and section 3.2.
#[derive(Clone, Debug)]
pub struct Rebar(RelaxedControl);

impl Rebar {
    /// For the sites that a first run visited, with `η = 1` and `τ = temperature` to start with.
    ///
    /// # Errors
    /// If `temperature` is not positive and finite, or `store` refuses a parameter.
    pub fn new(
        samples: usize,
        temperature: f64,
        sites: &[SiteDraw],
        store: &mut dyn Store,
    ) -> Result<Self> {
        RelaxedControl::new(samples, temperature, sites, store, |_, _| Ok(None)).map(Self)
    }
}

impl Estimator for Rebar {
    fn surrogate(
        &self,
        program: &Program<'_>,
        objective: &dyn Objective,
        key: Key,
    ) -> Result<Surrogate> {
        self.0.surrogate(program, objective, key)
    }

    fn is_unbiased(&self) -> bool {
        true
    }

    fn bibtex(&self) -> &'static str {
        include_str!("bibtex/rebar.bib")
    }
}
