//! RELAX.
use candle_core::Result;
use gumbel_kernels::Key;

use super::network::Network;
use super::relaxed_control::RelaxedControl;
use super::{Estimator, Objective, Program, SiteDraw, Store, Surrogate};

/// RELAX: REBAR with a free-form control variate beside the relaxed model.
///
/// The control variate of a site is, of its perturbed logits `z`, which `σ_τ` relaxes at temperature `τ`:
///
/// ```math
/// \eta f(\sigma_\tau(z)) + r(z)
/// ```
///
/// `r` is a network with one hidden layer that starts at 0. **Unbiased** for every `η`, `τ` and `r`, which all descend
/// the squared size of the gradient in the site's logits; see [`Rebar`](super::Rebar) for dependent sites and the cost.
///
/// Source: Grathwohl, Choi, Wu, Roeder, Duvenaud (2018), section 3.
#[derive(Clone, Debug)]
pub struct Relax(RelaxedControl);

impl Relax {
    /// For the sites that a first run visited, with `η = 1`, `τ = temperature` and `hidden` units in each
    /// network.
    ///
    /// # Errors
    /// If `temperature` is not positive and finite, `hidden` is 0, or `store` refuses a parameter.
    pub fn new(
        samples: usize,
        temperature: f64,
        hidden: usize,
        sites: &[SiteDraw],
        store: &mut dyn Store,
        key: Key,
    ) -> Result<Self> {
        let network = |site: &SiteDraw, store: &mut dyn Store| {
            Network::new(site, hidden, store, key).map(Some)
        };
        RelaxedControl::new(samples, temperature, sites, store, network).map(Self)
    }
}

impl Estimator for Relax {
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
        concat!(include_str!("bibtex/relax.bib"), include_str!("bibtex/rebar.bib"))
    }
}
