//! Sparse maps onto the simplex: sparsemax and entmax.
use candle_core::{D, Result, Tensor};

use crate::graph::{compute, fusible, node};
use crate::rows::make_rows;
use crate::softmax_rows::{categories, masked_row};
use crate::{Real, in_single};

/// A map from scores to probabilities of which many are exactly 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SparseMap {
    /// The nearest point of the simplex. Martins and Astudillo (2016).
    ///
    /// With the threshold `t` of the row:
    ///
    /// ```math
    /// p_k = \max(x_k - t, 0)
    /// ```
    Sparsemax,
    /// α-entmax at α = 1.5, between softmax and sparsemax. Peters, Niculae, Martins (2019).
    ///
    /// With the threshold `t` of the row:
    ///
    /// ```math
    /// p_k = \max(x_k / 2 - t, 0)^2
    /// ```
    Entmax15,
}

/// Maps scores to sparse probabilities over the last axis: `x: [.., K]` → `[.., K]`.
///
/// The threshold `t` of each row makes its probabilities sum to 1; it is found exactly, by sorting. A `-∞` entry
/// is a masked category. Differentiable; the gradient of an entry that is 0 is 0.
///
/// # Errors
/// If a row has no finite entry.
pub fn sparse_map(x: &Tensor, map: SparseMap) -> Result<Tensor> {
    in_single([x], |[x]| {
        if !fusible([x]) {
            return reference(x, map);
        }
        let k = categories(x.shape())?;
        let y = compute!("sparse_map", x.shape(), T, |x| forward::<T>(x, k, map)?);
        node("sparse_map", [x], y, move |_, y, g| {
            let d = compute!("sparse_map", y.shape(), T, |y, g| backward::<T>(y, g, k, map)?);
            Ok([Some(d.tensor())])
        })
    })
}

/// The twin of [`sparse_map`] from plain candle operations.
pub fn reference(x: &Tensor, map: SparseMap) -> Result<Tensor> {
    let x = match map {
        SparseMap::Sparsemax => x.clone(),
        SparseMap::Entmax15 => (x * 0.5)?,
    };
    // The threshold is a function of the entries above it, and no entry moves in or out by a small change.
    let (sorted, _) = x.detach().contiguous()?.sort_last_dim(false)?;
    let sorted = sorted.broadcast_sub(&sorted.narrow(D::Minus1, 0, 1)?)?.maximum(-1e6)?;
    let k = x.dim(D::Minus1)?;
    let count = Tensor::arange(1u32, k as u32 + 1, x.device())?.to_dtype(x.dtype())?;
    let mean = sorted.cumsum(D::Minus1)?.broadcast_div(&count)?;
    let above = match map {
        SparseMap::Sparsemax => {
            let threshold = mean.broadcast_sub(&count.recip()?)?;
            sorted.gt(&threshold)?
        }
        SparseMap::Entmax15 => {
            let square = sorted.sqr()?.cumsum(D::Minus1)?.broadcast_div(&count)?;
            let rest = (square - mean.sqr()?)?.neg()?.broadcast_add(&count.recip()?)?;
            let threshold = (mean - rest.maximum(0.)?.sqrt()?)?;
            sorted.ge(&threshold)?
        }
    };
    let size = above.to_dtype(x.dtype())?.sum_keepdim(D::Minus1)?;
    let rank =
        x.detach().contiguous()?.arg_sort_last_dim(false)?.to_dtype(candle_core::DType::F32)?;
    let rank = rank.arg_sort_last_dim(true)?.to_dtype(x.dtype())?;
    let inside = rank.broadcast_lt(&size)?;
    let zero = x.zeros_like()?;
    let kept = inside.where_cond(&x, &zero)?;
    let mean = kept.sum_keepdim(D::Minus1)?.broadcast_div(&size)?;
    let apart = inside.where_cond(&x.broadcast_sub(&mean)?, &zero)?;
    match map {
        SparseMap::Sparsemax => inside.where_cond(&apart.broadcast_add(&size.recip()?)?, &zero),
        SparseMap::Entmax15 => {
            let spread = apart.sqr()?.sum_keepdim(D::Minus1)?;
            let up = ((1. - spread)?.maximum(0.)? / &size)?.sqrt()?;
            inside.where_cond(&apart.broadcast_add(&up)?.sqr()?, &zero)
        }
    }
}

