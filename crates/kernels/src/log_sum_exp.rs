//! `ln Σ exp` over an axis.
use candle_core::shape::Dim;
use candle_core::{CpuStorage, CustomOp1, CustomOp3, D, Layout, Result, Shape, Tensor};

use crate::log_softmax::{categories, row_log_sum_exp};
use crate::rows::{data, for_rows, with_float};
use crate::{Real, in_single};

/// `ln Σ_k exp x_k` over the axis `dim`, which is removed.
///
/// Neither overflows nor underflows; `-∞` where all entries are `-∞` (with gradient 0). Differentiable.
pub fn log_sum_exp(x: &Tensor, dim: impl Dim) -> Result<Tensor> {
    let dim = dim.to_index(x.shape(), "log_sum_exp")?;
    let mut order: Vec<usize> = (0..x.rank()).filter(|d| *d != dim).collect();
    order.push(dim);
    let last =
        if dim + 1 == x.rank() { x.contiguous()? } else { x.permute(order)?.contiguous()? };
    in_single([&last], |[x]| if x.device().is_cpu() { x.apply_op1(Forward) } else { reference(x) })
}

/// The twin of [`log_sum_exp`] over the last axis, from plain candle operations (finite rows only).
pub fn reference(x: &Tensor) -> Result<Tensor> {
    let max = x.max_keepdim(D::Minus1)?.detach();
    let sum = x.broadcast_sub(&max)?.exp()?.sum_keepdim(D::Minus1)?;
    (sum.log()? + max)?.squeeze(D::Minus1)
}

struct Forward;
struct Backward;

fn without_last(shape: &Shape) -> Shape {
    let dims = shape.dims();
    Shape::from(&dims[..dims.len().saturating_sub(1)])
}

fn forward<T: Real>(x: &[T], k: usize) -> Result<Vec<T>> {
    let mut y = vec![T::zero(); x.len() / k];
    for_rows(&mut y, 1, k, |first, y| {
        for (i, y) in y.iter_mut().enumerate() {
            *y = row_log_sum_exp(&x[(first + i) * k..][..k]);
        }
        Ok(())
    })?;
    Ok(y)
}

/// `g softmax_k(x)`.
fn backward<T: Real>(x: &[T], y: &[T], g: &[T], k: usize) -> Result<Vec<T>> {
    let mut d = vec![T::zero(); x.len()];
    for_rows(&mut d, k, k, |first, d| {
        for (i, d) in d.chunks_mut(k).enumerate() {
            let row = first + i;
            if y[row] == T::NEG_INFINITY {
                continue;
            }
            for (d, x) in d.iter_mut().zip(&x[row * k..][..k]) {
                *d = g[row] * Real::exp(*x - y[row]);
            }
        }
        Ok(())
    })?;
    Ok(d)
}

impl CustomOp1 for Forward {
    fn name(&self) -> &'static str {
        "log_sum_exp"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let k = categories(l.shape())?;
        let y = with_float!(s, self.name(), T => forward::<T>(data(s, l)?, k)?);
        Ok((y, without_last(l.shape())))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(x.apply_op3_no_bwd(y, &g.contiguous()?, &Backward)?))
    }
}

impl CustomOp3 for Backward {
    fn name(&self) -> &'static str {
        "log_sum_exp_backward"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        y: &CpuStorage,
        ly: &Layout,
        g: &CpuStorage,
        lg: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let k = categories(lx.shape())?;
        let d = with_float!(x, self.name(), T => {
            backward::<T>(data(x, lx)?, data(y, ly)?, data(g, lg)?, k)?
        });
        Ok((d, lx.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::rows::check::{finite_differences, irregular, twins};

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
