//! Straight-through Gumbel-Softmax.
use candle_core::Result;
use gumbel_kernels::{Forward, Key, gumbel_sigmoid, gumbel_softmax};

use super::{Draw, Measure, Pathwise, Sampler, Site};
use crate::distributions::Discrete;

/// Straight-through Gumbel-Softmax: the one-hot sample forward, the gradient of the relaxed one backward.
///
/// Forward, the one-hot vector of the largest of `logits + G`. Backward, the Jacobian of the relaxed sample of the same
/// noise:
///
/// ```math
/// \frac{1}{\tau}\, J\Bigl(\operatorname{softmax}\Bigl(\frac{\mathrm{logits} + G}{\tau}\Bigr)\Bigr)
/// ```
///
/// The value is a discrete sample, so the bound it reports is that of the discrete model; the gradient is
/// **biased**, because value and gradient belong to different functions.
///
/// Source: Jang, Gu, Poole (2017), section 2.2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StraightThroughGumbelSoftmax {
    /// Number of samples `S`.
    pub samples: usize,
    /// Temperature of the backward pass.
    pub temperature: f64,
}

impl Sampler for StraightThroughGumbelSoftmax {
    fn draw(&mut self, _: &Site, posterior: &Discrete, key: Key) -> Result<Draw> {
        let Self { samples, temperature } = *self;
        let value = match posterior {
            Discrete::Categorical(q) => {
                gumbel_softmax(q.logits(), samples, temperature, Forward::Hard, key)?
            }
            Discrete::Bernoulli(q) => {
                gumbel_sigmoid(q.logits(), samples, temperature, Forward::Hard, key)?
            }
        };
        Ok(Draw { value, measure: Measure::Discrete })
    }
}

impl Pathwise for StraightThroughGumbelSoftmax {
    const BIBTEX: &'static str = include_str!("bibtex/gumbel-softmax.bib");
}
