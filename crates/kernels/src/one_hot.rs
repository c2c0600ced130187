//! The discrete end of a relaxation.
use candle_core::{D, Result, Tensor};

use crate::graph::{compute, fusible};
use crate::reduce::{max, position};
use crate::rows::make_rows;
use crate::softmax_rows::{categories, masked_row};
use crate::vectorised::vectorised;
use crate::{Real, in_single};

/// One-hot vector of the (first) largest entry of the last axis. No gradient.
///
/// `x: [.., K]` → `[.., K]`, entries 0 and 1 in the dtype of `x`. Of `logits + G` with Gumbel noise `G` it
/// is a sample of the categorical distribution (the Gumbel-max trick).
///
/// # Errors
/// If a row has no entry above `-∞`.
pub fn one_hot_argmax(x: &Tensor) -> Result<Tensor> {
    let x = x.detach();
    in_single([&x], |[x]| {
        if !fusible([x]) {
            return reference(x);
        }
        let k = categories(x.shape())?;
        let y = compute!("one_hot_argmax", x.shape(), T, |x| {
            make_rows(x.len() / k, k, k, |first, y| one_hots::<T>(x, k, first, y))?
        });
        Ok(y.tensor())
    })
}

/// The twin of [`one_hot_argmax`] from plain candle operations.
pub fn reference(x: &Tensor) -> Result<Tensor> {
    let k = x.dim(D::Minus1)?;
    let classes = Tensor::arange(0u32, k as u32, x.device())?.broadcast_as(x.shape())?;
    x.argmax_keepdim(D::Minus1)?.broadcast_as(x.shape())?.eq(&classes)?.to_dtype(x.dtype())
}

vectorised! {
    fn one_hots<T: Real>(x: &[T], k: usize, first: usize, y: &mut [T]) -> Result<()> {
        for (i, y) in y.chunks_mut(k).enumerate() {
            let row = &x[(first + i) * k..][..k];
            let top = max(row);
            match position(row, top) {
                Some(j) if top > T::NEG_INFINITY => y[j] = T::one(),
                _ => return masked_row(first + i),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::check::{close, irregular};

    #[test]
    fn fused_equals_reference_and_the_first_of_equals_wins() -> Result<()> {
        let x = irregular(&[40, 7], 1, DType::F32)?;
        close(&one_hot_argmax(&x)?, &reference(&x)?, 0.)?;
        let ties = Tensor::new(&[[1f64, 3., 3.], [f64::NEG_INFINITY, -9., -9.]], &Device::Cpu)?;
        assert_eq!(one_hot_argmax(&ties)?.to_vec2::<f64>()?, [[0., 1., 0.], [0., 1., 0.]]);
        for nothing in [f32::NAN, f32::NEG_INFINITY] {
            let rows = Tensor::new(&[[1f32, 2.], [nothing; 2]], &Device::Cpu)?;
            let error = one_hot_argmax(&rows).unwrap_err();
            assert!(error.to_string().contains("row 1"), "{error}");
        }
        Ok(())
    }
}
