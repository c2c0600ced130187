//! `softmax` and its logarithm over the last axis.
use candle_core::{D, Result, Tensor};

use crate::graph::{compute, fusible, node};
use crate::reduce::{BLOCK, max, sum_zip_of_rows};
use crate::rows::make_rows;
use crate::softmax_rows::{
    TILE, categories, centre_rows, log_normalise_rows, masked_row, normalise_long_row,
    normalise_rows,
};
use crate::vectorised::vectorised;
use crate::{Real, in_single};

/// Normalised log-probabilities over the last axis.
///
/// Of category `k`:
///
/// ```math
/// \log \operatorname{softmax}(x)_k = x_k - \ln \sum_j e^{x_j}
/// ```
///
/// `x: [.., K]` → `[.., K]`. A `-∞` entry is a masked category: its log-probability is `-∞` and it takes
/// no part in the sum. Differentiable.
///
/// # Errors
/// If a row has no finite entry.
pub fn log_softmax(x: &Tensor) -> Result<Tensor> {
    in_single([x], |[x]| {
        #[cfg(feature = "cuda")]
        if crate::cuda::takes([x]) {
            return crate::cuda::log_softmax(x);
        }
        if !fusible([x]) {
            return reference(x);
        }
        let k = categories(x.shape())?;
        let y = compute!("log_softmax", x.shape(), T, |x| forward::<T>(x, k)?);
        node("log_softmax", [x], y, move |_, y, g| {
            let d = compute!("log_softmax", y.shape(), T, |y, g| backward::<T>(y, g, k)?);
            Ok([Some(d.tensor())])
        })
    })
}

/// Probabilities over the last axis.
///
/// Of category `k`:
///
/// ```math
/// \operatorname{softmax}(x)_k = \frac{e^{x_k}}{\sum_j e^{x_j}}
/// ```
///
/// `x: [.., K]` → `[.., K]`. A `-∞` entry is a masked category of probability 0. Differentiable.
///
/// # Errors
/// If a row has no finite entry.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    in_single([x], |[x]| {
        #[cfg(feature = "cuda")]
        if crate::cuda::takes([x]) {
            return crate::cuda::softmax(x);
        }
        if !fusible([x]) {
            return softmax_reference(x);
        }
        let k = categories(x.shape())?;
        let y = compute!("softmax", x.shape(), T, |x| softmax_forward::<T>(x, k)?);
        node("softmax", [x], y, move |_, y, g| {
            let d = compute!("softmax", y.shape(), T, |y, g| softmax_backward::<T>(y, g, k)?);
            Ok([Some(d.tensor())])
        })
    })
}

/// The twin of [`log_softmax`] from plain candle operations.
pub fn reference(x: &Tensor) -> Result<Tensor> {
    let y = x.broadcast_sub(&super::log_sum_exp::reference(x)?.unsqueeze(x.rank() - 1)?)?;
    // No gradient comes from a masked category.
    let masked = Tensor::full(f32::NEG_INFINITY, x.shape(), x.device())?.to_dtype(x.dtype())?;
    x.eq(&masked)?.where_cond(&masked, &y)
}

/// The twin of [`softmax`] from plain candle operations.
pub fn softmax_reference(x: &Tensor) -> Result<Tensor> {
    let weights = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?.exp()?;
    weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)
}

/// `log softmax` of every row.
pub(crate) fn forward<T: Real>(x: &[T], k: usize) -> Result<Vec<T>> {
    make_rows(x.len() / k, k, 2 * k, |first, y| log_softmax_rows(x, k, first, y))
}

fn softmax_forward<T: Real>(x: &[T], k: usize) -> Result<Vec<T>> {
    make_rows(x.len() / k, k, 2 * k, |first, y| softmax_rows(x, k, first, y))
}

fn backward<T: Real>(y: &[T], g: &[T], k: usize) -> Result<Vec<T>> {
    make_rows(y.len() / k, k, k, |first, d| {
        let start = first * k;
        log_softmax_slopes(&y[start..][..d.len()], &g[start..][..d.len()], k, d);
        Ok(())
    })
}

fn softmax_backward<T: Real>(y: &[T], g: &[T], k: usize) -> Result<Vec<T>> {
    make_rows(y.len() / k, k, k, |first, d| {
        let start = first * k;
        softmax_slopes(&y[start..][..d.len()], &g[start..][..d.len()], k, T::one(), d);
        Ok(())
    })
}

