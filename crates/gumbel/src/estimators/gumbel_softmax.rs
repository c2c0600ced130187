//! Gumbel-Softmax / Concrete: train on the relaxed variable itself.
use candle_core::Result;
use gumbel_kernels::{Forward, Key, gumbel_sigmoid, gumbel_softmax, sigmoid};

use super::{Draw, Measure, Pathwise, Sampler, Site};
use crate::distributions::{Discrete, Temperature};

/// Gumbel-Softmax (Concrete): replaces each draw by a relaxed one, and differentiates it.
///
/// With Gumbel noise `G` and logistic noise `L`, in the place of a one-hot vector and of a bit stand:
///
/// ```math
/// \operatorname{softmax}\Bigl(\frac{\mathrm{logits} + G}{\tau}\Bigr)
/// \qquad \text{and} \qquad
/// \sigma\Bigl(\frac{\mathrm{logits} + L}{\tau}\Bigr)
/// ```
///
/// The gradient is exact for the relaxed model, and so **biased** for the discrete one; the bias shrinks and the
/// variance grows as `τ → 0`.
///
/// With [`Divergence::Sampled`](super::Divergence::Sampled) the objective uses the densities of the relaxed
/// posterior at `temperature` and of the relaxed prior at `prior_temperature`, and is a bound of the
/// relaxed model.
///
/// Source: Jang, Gu, Poole (2017), section 2; Maddison, Mnih, Teh (2017), section 3 and eq. 20.
#[derive(Clone, Debug)]
pub struct GumbelSoftmax {
    /// Number of samples `S`.
    pub samples: usize,
    /// Temperature of the posterior: a number, or a tensor that may be learned.
    pub temperature: Temperature,
    /// Temperature of the prior, where its density is used.
    pub prior_temperature: Temperature,
}

impl GumbelSoftmax {
    /// Posterior and prior at one temperature.
    pub fn new(samples: usize, temperature: impl Into<Temperature>) -> Self {
        let temperature = temperature.into();
        Self { samples, prior_temperature: temperature.clone(), temperature }
    }
}

impl Sampler for GumbelSoftmax {
    fn draw(&mut self, _: &Site, posterior: &Discrete, key: Key) -> Result<Draw> {
        self.prior_temperature.check()?;
        let samples = self.samples;
        let value = match (posterior, &self.temperature) {
            (Discrete::Categorical(q), Temperature::Fixed(temperature)) => {
                gumbel_softmax(q.logits(), samples, *temperature, Forward::Soft, key)?
            }
            (Discrete::Categorical(q), learned) => {
                q.relax(learned.clone())?.rsample(samples, key)?.exp()?
            }
            (Discrete::Bernoulli(q), Temperature::Fixed(temperature)) => {
                gumbel_sigmoid(q.logits(), samples, *temperature, Forward::Soft, key)?
            }
            (Discrete::Bernoulli(q), learned) => {
                sigmoid(&q.relax(learned.clone())?.rsample(samples, key)?)?
            }
        };
        let measure = Measure::Relaxed {
            posterior: posterior.relax(self.temperature.clone())?,
            prior_temperature: self.prior_temperature.clone(),
            samples,
            key,
        };
        Ok(Draw { value, measure })
    }
}

impl Pathwise for GumbelSoftmax {
    const BIBTEX: &'static str = include_str!("bibtex/gumbel-softmax.bib");
}
