//! The Gumbel–Rao estimator.
use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, Layout, MetalStorage, Result, Shape, Tensor,
};
use gumbel_kernels::{Key, conditional_sigmoid_jacobian, conditional_softmax_jacobian};

use super::signal::{MASKED, sum_to};
use super::{Draw, Measure, Pathwise, Sampler, Site};
use crate::distributions::{Discrete, positive};

/// Gumbel–Rao: straight-through Gumbel-Softmax averaged over the noise that leads to the same sample.
///
/// A discrete sample `z ~ q` forward; backward the mean over `draws` vectors of Gumbel noise, *given* that `z` is the
/// largest:
///
/// ```math
/// \frac{1}{\mathrm{draws}} \sum_{k=1}^{\mathrm{draws}}
/// \frac{1}{\tau}\, J\Bigl(\operatorname{softmax}\Bigl(\frac{\mathrm{logits} + G_k}{\tau}\Bigr)\Bigr)
/// ```
///
/// The same mean as
/// [`StraightThroughGumbelSoftmax`](super::StraightThroughGumbelSoftmax), so as **biased**, and never more
/// variance; one draw is that estimator. The model runs once, whatever `draws` is, and memory does not grow
/// with it.
///
/// The conditional noise depends on the logits, and is held fixed: with the derivative through it the mean
/// would be another one.
///
/// Source: Paulus, Maddison, Krause (2021), section 3.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GumbelRao {
    /// Number of samples `S`.
    pub samples: usize,
    /// Temperature of the backward pass.
    pub temperature: f64,
    /// Draws of conditional noise that are averaged.
    pub draws: usize,
}

impl Sampler for GumbelRao {
    fn draw(&mut self, _: &Site, q: &Discrete, key: Key) -> Result<Draw> {
        let temperature = positive("temperature", self.temperature)?;
        at_least_one("Gumbel-Rao", self.draws)?;
        let value = q.sample(self.samples, key)?;
        let law = q.with_logits(&q.logits().detach())?;
        let average = averaged_jacobian(q, law, &value, (temperature, self.draws), key)?;
        Ok(Draw { value: (value + average)?, measure: Measure::Discrete })
    }
}

/// A zero whose derivative in the logits of `q` is the mean over `draws` vectors of noise, given that `value` is the
/// largest of `law`, of `J(softmax((logits of law + noise) / τ)) / τ`. Nothing flows into `law`.
pub(crate) fn averaged_jacobian(
    q: &Discrete,
    law: Discrete,
    value: &Tensor,
    (temperature, draws): (f64, usize),
    key: Key,
) -> Result<Tensor> {
    let key = key.named("conditional");
    let average = Average { law, value: value.clone(), temperature, draws, key };
    q.logits().maximum(MASKED)?.apply_op1(average)
}

/// The noise is drawn in the backward pass, one draw after another, so that none is kept.
struct Average {
    law: Discrete,
    value: Tensor,
    temperature: f64,
    draws: usize,
    key: Key,
}

impl Average {
    /// One for each number of the value, beside the logits `s`.
    fn zeros<S: BackendStorage>(&self, s: &S) -> Result<(S, Shape)>
    where
        S::Device: BackendDevice<Storage = S>,
    {
        let shape = self.value.shape().clone();
        Ok((s.device().zeros_impl(&shape, s.dtype())?, shape))
    }
}

impl CustomOp1 for Average {
    fn name(&self) -> &'static str {
        "gumbel_rao"
    }

    fn cpu_fwd(&self, s: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.zeros(s)
    }

    fn cuda_fwd(&self, s: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.zeros(s)
    }

    fn metal_fwd(&self, s: &MetalStorage, _: &Layout) -> Result<(MetalStorage, Shape)> {
        self.zeros(s)
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let average = match self.law {
            Discrete::Categorical(_) => conditional_softmax_jacobian,
            Discrete::Bernoulli(_) => conditional_sigmoid_jacobian,
        };
        let law = self.law.logits();
        let total = average(law, &self.value, g, self.temperature, self.draws, self.key)?;
        sum_to(&total, logits).map(Some)
    }
}

/// An error where there is nothing to average.
pub(crate) fn at_least_one(name: &str, draws: usize) -> Result<()> {
    if draws == 0 {
        candle_core::bail!("{name} averages over at least one draw, got draws = 0")
    }
    Ok(())
}

impl Pathwise for GumbelRao {
    const BIBTEX: &'static str = include_str!("bibtex/gumbel-rao.bib");
}
