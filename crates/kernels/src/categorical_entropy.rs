//! Entropy of a categorical distribution given by logits.
use candle_core::{CpuStorage, CustomOp1, CustomOp2, D, Layout, Result, Shape, Tensor};

use crate::log_softmax::{categories, masked_row, row_log_sum_exp};
use crate::rows::{data, for_rows, sum, with_float};
use crate::{Real, in_single};

/// `H = -Σ_k q_k log q_k` over the last axis, in nats.
///
/// `logits: [.., K]` (unnormalised) → `[..]`. Masked categories (`-∞`) contribute 0. Differentiable.
///
/// # Errors
/// If a row has no finite entry.
pub fn categorical_entropy(logits: &Tensor) -> Result<Tensor> {
    in_single([logits], |[x]| {
        if x.device().is_cpu() { x.contiguous()?.apply_op1(Forward) } else { reference(x) }
    })
}

/// The twin of [`categorical_entropy`] from plain candle operations (finite logits only).
pub fn reference(logits: &Tensor) -> Result<Tensor> {
    let log_q = super::log_softmax::reference(logits)?;
    (log_q.exp()? * log_q)?.sum(D::Minus1)?.neg()
}

struct Forward;
struct Backward;

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

fn forward<T: Real>(x: &[T], k: usize) -> Result<Vec<T>> {
    let mut y = vec![T::zero(); x.len() / k];
    for_rows(&mut y, 1, k, |first, y| {
        for (i, y) in y.iter_mut().enumerate() {
            let (total, entropy) = row_entropy(&x[(first + i) * k..][..k]);
            if total == T::NEG_INFINITY {
                return masked_row(first + i);
            }
            *y = entropy;
        }
        Ok(())
    })?;
    Ok(y)
}

/// `-g q_k (log q_k + H)`.
fn backward<T: Real>(x: &[T], g: &[T], k: usize) -> Result<Vec<T>> {
    let mut d = vec![T::zero(); x.len()];
    for_rows(&mut d, k, k, |first, d| {
        for (i, d) in d.chunks_mut(k).enumerate() {
            let row = &x[(first + i) * k..][..k];
            let (total, entropy) = row_entropy(row);
            for (d, x) in d.iter_mut().zip(row) {
                let log_q = *x - total;
                let prob = Real::exp(log_q);
                if prob > T::zero() {
                    *d = -(g[first + i] * prob * (log_q + entropy));
                }
            }
        }
        Ok(())
    })?;
    Ok(d)
}

impl CustomOp1 for Forward {
    fn name(&self) -> &'static str {
        "categorical_entropy"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let k = categories(l.shape())?;
        let y = with_float!(s, self.name(), T => forward::<T>(data(s, l)?, k)?);
        let dims = l.dims();
        Ok((y, Shape::from(&dims[..dims.len() - 1])))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(x.apply_op2_no_bwd(&g.contiguous()?, &Backward)?))
    }
}

impl CustomOp2 for Backward {
    fn name(&self) -> &'static str {
        "categorical_entropy_backward"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        g: &CpuStorage,
        lg: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let k = categories(lx.shape())?;
        let d = with_float!(x, self.name(), T => {
            backward::<T>(data(x, lx)?, data(g, lg)?, k)?
        });
        Ok((d, lx.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::rows::check::{finite_differences, irregular, twins};

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
