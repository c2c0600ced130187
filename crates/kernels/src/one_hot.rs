//! The discrete end of a relaxation.
use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor};

use crate::log_softmax::{categories, masked_row};
use crate::rows::{data, for_rows, max, with_float};
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
        if x.device().is_cpu() { x.contiguous()?.apply_op1_no_bwd(&OneHot) } else { reference(x) }
    })
}

/// The twin of [`one_hot_argmax`] from plain candle operations.
pub fn reference(x: &Tensor) -> Result<Tensor> {
    let k = x.dim(D::Minus1)?;
    let classes = Tensor::arange(0u32, k as u32, x.device())?.broadcast_as(x.shape())?;
    x.argmax_keepdim(D::Minus1)?.broadcast_as(x.shape())?.eq(&classes)?.to_dtype(x.dtype())
}

struct OneHot;

fn forward<T: Real>(x: &[T], k: usize) -> Result<Vec<T>> {
    let mut y = vec![T::zero(); x.len()];
    for_rows(&mut y, k, k, |first, y| {
        for (i, y) in y.chunks_mut(k).enumerate() {
            let row = &x[(first + i) * k..][..k];
            let top = max(row);
            match row.iter().position(|x| *x == top) {
                Some(j) if top > T::NEG_INFINITY => y[j] = T::one(),
                _ => return masked_row(first + i),
            }
        }
        Ok(())
    })?;
    Ok(y)
}

impl CustomOp1 for OneHot {
    fn name(&self) -> &'static str {
        "one_hot_argmax"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let k = categories(l.shape())?;
        let y = with_float!(s, self.name(), T => forward::<T>(data(s, l)?, k)?);
        Ok((y, l.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::rows::check::{close, irregular};

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
