//! Scaled dot-product attention of several heads.
use std::ops::Range;

use candle_core::{D, Result, Tensor};

use crate::autocast::{matmul, rounded};
use crate::graph::{compute, fusible, node};
use crate::in_single;
use crate::log_softmax::softmax_reference;

mod blocks;

use blocks::{Sizes, backward, forward};

const NAME: &str = "attention";

/// Which places a place sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttentionMask {
    /// All.
    Full,
    /// Itself and all before it.
    Causal,
    /// Itself and those before it, so many in all, at least one.
    SlidingWindow(usize),
}

impl AttentionMask {
    /// The places that `place` sees, of `length`.
    fn seen(self, place: usize, length: usize) -> Range<usize> {
        match self {
            Self::Full => 0..length,
            Self::Causal => 0..place + 1,
            Self::SlidingWindow(width) => (place + 1).saturating_sub(width)..place + 1,
        }
    }
}

/// Self-attention of several heads, each place over those that the mask lets it see.
///
/// Of a head, where what the mask hides has the score `-∞`:
///
/// ```math
/// \operatorname{softmax}\Bigl(\frac{Q K^\top}{\sqrt{\mathrm{size}}}\Bigr) V
/// ```
///
/// `qkv: [B, T, 3·D]` → `[B, T, D]`. A row holds the queries of all heads, then their keys, then their values; each
/// of the three has `D = heads · size` numbers, those of a head side by side. Differentiable. The scores of a block
/// of queries are in memory at a time; the backward pass makes them again. Time grows with `T (W + 63)` and memory
/// with `W + 63` where the mask is a window of `W`, else with `T²` and `T`.
///
/// Source: Vaswani et al. (2017), section 3.2; windows: Beltagy et al. (2020), section 3.1.
///
/// # Errors
/// If `qkv` does not have three axes, one of them is empty, the last is not a multiple of `3 · heads`, or a window is
/// 0 wide.
pub fn attention(qkv: &Tensor, heads: usize, mask: AttentionMask) -> Result<Tensor> {
    let sizes = Sizes::new(qkv, heads, mask)?;
    let [qkv] = rounded([qkv])?;
    in_single([&qkv], |[qkv]| {
        #[cfg(feature = "cuda")]
        if crate::cuda::takes([qkv]) {
            return of_products(qkv, heads, |scores, scale| {
                crate::cuda::attention_softmax(scores, scale, mask)
            });
        }
        if fusible([qkv]) { fused(qkv, sizes) } else { reference(qkv, heads, mask) }
    })
}

/// The twin of [`attention`] from plain candle operations.
pub fn reference(qkv: &Tensor, heads: usize, mask: AttentionMask) -> Result<Tensor> {
    of_products(qkv, heads, |scores, scale| {
        let scores = (scores * scale)?;
        let length = scores.dim(D::Minus1)?;
        if mask == AttentionMask::Full {
            return softmax_reference(&scores);
        }
        let seen = |i: usize| mask.seen(i / length, length).contains(&(i % length));
        let hidden = |i: usize| if seen(i) { 0. } else { f64::NEG_INFINITY };
        let mask: Vec<f64> = (0..length * length).map(hidden).collect();
        let mask = Tensor::from_vec(mask, (length, length), qkv.device())?;
        softmax_reference(&scores.broadcast_add(&mask.to_dtype(qkv.dtype())?)?)
    })
}

/// Attention by candle's products; `weights` makes probabilities of scores `[B, H, T, T]`, which it is to scale.
fn of_products(
    qkv: &Tensor,
    heads: usize,
    weights: impl FnOnce(&Tensor, f64) -> Result<Tensor>,
) -> Result<Tensor> {
    let (batch, length, width) = qkv.dims3()?;
    let size = width / 3 / heads;
    let parts = qkv.reshape((batch, length, 3, heads, size))?.permute((2, 0, 3, 1, 4))?;
    let part = |i: usize| parts.get(i)?.contiguous();
    let (q, k, v) = (part(0)?, part(1)?, part(2)?);
    let scores = matmul(&q, &k.t()?.contiguous()?)?;
    let y = matmul(&weights(&scores, (size as f64).sqrt().recip())?, &v)?;
    y.transpose(1, 2)?.contiguous()?.flatten_from(D::Minus2)
}