/// The threshold of one row that is sorted from its largest entry, less that entry, down.
fn threshold(sorted: &[f64], map: SparseMap) -> f64 {
    let (mut sum, mut squares, mut threshold) = (0., 0., 0.);
    for (i, x) in sorted.iter().enumerate() {
        let n = (i + 1) as f64;
        (sum, squares) = (sum + x, squares + x * x);
        let mean = sum / n;
        let candidate = match map {
            SparseMap::Sparsemax => mean - 1. / n,
            SparseMap::Entmax15 => mean - ((1. - (squares - sum * mean)).max(0.) / n).sqrt(),
        };
        if *x < candidate {
            break;
        }
        threshold = candidate;
    }
    threshold
}

fn forward<T: Real>(x: &[T], k: usize, map: SparseMap) -> Result<Vec<T>> {
    let scale = if map == SparseMap::Entmax15 { 0.5 } else { 1. };
    make_rows(x.len() / k, k, 8 * k, |first, y: &mut [T]| {
        let mut row = vec![0.; k];
        for (i, y) in y.chunks_mut(k).enumerate() {
            for (row, x) in row.iter_mut().zip(&x[(first + i) * k..][..k]) {
                *row = scale * x.to_f64();
            }
            let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            if top == f64::NEG_INFINITY {
                return masked_row(first + i);
            }
            let mut sorted: Vec<f64> = row.iter().map(|x| x - top).filter(|x| *x > -1.).collect();
            sorted.sort_unstable_by(|a, b| b.total_cmp(a));
            let threshold = threshold(&sorted, map);
            for (y, x) in y.iter_mut().zip(&row) {
                let above = (x - top) - threshold;
                let above = if above < 0. { 0. } else { above };
                *y = T::of(if map == SparseMap::Entmax15 { above * above } else { above });
            }
        }
        Ok(())
    })
}

/// `s ⊙ (g - Σ s g / Σ s)` with `s = 1[p > 0]` for sparsemax, `√p` for entmax.
fn backward<T: Real>(p: &[T], g: &[T], k: usize, map: SparseMap) -> Result<Vec<T>> {
    make_rows(p.len() / k, k, 4 * k, |first, d: &mut [T]| {
        for (i, d) in d.chunks_mut(k).enumerate() {
            let (p, g) = (&p[(first + i) * k..][..k], &g[(first + i) * k..][..k]);
            let slope = |p: &T| match map {
                SparseMap::Sparsemax => f64::from(u8::from(p.to_f64() > 0.)),
                SparseMap::Entmax15 => p.to_f64().sqrt(),
            };
            let (mut total, mut weighted) = (0., 0.);
            for (p, g) in p.iter().zip(g) {
                total += slope(p);
                weighted += slope(p) * g.to_f64();
            }
            for ((d, p), g) in d.iter_mut().zip(p).zip(g) {
                *d = T::of(slope(p) * (g.to_f64() - weighted / total));
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::check::{finite_differences, irregular, twins};

    const MAPS: [SparseMap; 2] = [SparseMap::Sparsemax, SparseMap::Entmax15];

    #[test]
    fn fused_equals_reference_in_value_and_gradient() -> Result<()> {
        for map in MAPS {
            for (shape, dtype, tolerance) in [
                (vec![30, 5], DType::F64, 1e-12),
                (vec![3, 200, 17], DType::F32, 2e-5),
                (vec![6], DType::F64, 1e-12),
            ] {
                let x = irregular(&shape, 1, dtype)?;
                twins(&[x], tolerance, |x| sparse_map(&x[0], map), |x| reference(&x[0], map))?;
            }
            finite_differences(&[irregular(&[4, 3], 2, DType::F64)?], |x| sparse_map(&x[0], map))?;
        }
        Ok(())
    }

    #[test]
    fn rows_sum_to_one_whatever_the_offset_and_a_mask_is_kept() -> Result<()> {
        for map in MAPS {
            for offset in [-1e4, 0., 1e4] {
                let x = Tensor::new(&[[1f64, f64::NEG_INFINITY, 1.2, -7.]], &Device::Cpu)?;
                let p = sparse_map(&(x + offset)?, map)?.to_vec2::<f64>()?;
                assert!((p[0].iter().sum::<f64>() - 1.).abs() < 1e-11, "{p:?}");
                assert_eq!((p[0][1], p[0][3]), (0., 0.));
            }
            let masked = Tensor::new(&[[0f32, 1.], [f32::NEG_INFINITY; 2]], &Device::Cpu)?;
            assert!(sparse_map(&masked, map).unwrap_err().to_string().contains("row 1"));
        }
        Ok(())
    }
}
