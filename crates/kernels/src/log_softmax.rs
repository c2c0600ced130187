//! `log softmax` over the last axis.
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};

use crate::rows::{data, for_rows, max, sum, sum_zip, with_float};
use crate::{Real, in_single};

/// Normalised log-probabilities: `x_k - ln Σ_j exp x_j` over the last axis.
///
/// `x: [.., K]` → `[.., K]`. A `-∞` entry is a masked category: its log-probability is `-∞` and it takes
/// no part in the sum. Differentiable.
///
/// # Errors
/// If a row has no finite entry.
pub fn log_softmax(x: &Tensor) -> Result<Tensor> {
    in_single([x], |[x]| {
        if x.device().is_cpu() { x.contiguous()?.apply_op1(Forward) } else { reference(x) }
    })
}

/// The twin of [`log_softmax`] from plain candle operations.
pub fn reference(x: &Tensor) -> Result<Tensor> {
    x.broadcast_sub(&super::log_sum_exp::reference(x)?.unsqueeze(x.rank() - 1)?)
}

struct Forward;
struct Backward;

/// `ln Σ exp x` of one row; an error if the row is masked entirely.
#[inline(always)]
pub(crate) fn row_log_sum_exp<T: Real>(row: &[T]) -> T {
    let top = max(row);
    if top == T::NEG_INFINITY {
        return top;
    }
    top + Real::ln(sum(row, |x| Real::exp(x - top)))
}

pub(crate) fn masked_row<T>(row: usize) -> Result<T> {
    candle_core::bail!(
        "row {row} of the logits has no category left: every entry is -inf (or NaN); unmask at least one"
    )
}

/// `log softmax` of every row.
pub(crate) fn forward<T: Real>(x: &[T], k: usize) -> Result<Vec<T>> {
    let mut y = vec![T::zero(); x.len()];
    for_rows(&mut y, k, 2 * k, |first, y| {
        let x = &x[first * k..][..y.len()];
        for (row, (x, y)) in x.chunks(k).zip(y.chunks_mut(k)).enumerate() {
            let top = max(x);
            if top == T::NEG_INFINITY {
                return masked_row(first + row);
            }
            for (y, x) in y.iter_mut().zip(x) {
                *y = *x - top;
            }
        }
        // Exponentials and logarithms over all rows at once: short rows would not fill a vector.
        let mut weights: Vec<T> = y.to_vec();
        exp_in_place(&mut weights);
        let mut totals: Vec<T> = weights.chunks(k).map(|row| sum(row, |w| w)).collect();
        for total in &mut totals {
            *total = Real::ln(*total);
        }
        for (y, total) in y.chunks_mut(k).zip(totals) {
            for y in y.iter_mut() {
                *y -= total;
            }
        }
        Ok(())
    })?;
    Ok(y)
}

#[inline(always)]
pub(crate) fn exp_in_place<T: Real>(x: &mut [T]) {
    for x in x {
        *x = Real::exp(*x);
    }
}

/// `g_k - softmax_k Σ_j g_j` over the categories that are not masked, 0 for those that are.
fn backward<T: Real>(y: &[T], g: &[T], k: usize) -> Result<Vec<T>> {
    let mut d = vec![T::zero(); y.len()];
    for_rows(&mut d, k, k, |first, d| {
        let (y, g) = (&y[first * k..][..d.len()], &g[first * k..][..d.len()]);
        let open = |y: T, g: T| if y == T::NEG_INFINITY { T::zero() } else { g };
        for (d, y) in d.iter_mut().zip(y) {
            *d = Real::exp(*y);
        }
        for ((d, y), g) in d.chunks_mut(k).zip(y.chunks(k)).zip(g.chunks(k)) {
            let total = sum_zip(y, g, open);
            for ((d, y), g) in d.iter_mut().zip(y).zip(g) {
                *d = open(*y, *g - *d * total);
            }
        }
        Ok(())
    })?;
    Ok(d)
}

/// Size of the last axis; an error for a scalar or an empty axis.
pub(crate) fn categories(shape: &Shape) -> Result<usize> {
    match shape.dims().last() {
        Some(k) if *k > 0 => Ok(*k),
        _ => candle_core::bail!("expected logits [.., K] with K ≥ 1, got shape {shape:?}"),
    }
}

impl CustomOp1 for Forward {
    fn name(&self) -> &'static str {
        "log_softmax"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let k = categories(l.shape())?;
        let y = with_float!(s, self.name(), T => forward::<T>(data(s, l)?, k)?);
        Ok((y, l.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, y: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(y.apply_op2_no_bwd(&g.contiguous()?, &Backward)?))
    }
}

impl CustomOp2 for Backward {
    fn name(&self) -> &'static str {
        "log_softmax_backward"
    }

    fn cpu_fwd(
        &self,
        y: &CpuStorage,
        ly: &Layout,
        g: &CpuStorage,
        lg: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let k = categories(ly.shape())?;
        let d = with_float!(y, self.name(), T => {
            backward::<T>(data(y, ly)?, data(g, lg)?, k)?
        });
        Ok((d, ly.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::rows::check::{close, finite_differences, irregular, twins};

    #[test]
    fn fused_equals_reference_in_value_and_gradient() -> Result<()> {
        for (shape, dtype, tolerance) in [
            (vec![3, 5], DType::F64, 1e-12),
            (vec![2, 700, 33], DType::F32, 2e-5),
            (vec![4, 1], DType::F64, 1e-12),
        ] {
            let x = (irregular(&shape, 1, dtype)? * 3.)?;
            twins(&[x], tolerance, |x| log_softmax(&x[0]), |x| reference(&x[0]))?;
        }
        finite_differences(&[irregular(&[2, 4], 2, DType::F64)?], |x| log_softmax(&x[0]))
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
