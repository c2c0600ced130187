//! The discrete end of a relaxation.
use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor};

use crate::Real;
use crate::log_softmax::categories;
use crate::rows::{data, for_rows, max, with_float};

/// One-hot vector of the (first) largest entry of the last axis. No gradient.
///
/// `x: [.., K]` → `[.., K]`, entries 0 and 1 in the dtype of `x`. Of `logits + G` with Gumbel noise `G` it
/// is a sample of the categorical distribution (the Gumbel-max trick).
pub fn one_hot_argmax(x: &Tensor) -> Result<Tensor> {
    let x = x.detach();
    if x.device().is_cpu() { x.contiguous()?.apply_op1_no_bwd(&OneHot) } else { reference(&x) }
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
            if let Some(j) = row.iter().position(|x| *x == top) {
                y[j] = T::one();
            } else {
                candle_core::bail!("row {} holds nothing but NaN: no largest entry", first + i)
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
        let ties = Tensor::new(&[[1f64, 3., 3.], [f64::NEG_INFINITY; 3]], &Device::Cpu)?;
        assert_eq!(one_hot_argmax(&ties)?.to_vec2::<f64>()?, [[0., 1., 0.], [1., 0., 0.]]);
        assert!(one_hot_argmax(&Tensor::new(&[f32::NAN; 2], &Device::Cpu)?).is_err());
        Ok(())
    }
}
