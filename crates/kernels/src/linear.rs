//! The affine map of a layer.
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp3, Layout, Result, Shape, Tensor};

use crate::rows::{data, vectorised, with_float};
use crate::{Real, in_single};

/// `y = x Wᵀ + b`, with the bias added in place and its gradient summed in one pass.
///
/// `x: [.., I]`, `weight: [O, I]`, `bias: [O]` → `[.., O]`. Differentiable in all three; no gradient of `x`
/// is computed where `x` does not need one, which saves a third of the backward pass of a first layer.
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    in_single([x, weight, bias], |[x, weight, bias]| affine(x, weight, bias))
}

fn affine(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return reference(x, weight, bias);
    }
    let (Some(inputs), (outputs, expected)) = (x.dims().last(), weight.dims2()?) else {
        candle_core::bail!("expected x [.., I], got a scalar")
    };
    if *inputs != expected || bias.dims() != [outputs] {
        candle_core::bail!(
            "linear: x {:?} does not fit weight {:?} and bias {:?}",
            x.shape(),
            weight.shape(),
            bias.shape()
        )
    }
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = outputs;
    }
    let rows = x.reshape(((), *inputs))?.contiguous()?;
    rows.apply_op3(&weight.contiguous()?, &bias.contiguous()?, Linear)?.reshape(shape)
}

/// The twin of [`linear`] from plain candle operations.
pub fn reference(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.broadcast_matmul(&weight.t()?)?.broadcast_add(bias)
}

struct Linear;
struct ColumnSums;

fn add_bias<T: Real>(y: &mut [T], bias: &[T]) {
    vectorised(|| {
        for row in y.chunks_mut(bias.len().max(1)) {
            for (y, b) in row.iter_mut().zip(bias) {
                *y += *b;
            }
        }
    });
}

fn column_sums<T: Real>(g: &[T], width: usize) -> Vec<T> {
    let mut sums = vec![T::zero(); width];
    vectorised(|| {
        for row in g.chunks(width.max(1)) {
            for (sum, g) in sums.iter_mut().zip(row) {
                *sum += *g;
            }
        }
    });
    sums
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((rows, inputs), (outputs, _)) = (lx.shape().dims2()?, lw.shape().dims2()?);
        let mut y = x.matmul(w, (1, rows, outputs, inputs), lx, &lw.transpose(0, 1)?)?;
        match &mut y {
            CpuStorage::F32(y) => add_bias(y, data(b, lb)?),
            CpuStorage::F64(y) => add_bias(y, data(b, lb)?),
            _ => candle_core::bail!("linear is for f32 and f64 tensors; convert with to_dtype"),
        }
        Ok((y, Shape::from((rows, outputs))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let g = g.contiguous()?;
        let dx = x.track_op().then(|| g.matmul(&w.detach())).transpose()?;
        let dw = w.track_op().then(|| g.t()?.matmul(&x.detach())).transpose()?;
        let db = b.track_op().then(|| g.apply_op1_no_bwd(&ColumnSums)).transpose()?;
        Ok((dx, dw, db))
    }
}

impl CustomOp1 for ColumnSums {
    fn name(&self) -> &'static str {
        "column_sums"
    }

    fn cpu_fwd(&self, g: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, width) = l.shape().dims2()?;
        Ok((
            with_float!(g, self.name(), T => column_sums::<T>(data(g, l)?, width)),
            Shape::from(width),
        ))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::rows::check::{finite_differences, irregular, twins};

    fn inputs(x: &[usize], dtype: DType) -> Result<[Tensor; 3]> {
        let width = x[x.len() - 1];
        Ok([irregular(x, 1, dtype)?, irregular(&[7, width], 2, dtype)?, irregular(&[7], 3, dtype)?])
    }

    #[test]
    fn fused_equals_reference_in_value_and_gradient() -> Result<()> {
        for (shape, dtype, tolerance) in [
            (vec![4, 5], DType::F64, 1e-12),
            (vec![2, 3, 5], DType::F64, 1e-12),
            (vec![100, 300], DType::F32, 2e-5),
        ] {
            let twin = |i: &[Tensor]| reference(&i[0], &i[1], &i[2]);
            twins(&inputs(&shape, dtype)?, tolerance, |i| linear(&i[0], &i[1], &i[2]), twin)?;
        }
        finite_differences(&inputs(&[3, 2], DType::F64)?, |i| linear(&i[0], &i[1], &i[2]))
    }

    #[test]
    fn sizes_that_do_not_fit_are_an_error_that_names_them() -> Result<()> {
        let [x, w, b] = inputs(&[4, 5], DType::F32)?;
        let error = linear(&x.t()?, &w, &b).unwrap_err();
        assert!(error.to_string().contains("[7, 5]"), "{error}");
        assert!(linear(&x, &w, &b.narrow(0, 0, 3)?).is_err());
        Ok(())
    }
}
