//! A relaxation with Gaussian noise.
use candle_core::Result;
use gumbel_kernels::Key;

use super::{Draw, Measure, Pathwise, Sampler, Site};
use crate::distributions::{Discrete, Relaxed, StickBreakingGaussian, positive};

/// Invertible Gaussian reparameterisation, by stick-breaking: a relaxed draw from Gaussian noise.
///
/// Gaussian numbers whose signs have exactly the law of `q` ([`StickBreakingGaussian`]) break a stick smoothly, at
/// temperature `τ`; as `τ → 0` the value is a draw of `q`. **Biased** for `τ > 0`, as
/// [`GumbelSoftmax`](super::GumbelSoftmax). With a sampled divergence the objective is a bound of the relaxed
/// model, in Gaussian coordinates and of less variance than with Concrete densities. The categories are not
/// treated alike: the earlier ones decide first.
///
/// A model with Gaussian parameters of its own takes
/// [`InvertibleGaussian`](crate::distributions::InvertibleGaussian) itself, whose divergence is closed.
///
/// Source: Potapczynski, Loaiza-Ganem, Cunningham (2020), section 4.2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InvertibleGaussianReparameterisation {
    /// Number of samples `S`.
    pub samples: usize,
    /// Temperature of the sticks.
    pub temperature: f64,
}

impl Sampler for InvertibleGaussianReparameterisation {
    fn draw(&mut self, _: &Site, q: &Discrete, key: Key) -> Result<Draw> {
        let temperature = positive("temperature", self.temperature)?;
        let posterior = StickBreakingGaussian::of(q)?;
        let value = posterior.relaxed(&posterior.rsample(self.samples, key)?, temperature)?;
        let measure = Measure::Relaxed {
            posterior: Relaxed::StickBreaking(posterior),
            prior_temperature: temperature.into(),
            samples: self.samples,
            key,
        };
        Ok(Draw { value, measure })
    }
}

impl Pathwise for InvertibleGaussianReparameterisation {
    const BIBTEX: &'static str = include_str!("bibtex/invertible-gaussian.bib");
}
