//! Addition.
use candle_core::{Result, Tensor};

use crate::graph::{compute, fusible, node};
use crate::linear::sum_of_columns;
use crate::rows::make_rows;
use crate::vectorised::vectorised;
use crate::{Real, in_single};

/// `x + y`, with `y` repeated over the leading axes of `x`: a residual connection, or a vector that is added to
/// each row.
///
/// `x: [.., R..]`, `y: [R..]` → `[.., R..]`. Differentiable. Unlike candle's sum it runs on all threads, and its
/// gradient costs nothing where the shapes are the same.
///
/// # Errors
/// If the shape of `y` is not that of the last axes of `x`.
pub fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    if !x.dims().ends_with(y.dims()) {
        candle_core::bail!(
            "add: the shape of y, {:?}, is not that of the last axes of x, {:?}",
            y.shape(),
            x.shape()
        )
    }
    if !fusible([x, y]) {
        return reference(x, y);
    }
    in_single([x, y], |[x, y]| {
        let z = compute!("add", x.shape(), T, |x, y| {
            make_rows(x.len(), 1, 1, |first, z: &mut [T]| {
                sums(&x[first..][..z.len()], y, first, z);
                Ok(())
            })?
        });
        node("add", [x, y], z, |[x, y], _, g| {
            let of_y = || match x.dims() == y.dims() {
                true => Ok(g.clone()),
                false => sum_of_columns(g, y.elem_count())?.tensor().reshape(y.shape()),
            };
            Ok([x.track_op().then(|| g.clone()), y.track_op().then(of_y).transpose()?])
        })
    })
}

/// The twin of [`add`] from plain candle operations.
pub fn reference(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    x.broadcast_add(y)
}

vectorised! {
    /// Numbers `first..` of the sum.
    fn sums<T: Real>(x: &[T], y: &[T], first: usize, z: &mut [T]) {
        let mut start = first % y.len();
        let (mut x, mut z) = (x, z);
        while !z.is_empty() {
            let run = (y.len() - start).min(z.len());
            let (now, later) = z.split_at_mut(run);
            for ((z, x), y) in now.iter_mut().zip(x).zip(&y[start..]) {
                *z = *x + *y;
            }
            (x, z, start) = (&x[run..], later, 0);
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
        for (x, y, dtype, tolerance) in [
            (vec![4, 5], vec![5], DType::F64, 1e-12),
            (vec![3, 700, 33], vec![700, 33], DType::F32, 1e-5),
            (vec![70, 700], vec![70, 700], DType::F32, 1e-5),
            (vec![6], vec![], DType::F64, 1e-12),
        ] {
            let inputs = [irregular(&x, 1, dtype)?, irregular(&y, 2, dtype)?];
            twins(&inputs, tolerance, |i| add(&i[0], &i[1]), |i| reference(&i[0], &i[1]))?;
        }
        let inputs = [irregular(&[3, 2], 1, DType::F64)?, irregular(&[2], 2, DType::F64)?];
        finite_differences(&inputs, |i| add(&i[0], &i[1]))?;
        finite_differences(&inputs[..1], |i| add(&i[0], &i[0]))?;
        let nothing = Tensor::zeros((0, 2), DType::F64, &Device::Cpu)?;
        assert_eq!(add(&nothing, &inputs[1])?.dims(), [0, 2]);
        Ok(())
    }

    #[test]
    fn shapes_that_do_not_fit_are_an_error_that_names_them() -> Result<()> {
        let (x, y) = (irregular(&[4, 5], 1, DType::F32)?, irregular(&[4], 2, DType::F32)?);
        let error = add(&x, &y).unwrap_err();
        assert!(error.to_string().contains("[4], is not"), "{error}");
        assert!(add(&y, &Tensor::zeros((1, 4), DType::F32, &Device::Cpu)?).is_err());
        Ok(())
    }
}
