//! `softmax` and its logarithm over the last axis.
use candle_core::{D, Result, Shape, Tensor};

use crate::graph::{compute, fusible, node};
use crate::reduce::{BLOCK, LANES, max, max_of_rows, sum, sum_of_rows, sum_zip_of_rows};
use crate::rows::make_rows;
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

/// Rows of a tile, whose maxima and sums are held at a time.
pub(crate) const TILE: usize = 32;

/// The largest of a row, and what is to be added to it to make `ln Σ exp x`.
///
/// Both are `-∞` where the row is masked entirely; a NaN makes the second NaN.
#[inline(always)]
pub(crate) fn row_log_sum_exp<T: Real>(row: &[T]) -> (T, T) {
    let top = max(row);
    let base = finite_or_zero(top);
    (top, Real::ln(sum(row, |x| Real::exp(x - base))))
}

/// What to subtract from a row whose largest entry is `top`.
#[inline(always)]
fn finite_or_zero<T: Real>(top: T) -> T {
    if top == T::NEG_INFINITY { T::zero() } else { top }
}

/// `put(row, top, rest)` with [`row_log_sum_exp`] of each row.
#[inline(always)]
pub(crate) fn for_log_sums<T: Real>(x: &[T], k: usize, mut put: impl FnMut(usize, T, T)) {
    if k > LANES {
        for (row, x) in x.chunks_exact(k).enumerate() {
            let (top, rest) = row_log_sum_exp(x);
            put(row, top, rest);
        }
        return;
    }
    // Side by side, as the numbers of one row would not fill a vector.
    let (mut weights, mut tops, mut totals) =
        ([T::zero(); LANES * TILE], [T::zero(); TILE], [T::zero(); TILE]);
    for (tile, x) in x.chunks(TILE * k).enumerate() {
        let rows = x.len() / k;
        let (weights, tops) = (&mut weights[..x.len()], &mut tops[..rows]);
        max_of_rows(x, k, tops);
        weights.copy_from_slice(x);
        subtract_tops(weights, k, tops);
        exp_in_place(weights);
        sum_of_rows(weights, k, &mut totals[..rows]);
        for total in &mut totals[..rows] {
            *total = Real::ln(*total);
        }
        for (row, (top, total)) in tops.iter().zip(&totals).enumerate() {
            put(tile * TILE + row, *top, *total);
        }
    }
}

/// Subtracts from each row its largest entry, if that is not `-∞`.
#[inline(always)]
pub(crate) fn subtract_tops<T: Real>(x: &mut [T], k: usize, tops: &[T]) {
    for (x, top) in x.chunks_exact_mut(k).zip(tops) {
        let base = finite_or_zero(*top);
        for x in x {
            *x -= base;
        }
    }
}

pub(crate) fn masked_row<T>(row: usize) -> Result<T> {
    candle_core::bail!(
        "row {row} of the logits has no category left: every entry is -inf (or NaN); unmask at least one"
    )
}

/// Subtracts from each row of `x`, into `y`, its largest entry, so that none is above 0; `first` is the number
/// of the first row.
#[inline(always)]
pub(crate) fn centre_rows<T: Real>(y: &mut [T], k: usize, first: usize) -> Result<()> {
    let mut tops = [T::zero(); TILE];
    for (tile, y) in y.chunks_mut(TILE * k).enumerate() {
        let tops = &mut tops[..y.len() / k];
        max_of_rows(y, k, tops);
        for (row, (y, top)) in y.chunks_exact_mut(k).zip(tops.iter()).enumerate() {
            if *top == T::NEG_INFINITY {
                return masked_row(first + tile * TILE + row);
            }
            for y in y.iter_mut() {
                *y -= *top;
            }
        }
    }
    Ok(())
}

#[inline(always)]
pub(crate) fn exp_in_place<T: Real>(x: &mut [T]) {
    for x in x {
        *x = Real::exp(*x);
    }
}

/// Makes rows of scores, of which none is above 0, probabilities.
#[inline(always)]
pub(crate) fn normalise_rows<T: Real>(y: &mut [T], k: usize) {
    let mut totals = [T::zero(); TILE];
    for y in y.chunks_mut(TILE * k) {
        let totals = &mut totals[..y.len() / k];
        exp_in_place(y);
        sum_of_rows(y, k, totals);
        for (y, total) in y.chunks_exact_mut(k).zip(totals.iter()) {
            let scale = T::one() / *total;
            for y in y.iter_mut() {
                *y *= scale;
            }
        }
    }
}

/// Makes the scores of one long row, of which the largest is `top`, probabilities.
#[inline(always)]
pub(crate) fn normalise_long_row<T: Real>(y: &mut [T], top: T) {
    let mut total = T::zero();
    for block in y.chunks_mut(BLOCK) {
        for y in block.iter_mut() {
            *y = Real::exp(*y - top);
        }
        total += sum(block, |y| y);
    }
    let scale = T::one() / total;
    for y in y.iter_mut() {
        *y *= scale;
    }
}

/// Makes rows of scores, of which none is above 0, logarithms of probabilities.
#[inline(always)]
pub(crate) fn log_normalise_rows<T: Real>(y: &mut [T], k: usize) {
    let mut totals = [T::zero(); TILE];
    // Of a long row one block of weights is in the cache at a time, of short rows a tile.
    let mut weights = [T::zero(); BLOCK];
    let tile = (BLOCK / k).clamp(1, TILE);
    for y in y.chunks_mut(tile * k) {
        let totals = &mut totals[..y.len() / k];
        totals.fill(T::zero());
        for block in y.chunks(BLOCK) {
            let weights = &mut weights[..block.len()];
            weights.copy_from_slice(block);
            exp_in_place(weights);
            if k <= BLOCK {
                sum_of_rows(weights, k, totals);
            } else {
                totals[0] += sum(weights, |w| w);
            }
        }
        for total in totals.iter_mut() {
            *total = Real::ln(*total);
        }
        for (y, total) in y.chunks_exact_mut(k).zip(totals.iter()) {
            for y in y.iter_mut() {
                *y -= *total;
            }
        }
    }
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

/// Size of the last axis; an error for a scalar or an empty axis.
pub(crate) fn categories(shape: &Shape) -> Result<usize> {
    match shape.dims().last() {
        Some(k) if *k > 0 => Ok(*k),
        _ => candle_core::bail!("expected logits [.., K] with K ≥ 1, got shape {shape:?}"),
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
