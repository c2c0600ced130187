//! Entropy of a categorical distribution given by logits.
use candle_core::{D, Result, Tensor};

use crate::graph::{compute, node};
use crate::log_softmax::{categories, masked_row, row_log_sum_exp};
use crate::reduce::sum;
use crate::rows::make_rows;
use crate::vectorised::vectorised;
use crate::{Real, in_single};

const NAME: &str = "categorical_entropy";

/// `H = -Σ_k q_k log q_k` over the last axis, in nats.
///
/// `logits: [.., K]` (unnormalised) → `[..]`. Masked categories (`-∞`) contribute 0. Differentiable.
///
/// # Errors
/// If a row has no finite entry.
pub fn categorical_entropy(logits: &Tensor) -> Result<Tensor> {
    in_single([logits], |[x]| {
        if !x.device().is_cpu() {
            return reference(x);
        }
        let k = categories(x.shape())?;
        let rows = x.elem_count() / k;
        let leading = &x.dims()[..x.rank() - 1];
        let h = compute!(NAME, leading, T, |x| {
            make_rows(rows, 1, 2 * k, |first, y| entropies::<T>(x, k, first, y))?
        });
        node(NAME, [x], h, move |[x], _, g| {
            let d = compute!(NAME, x.shape(), T, |x, g| {
                make_rows(rows, k, 3 * k, |first, d| {
                    slopes::<T>(x, g, k, first, d);
                    Ok(())
                })?
            });
            Ok([Some(d.tensor())])
        })
    })
}

/// The twin of [`categorical_entropy`] from plain candle operations (finite logits only).
pub fn reference(logits: &Tensor) -> Result<Tensor> {
    let log_q = super::log_softmax::reference(logits)?;
    (log_q.exp()? * log_q)?.sum(D::Minus1)?.neg()
}

/// `(ln Σ exp, entropy)` of a row.
#[inline(always)]
fn row_entropy<T: Real>(row: &[T]) -> (T, T) {
    let total = row_log_sum_exp(row);
    let entropy = sum(row, |x| {
        let log_q = x - total;
        let prob = Real::exp(log_q);
        if prob > T::zero() { -(prob * log_q) } else { T::zero() }
    });
    (total, entropy)
}

vectorised! {
    /// The entropies of rows `first..`.
    fn entropies<T: Real>(x: &[T], k: usize, first: usize, y: &mut [T]) -> Result<()> {
        for (i, y) in y.iter_mut().enumerate() {
            let (total, entropy) = row_entropy(&x[(first + i) * k..][..k]);
            if total == T::NEG_INFINITY {
                return masked_row(first + i);
            }
            *y = entropy;
        }
        Ok(())
    }

    /// `-g q_k (log q_k + H)` of rows `first..`.
    fn slopes<T: Real>(x: &[T], g: &[T], k: usize, first: usize, d: &mut [T]) {
        for (i, d) in d.chunks_mut(k).enumerate() {
            let row = &x[(first + i) * k..][..k];
            let (total, entropy) = row_entropy(row);
            for (d, x) in d.iter_mut().zip(row) {
                let log_q = *x - total;
                let prob = Real::exp(log_q);
                let slope = -(g[first + i] * prob * (log_q + entropy));
                *d = if prob > T::zero() { slope } else { T::zero() };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::check::{finite_differences, irregular, twins};

    #[test]
    fn fused_equals_reference_in_value_and_gradient() -> Result<()> {
        for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-5)] {
            let x = irregular(&[3, 4, 9], 1, dtype)?;
            twins(&[x], tolerance, |x| categorical_entropy(&x[0]), |x| reference(&x[0]))?;
        }
        finite_differences(&[irregular(&[2, 4], 2, DType::F64)?], |x| categorical_entropy(&x[0]))
    }

    #[test]
    fn certain_and_masked() -> Result<()> {
        let inf = f64::INFINITY;
        let x = Tensor::new(&[[1e4, -1e4, 3.], [1., 2., -inf]], &Device::Cpu)?;
        let h = categorical_entropy(&x)?.to_vec1::<f64>()?;
        assert_eq!(h[0], 0.);
        assert!((h[1] - 0.582_203_108_888_217_9).abs() < 1e-14);
        Ok(())
    }
}