fn fused(qkv: &Tensor, sizes: Sizes) -> Result<Tensor> {
    let shape = (qkv.dim(0)?, sizes.length, sizes.heads * sizes.size);
    let y = compute!(NAME, shape, T, |qkv| forward::<T>(qkv, sizes)?);
    node(NAME, [qkv], y, move |[qkv], _, g| {
        let d = compute!(NAME, qkv.shape(), T, |qkv, g| backward::<T>(qkv, g, sizes)?);
        Ok([Some(d.tensor())])
    })
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::check::{close, finite_differences, irregular, twins};

    #[test]
    fn fused_equals_reference_in_value_and_gradient() -> Result<()> {
        for (shape, heads, dtype, tolerance) in [
            ([2, 5, 12], 2, DType::F64, 1e-12),
            ([1, 1, 3], 1, DType::F64, 1e-12),
            ([3, 150, 24], 4, DType::F64, 1e-12),
            ([2, 128, 96], 2, DType::F32, 2e-5),
        ] {
            for mask in [
                AttentionMask::Full,
                AttentionMask::Causal,
                AttentionMask::SlidingWindow(1),
                AttentionMask::SlidingWindow(3),
                AttentionMask::SlidingWindow(70),
                AttentionMask::SlidingWindow(usize::MAX),
            ] {
                let qkv = (irregular(&shape, 1, dtype)? * 2.)?;
                twins(
                    &[qkv],
                    tolerance,
                    |i| attention(&i[0], heads, mask),
                    |i| reference(&i[0], heads, mask),
                )?;
            }
        }
        let qkv = irregular(&[2, 3, 12], 2, DType::F64)?;
        for mask in [AttentionMask::Causal, AttentionMask::SlidingWindow(2), AttentionMask::Full] {
            finite_differences(std::slice::from_ref(&qkv), |i| attention(&i[0], 2, mask))?;
        }
        Ok(())
    }

    /// What lies in the future, however large, changes neither value nor gradient.
    #[test]
    fn causal_attention_does_not_see_the_future() -> Result<()> {
        let first = irregular(&[1, 70, 12], 3, DType::F32)?;
        let run = |rest: f32| {
            let rest = Tensor::full(rest, (1, 30, 12), &Device::Cpu)?;
            let qkv = Var::from_tensor(&Tensor::cat(&[&first, &rest], 1)?)?;
            let y = attention(&qkv, 2, AttentionMask::Causal)?.narrow(1, 0, 70)?;
            let d = y.sqr()?.sum_all()?.backward()?.get(&qkv).unwrap().narrow(1, 0, 70)?;
            Ok::<_, candle_core::Error>((y, d))
        };
        let ((y, d), (other_y, other_d)) = (run(0.)?, run(1e3)?);
        close(&y, &other_y, 0.)?;
        close(&d, &other_d, 0.)
    }

    /// What is out of the window, however large, changes neither value nor gradient.
    #[test]
    fn a_window_does_not_see_beyond_itself() -> Result<()> {
        let last = irregular(&[1, 70, 12], 3, DType::F32)?;
        let run = |rest: f32| {
            let rest = Tensor::full(rest, (1, 30, 12), &Device::Cpu)?;
            let qkv = Var::from_tensor(&Tensor::cat(&[&rest, &last], 1)?)?;
            let y = attention(&qkv, 2, AttentionMask::SlidingWindow(5))?.narrow(1, 34, 66)?;
            let d = y.sqr()?.sum_all()?.backward()?.get(&qkv).unwrap().narrow(1, 30, 70)?;
            Ok::<_, candle_core::Error>((y, d))
        };
        let ((y, d), (other_y, other_d)) = (run(0.)?, run(1e3)?);
        close(&y, &other_y, 0.)?;
        close(&d, &other_d, 0.)?;
        assert!(attention(&last, 2, AttentionMask::SlidingWindow(0)).is_err());
        Ok(())
    }

    #[test]
    fn huge_scores_do_not_overflow() -> Result<()> {
        let qkv = (irregular(&[1, 9, 12], 3, DType::F32)? * 1e6)?;
        let y = attention(&qkv, 2, AttentionMask::Causal)?;
        close(&y, &reference(&qkv, 2, AttentionMask::Causal)?, 1e-6)?;
        assert!(y.abs()?.sum_all()?.to_scalar::<f32>()?.is_finite());
        Ok(())
    }

    #[test]
    fn sizes_that_do_not_fit_are_an_error_that_names_them() -> Result<()> {
        let qkv = irregular(&[2, 3, 12], 1, DType::F32)?;
        for heads in [0, 3] {
            let error = attention(&qkv, heads, AttentionMask::Causal).unwrap_err();
            assert!(error.to_string().contains(&format!("{heads} heads, got [2, 3, 12]")));
        }
        assert_eq!(attention(&qkv.narrow(0, 0, 0)?, 2, AttentionMask::Causal)?.dims(), [0, 3, 4]);
        assert!(attention(&qkv.narrow(1, 0, 0)?, 2, AttentionMask::Causal).is_err());
        assert!(attention(&qkv.flatten_all()?, 2, AttentionMask::Causal).is_err());
        Ok(())
    }
}
