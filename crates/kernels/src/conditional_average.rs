//! What averages over the noise that leads to a given draw share.
use candle_core::{Result, Tensor};

use crate::perturbed::positive;
use crate::rows::{TASK, align_rows};
use crate::{Key, Real, in_single};

/// Rows of a parallel task, where there are many draws.
pub(crate) const ROWS: usize = 32;

/// What the logarithm of odds or of `1 / p` is split at. Up to here a product with a ratio of exponential noise, which
/// is within `e^±26.1`, or with `u`, which is above `e^-23`, is finite in single precision; beyond it, 1 is nothing beside
/// the product.
pub(crate) const FAR: f64 = 60.;

/// What is averaged over how many draws of noise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Average {
    temperature: f64,
    pub(crate) draws: usize,
    key: Key,
}

impl Average {
    pub(crate) fn new(temperature: f64, draws: usize, key: Key) -> Result<Self> {
        positive(temperature)?;
        if draws == 0 {
            candle_core::bail!("an average is over at least one draw, got draws = 0")
        }
        Ok(Self { temperature, draws, key })
    }

    /// `f` of logits, draw and gradient, whose shapes fit, without a graph and not in half precision.
    pub(crate) fn of(
        self,
        tensors: [&Tensor; 3],
        f: impl FnOnce([&Tensor; 3]) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let [logits, value, gradient] = tensors.map(Tensor::detach);
        let shape = logits.shape().broadcast_shape_binary_op(value.shape(), "broadcast")?;
        if value.shape() != gradient.shape() || value.shape() != &shape {
            candle_core::bail!(
                "expected a draw and a gradient of one shape, to which the logits broadcast, got {:?}, {:?} and {:?}",
                value.shape(),
                gradient.shape(),
                logits.shape()
            )
        }
        let (logits, value, _) = align_rows(&logits, &value)?;
        in_single([&logits, &value, &gradient], f)
    }

    /// The words of the noise of a draw from number `first` on.
    pub(crate) fn words(self, draw: usize, first: usize, words: &mut [u32]) {
        self.key.fold_in(draw as u64).fill_words(first as u64, words);
    }

    /// What [`make_rows`](crate::rows::make_rows) is to take a row of `width` numbers for.
    pub(crate) fn cost(self, width: usize) -> usize {
        width.saturating_mul(self.draws).min(TASK / ROWS)
    }

    /// `1 / temperature`.
    pub(crate) fn inverse<T: Real>(self) -> T {
        T::of(1. / self.temperature)
    }

    /// What the sum of all draws is multiplied by.
    pub(crate) fn scale<T: Real>(self) -> T {
        T::of(1. / (self.temperature * self.draws as f64))
    }
}
