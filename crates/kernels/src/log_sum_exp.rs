//! `ln Σ exp` over an axis.
use candle_core::shape::Dim;
use candle_core::{D, Result, Tensor};

use crate::graph::{compute, fusible, node};
use crate::reduce::{max_of_rows, sum_of_rows};
use crate::rows::make_rows;
use crate::softmax_rows::{TILE, categories, exp_in_place, for_log_sums, subtract_tops};
use crate::vectorised::vectorised;
use crate::{Real, in_single};

const NAME: &str = "log_sum_exp";

/// The logarithm of a sum of exponentials over the axis `dim`, which is removed.
///
/// Of the numbers `x_k` along it:
///
/// ```math
/// \ln \sum_k e^{x_k}
/// ```
///
/// Neither overflows nor underflows; `-∞` where all entries are `-∞` (with gradient 0). Differentiable.
pub fn log_sum_exp(x: &Tensor, dim: impl Dim) -> Result<Tensor> {
    let dim = dim.to_index(x.shape(), "log_sum_exp")?;
    let mut order: Vec<usize> = (0..x.rank()).filter(|d| *d != dim).collect();
    order.push(dim);
    let last =
        if dim + 1 == x.rank() { x.contiguous()? } else { x.permute(order)?.contiguous()? };
    in_single([&last], |[x]| if fusible([x]) { fused(x) } else { reference(x) })
}

/// The twin of [`log_sum_exp`] over the last axis, from plain candle operations (finite rows only).
pub fn reference(x: &Tensor) -> Result<Tensor> {
    let max = x.max_keepdim(D::Minus1)?.detach();
    let sum = x.broadcast_sub(&max)?.exp()?.sum_keepdim(D::Minus1)?;
    (sum.log()? + max)?.squeeze(D::Minus1)
}

fn fused(x: &Tensor) -> Result<Tensor> {
    let k = categories(x.shape())?;
    let rows = x.elem_count() / k;
    let y = compute!(NAME, &x.dims()[..x.rank() - 1], T, |x| {
        make_rows(rows, 1, 2 * k, |first, y| {
            sums::<T>(x, k, first, y);
            Ok(())
        })?
    });
    node(NAME, [x], y, move |[x], _, g| {
        let d = compute!(NAME, x.shape(), T, |x, g| {
            make_rows(rows, k, k, |first, d| {
                slopes::<T>([x, g], k, first, d);
                Ok(())
            })?
        });
        Ok([Some(d.tensor())])
    })
}

vectorised! {
    fn sums<T: Real>(x: &[T], k: usize, first: usize, y: &mut [T]) {
        let x = &x[first * k..][..y.len() * k];
        for_log_sums(x, k, |row, top, rest| y[row] = top + rest);
    }

    /// `g softmax_k(x)`; 0 where every entry is masked.
    fn slopes<T: Real>(xg: [&[T]; 2], k: usize, first: usize, d: &mut [T]) {
        let ([x, g], [mut tops, mut totals]) = (xg, [[T::zero(); TILE]; 2]);
        for (tile, d) in d.chunks_mut(TILE * k).enumerate() {
            let (rows, row) = (d.len() / k, first + tile * TILE);
            let (tops, totals) = (&mut tops[..rows], &mut totals[..rows]);
            d.copy_from_slice(&x[row * k..][..d.len()]);
            max_of_rows(d, k, tops);
            // Not ln Σ exp x, which has lost digits where logits are large.
            subtract_tops(d, k, tops);
            exp_in_place(d);
            sum_of_rows(d, k, totals);
            for ((d, g), total) in d.chunks_exact_mut(k).zip(&g[row..]).zip(totals.iter()) {
                let factor = if *total == T::zero() { T::zero() } else { *g / *total };
                for d in d {
                    *d *= factor;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::check::{finite_differences, irregular, twins};

    #[test]
    fn fused_equals_reference_in_value_and_gradient() -> Result<()> {
        for (shape, dtype, tolerance) in [
            (vec![3, 5], DType::F64, 1e-12),
            (vec![3000, 17], DType::F32, 2e-5),
            (vec![6], DType::F64, 1e-12),
        ] {
            let x = (irregular(&shape, 1, dtype)? * 3.)?;
            twins(&[x], tolerance, |x| log_sum_exp(&x[0], D::Minus1), |x| reference(&x[0]))?;
        }
        finite_differences(&[irregular(&[3, 4, 2], 2, DType::F64)?], |x| log_sum_exp(&x[0], 1))
    }

    #[test]
    fn an_empty_sum_is_minus_infinity_and_has_no_gradient() -> Result<()> {
        let inf = f64::INFINITY;
        let x = Var::new(&[[-inf, -inf], [1e4, -inf]], &Device::Cpu)?;
        let y = log_sum_exp(&x, 1)?;
        assert_eq!(y.to_vec1::<f64>()?, [-inf, 1e4]);
        let grads = y.sum_all()?.backward()?;
        let grad = grads.get(x.as_tensor()).unwrap().to_vec2::<f64>()?;
        assert_eq!(grad, [[0., 0.], [1., 0.]]);
        Ok(())
    }
}
