//! `sigmoid` and `softplus`, stable at any logit.
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};

use crate::rows::{data, for_rows, with_float};
use crate::{Real, in_single};

/// `σ(x) = 1 / (1 + e^-x)`, elementwise. Differentiable.
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    apply(x, Function::Sigmoid)
}

/// `ln(1 + e^x)`, elementwise: `-log σ(-x)`. Differentiable, with gradient `σ(x)`.
pub fn softplus(x: &Tensor) -> Result<Tensor> {
    apply(x, Function::Softplus)
}

/// The twin of [`sigmoid`] from plain candle operations.
pub fn sigmoid_reference(x: &Tensor) -> Result<Tensor> {
    (x.neg()?.exp()? + 1.)?.recip()
}

/// The twin of [`softplus`] from plain candle operations.
pub fn softplus_reference(x: &Tensor) -> Result<Tensor> {
    x.relu()? + (x.abs()?.neg()?.exp()? + 1.)?.log()?
}

fn apply(x: &Tensor, function: Function) -> Result<Tensor> {
    in_single([x], |[x]| match (x.device().is_cpu(), function) {
        (true, _) => x.contiguous()?.apply_op1(function),
        (false, Function::Sigmoid) => sigmoid_reference(x),
        (false, Function::Softplus) => softplus_reference(x),
    })
}

#[derive(Clone, Copy)]
enum Function {
    Sigmoid,
    Softplus,
}

struct Gradient(Function);

fn map<T: Real>(n: usize, f: impl Fn(usize) -> T + Sync) -> Result<Vec<T>> {
    let mut y = vec![T::zero(); n];
    for_rows(&mut y, 1, 1, |first, y| {
        for (i, y) in y.iter_mut().enumerate() {
            *y = f(first + i);
        }
        Ok(())
    })?;
    Ok(y)
}

impl Function {
    fn forward<T: Real>(self, x: &[T]) -> Result<Vec<T>> {
        match self {
            Self::Sigmoid => map(x.len(), |i| Real::sigmoid(x[i])),
            Self::Softplus => map(x.len(), |i| Real::softplus(x[i])),
        }
    }

    fn backward<T: Real>(self, x: &[T], g: &[T]) -> Result<Vec<T>> {
        match self {
            Self::Sigmoid => map(x.len(), |i| {
                // σ(x) σ(-x) keeps its precision where 1 - σ(x) would be 0.
                g[i] * Real::sigmoid(x[i]) * Real::sigmoid(-x[i])
            }),
            Self::Softplus => map(x.len(), |i| g[i] * Real::sigmoid(x[i])),
        }
    }
}

impl CustomOp1 for Function {
    fn name(&self) -> &'static str {
        match self {
            Self::Sigmoid => "sigmoid",
            Self::Softplus => "softplus",
        }
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = with_float!(s, self.name(), T => self.forward::<T>(data(s, l)?)?);
        Ok((y, l.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(x.apply_op2_no_bwd(&g.contiguous()?, &Gradient(*self))?))
    }
}

impl CustomOp2 for Gradient {
    fn name(&self) -> &'static str {
        "logistic_backward"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        g: &CpuStorage,
        lg: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let d = with_float!(x, self.name(), T => {
            self.0.backward::<T>(data(x, lx)?, data(g, lg)?)?
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
        for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-5)] {
            let x = (irregular(&[3, 70], 1, dtype)? * 4.)?;
            twins(
                std::slice::from_ref(&x),
                tolerance,
                |x| sigmoid(&x[0]),
                |x| sigmoid_reference(&x[0]),
            )?;
            twins(&[x], tolerance, |x| softplus(&x[0]), |x| softplus_reference(&x[0]))?;
        }
        let x = [irregular(&[5], 2, DType::F64)?];
        finite_differences(&x, |x| sigmoid(&x[0]))?;
        finite_differences(&x, |x| softplus(&x[0]))
    }

    #[test]
    fn nothing_overflows() -> Result<()> {
        let x = Var::new(&[-1e4f32, -100., 100., 1e4], &Device::Cpu)?;
        assert_eq!(softplus(&x)?.to_vec1::<f32>()?, [0., 3.8e-44, 100., 1e4]);
        for f in [sigmoid, softplus] {
            let grads = f(&x)?.sum_all()?.backward()?;
            let grad = grads.get(x.as_tensor()).unwrap().to_vec1::<f32>()?;
            assert!(grad.iter().all(|g| g.is_finite()), "{grad:?}");
        }
        Ok(())
    }
}
