//! Rows of logits: their maxima, `ln Σ exp`, and what makes probabilities of them.
use candle_core::{Result, Shape};

use crate::Real;
use crate::reduce::{BLOCK, LANES, max, max_of_rows, sum, sum_of_rows, sum_zip};
use crate::vectorised::vectorised;

/// Size of the last axis; an error for a scalar or an empty axis.
pub(crate) fn categories(shape: &Shape) -> Result<usize> {
    match shape.dims().last() {
        Some(k) if *k > 0 => Ok(*k),
        _ => candle_core::bail!("expected logits [.., K] with K ≥ 1, got shape {shape:?}"),
    }
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

vectorised! {
    /// `d_k ← w_k (d_k - Σ_j w_j d_j)` for every row: back through a softmax with the value `w`.
    pub(crate) fn softmax_slopes_in_place<T: Real>(w: &[T], k: usize, d: &mut [T]) {
        for (w, d) in w.chunks_exact(k).zip(d.chunks_exact_mut(k)) {
            let mean = sum_zip(w, d, |w, d| w * d);
            for (d, w) in d.iter_mut().zip(w) {
                *d = *w * (*d - mean);
            }
        }
    }
}