vectorised! {
    fn softmax_rows<T: Real>(x: &[T], k: usize, first: usize, y: &mut [T]) -> Result<()> {
        y.copy_from_slice(&x[first * k..][..y.len()]);
        if k <= BLOCK {
            centre_rows(y, k, first)?;
            normalise_rows(y, k);
            return Ok(());
        }
        for (row, y) in (first..).zip(y.chunks_exact_mut(k)) {
            let top = max(y);
            if top == T::NEG_INFINITY {
                return masked_row(row);
            }
            normalise_long_row(y, top);
        }
        Ok(())
    }

    fn log_softmax_rows<T: Real>(x: &[T], k: usize, first: usize, y: &mut [T]) -> Result<()> {
        y.copy_from_slice(&x[first * k..][..y.len()]);
        centre_rows(y, k, first)?;
        log_normalise_rows(y, k);
        Ok(())
    }

    /// `g_k - softmax_k Σ_j g_j` over the categories that are not masked, 0 for those that are.
    pub(crate) fn log_softmax_slopes<T: Real>(y: &[T], g: &[T], k: usize, d: &mut [T]) {
        let open = |y: T, g: T| if y == T::NEG_INFINITY { T::zero() } else { g };
        let mut totals = [T::zero(); TILE];
        for (i, d) in d.chunks_mut(TILE * k).enumerate() {
            let (y, g) = (&y[i * TILE * k..][..d.len()], &g[i * TILE * k..][..d.len()]);
            let totals = &mut totals[..d.len() / k];
            sum_zip_of_rows(y, g, k, totals, open);
            for (d, y) in d.iter_mut().zip(y) {
                *d = Real::exp(*y);
            }
            let rows = d.chunks_exact_mut(k).zip(y.chunks_exact(k)).zip(g.chunks_exact(k));
            for (((d, y), g), total) in rows.zip(totals.iter()) {
                for ((d, y), g) in d.iter_mut().zip(y).zip(g) {
                    *d = open(*y, *g - *d * *total);
                }
            }
        }
    }

    /// `d_k += scale y_k (g_k - Σ_j y_j g_j)` for every row: back through a softmax with the value `y`.
    pub(crate) fn softmax_slopes<T: Real>(y: &[T], g: &[T], k: usize, scale: T, d: &mut [T]) {
        let mut means = [T::zero(); TILE];
        for (i, d) in d.chunks_mut(TILE * k).enumerate() {
            let (y, g) = (&y[i * TILE * k..][..d.len()], &g[i * TILE * k..][..d.len()]);
            let means = &mut means[..d.len() / k];
            sum_zip_of_rows(y, g, k, means, |y, g| y * g);
            let rows = d.chunks_exact_mut(k).zip(y.chunks_exact(k)).zip(g.chunks_exact(k));
            for (((d, y), g), mean) in rows.zip(means.iter()) {
                for ((d, y), g) in d.iter_mut().zip(y).zip(g) {
                    *d += *y * (*g - *mean) * scale;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::check::{close, finite_differences, irregular, twins};

    #[test]
    fn fused_equals_reference_in_value_and_gradient() -> Result<()> {
        for (shape, dtype, tolerance) in [
            (vec![3, 5], DType::F64, 1e-12),
            (vec![2, 700, 33], DType::F32, 2e-5),
            (vec![4, 1], DType::F64, 1e-12),
            (vec![2, 3000], DType::F64, 1e-12),
            (vec![75, 10], DType::F64, 1e-12),
        ] {
            let x = (irregular(&shape, 1, dtype)? * 3.)?;
            twins(
                std::slice::from_ref(&x),
                tolerance,
                |x| log_softmax(&x[0]),
                |x| reference(&x[0]),
            )?;
            twins(&[x], tolerance, |x| softmax(&x[0]), |x| softmax_reference(&x[0]))?;
        }
        finite_differences(&[irregular(&[2, 4], 2, DType::F64)?], |x| log_softmax(&x[0]))?;
        finite_differences(&[irregular(&[2, 4], 2, DType::F64)?], |x| softmax(&x[0]))
    }

    #[test]
    fn extreme_and_masked_logits() -> Result<()> {
        let inf = f64::INFINITY;
        let x = Tensor::new(&[[1e4, -1e4, 3.], [1., 2., -inf]], &Device::Cpu)?;
        let expected = Tensor::new(
            &[[0., -2e4, -9997.], [-1.313_261_687_518_222_8, -0.313_261_687_518_222_84, -inf]],
            &Device::Cpu,
        )?;
        close(&log_softmax(&x)?, &expected, 1e-14)?;
        close(&softmax(&x)?, &expected.exp()?, 1e-14)?;
        // What flows into a masked entry goes nowhere: the rest is as it is without that entry.
        let x = Var::new(&[[1., 2., -inf]], &Device::Cpu)?;
        let grads = log_softmax(&x)?.sum_all()?.backward()?;
        let slopes = grads.get(x.as_tensor()).unwrap().to_vec2::<f64>()?;
        let tanh = (0.5f64).tanh();
        assert!(slopes[0][2] == 0. && (slopes[0][0] - tanh).abs() < 1e-15, "{slopes:?}");
        let error =
            log_softmax(&Tensor::new(&[[0., 1.], [-inf, -inf]], &Device::Cpu)?).unwrap_err();
        assert!(error.to_string().contains("row 1"), "{error}");
        assert!(log_softmax(&Tensor::new(1u32, &Device::Cpu)?).is_err());
        Ok(())
    }
}
