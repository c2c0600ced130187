//! Arithmetic on rows of numbers.
use crate::Real;
use crate::vectorised::vectorised;

pub(super) fn to_f64<T: Real>(x: &[T]) -> Vec<f64> {
    x.iter().map(|x| x.to_f64()).collect()
}

/// 0 of what is as good as 0: what is impossible stays so.
pub(super) fn reciprocal(x: f64) -> f64 {
    if x < f64::MIN_POSITIVE { 0. } else { x.recip() }
}

pub(super) fn scale_rows(x: &mut [f64], factors: &[f64], width: usize) {
    for (row, factor) in x.chunks_exact_mut(width).zip(factors) {
        row.iter_mut().for_each(|x| *x *= factor);
    }
}

vectorised! {
    /// `x ← exp(x - max x)`, all 0 where all are -∞; returns the maximum.
    pub(super) fn exp_below_top(x: &mut [f64]) -> f64 {
        let top = crate::reduce::max(x);
        let shift = if top == f64::NEG_INFINITY { 0. } else { top };
        for x in x.iter_mut() {
            *x = Real::exp(*x - shift);
        }
        top
    }

    pub(super) fn multiply(x: &mut [f64], by: &[f64]) {
        for (x, by) in x.iter_mut().zip(by) {
            *x *= *by;
        }
    }

    /// `x ← from - x`.
    pub(super) fn subtract_from(from: &[f64], x: &mut [f64]) {
        for (x, from) in x.iter_mut().zip(from) {
            *x = *from - *x;
        }
    }
}
