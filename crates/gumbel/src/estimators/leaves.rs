//! Gradients of a bound in the values of its latents.
use candle_core::{Result, Tensor, Var};
use gumbel_kernels::Key;

use super::{Draw, Sampler, Site};
use crate::distributions::Discrete;

/// Adds to every value that `inner` draws a zero which collects the gradient in that value.
///
/// The value stays what it was, and so does the graph behind it: where `inner` hands out values that depend
/// on earlier ones, the gradient in those is the total derivative.
pub(crate) struct Leaves<'a> {
    inner: &'a mut dyn Sampler,
    zeros: Vec<Var>,
}

impl<'a> Leaves<'a> {
    pub(crate) fn of(inner: &'a mut dyn Sampler) -> Self {
        Self { inner, zeros: Vec::new() }
    }

    /// `∂ Σ y / ∂ value` for the value of each site, in the order of the draws, detached. Rows of a batch
    /// and samples do not depend on each other, so that entry `[s, b, ..]` is the gradient of `y[s, b]`.
    pub(crate) fn gradients(&self, y: &Tensor) -> Result<Vec<Tensor>> {
        let grads = y.sum_all()?.backward()?;
        self.zeros
            .iter()
            .map(|zero| match grads.get(zero.as_tensor()) {
                Some(gradient) => Ok(gradient.detach()),
                None => zero.as_detached_tensor().zeros_like(),
            })
            .collect()
    }
}

impl Sampler for Leaves<'_> {
    fn draw(&mut self, site: &Site, q: &Discrete, key: Key) -> Result<Draw> {
        let Draw { value, measure } = self.inner.draw(site, q, key)?;
        let zero = Var::zeros(value.shape(), value.dtype(), value.device())?;
        let value = (value + zero.as_tensor())?;
        self.zeros.push(zero);
        Ok(Draw { value, measure })
    }
}
