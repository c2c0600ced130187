//! The affine map of a layer, with its nonlinearity.
use candle_core::{Result, Tensor};

use crate::autocast::{rounded, times_transposed};
use crate::graph::{Value, compute, fusible, node};
use crate::matmul::{Matrix, add_product, product};
use crate::rows::make_rows;
use crate::vectorised::vectorised;
use crate::{Real, in_single};

/// The nonlinearity that ends a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activation {
    /// None: the layer is affine.
    #[default]
    Identity,
    /// `max(x, 0)`, with slope 0 at 0.
    Relu,
    /// `tanh x`.
    Tanh,
}

/// The affine map of a layer.
///
/// With the weights `W` and the bias `b`, for each row `x`:
///
/// ```math
/// y = x W^\top + b
/// ```
///
/// `x: [.., I]`, `weight: [O, I]`, `bias: [O]` → `[.., O]`. Differentiable in all three; no gradient of `x`
/// is computed where `x` does not need one, which saves a third of the backward pass of a first layer.
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    linear_with_activation(x, weight, bias, Activation::Identity)
}

/// [`linear`] and a nonlinearity in one node of the graph, whose slope is taken from the result.
///
/// With the nonlinearity `f`:
///
/// ```math
/// y = f(x W^\top + b)
/// ```
pub fn linear_with_activation(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    activation: Activation,
) -> Result<Tensor> {
    let [x, weight] = rounded([x, weight])?;
    in_single([&x, &weight, bias], |[x, weight, bias]| {
        let (Some(inputs), (outputs, expected)) = (x.dims().last(), weight.dims2()?) else {
            candle_core::bail!("linear: expected x [.., I], got a scalar")
        };
        if *inputs != expected || bias.dims() != [outputs] {
            candle_core::bail!(
                "linear: x {:?} does not fit weight {:?} and bias {:?}",
                x.shape(),
                weight.shape(),
                bias.shape()
            )
        }
        // A sum of no products is 0, which the twin knows.
        let some = x.elem_count() * outputs > 0;
        #[cfg(feature = "cuda")]
        if crate::cuda::takes([x, weight, bias]) && some {
            return crate::cuda::linear(x, weight, bias, activation);
        }
        if !fusible([x, weight, bias]) || !some {
            return reference_with_activation(x, weight, bias, activation);
        }
        fused(x, weight, bias, activation)
    })
}

/// The twin of [`linear`] from plain candle operations.
pub fn reference(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    reference_with_activation(x, weight, bias, Activation::Identity)
}

/// The twin of [`linear_with_activation`] from plain candle operations.
pub fn reference_with_activation(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    activation: Activation,
) -> Result<Tensor> {
    let y = times_transposed(x, weight)?.broadcast_add(bias)?;
    match activation {
        Activation::Identity => Ok(y),
        Activation::Relu => y.relu(),
        Activation::Tanh => y.tanh(),
    }
}

const NAME: &str = "linear";

fn fused(x: &Tensor, w: &Tensor, b: &Tensor, activation: Activation) -> Result<Tensor> {
    let inputs = w.dim(1)?;
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = w.dim(0)?;
    }
    let y = compute!(NAME, shape, T, |x, w, b| {
        let mut y = repeated::<T>(b, x.len() / inputs.max(1))?;
        add_product(Matrix::new(x, inputs), Matrix::new(w, inputs).transposed(), &mut y);
        activate(&mut y, activation);
        y
    });
    node(NAME, [x, w, b], y, move |[x, w, b], y, g| {
        let outputs = w.dim(0)?;
        let d = match activation {
            Activation::Identity => g.clone(),
            _ => compute!(NAME, y.shape(), T, |y, g| {
                let run = |first: usize, d: &mut [T]| {
                    let here = first..first + d.len();
                    slopes::<T>(&y[here.clone()], &g[here], d, activation);
                    Ok(())
                };
                make_rows(y.len(), 1, 1, run)?
            })
            .tensor(),
        };
        let d = &d;
        let dx = || {
            let dx = compute!(NAME, x.shape(), T, |d, w| {
                product::<T>(Matrix::new(d, outputs), Matrix::new(w, inputs))
            });
            Ok::<_, candle_core::Error>(dx.tensor())
        };
        let dw = || {
            let dw = compute!(NAME, w.shape(), T, |d, x| {
                product::<T>(Matrix::new(d, outputs).transposed(), Matrix::new(x, inputs))
            });
            Ok::<_, candle_core::Error>(dw.tensor())
        };
        let db = || Ok::<_, candle_core::Error>(sum_of_columns(d, outputs)?.tensor());
        Ok([
            x.track_op().then(dx).transpose()?,
            w.track_op().then(dw).transpose()?,
            b.track_op().then(db).transpose()?,
        ])
    })
}

/// `rows` copies of the bias.
fn repeated<T: Real>(bias: &[T], rows: usize) -> Result<Vec<T>> {
    make_rows(rows, bias.len(), bias.len(), |_, y: &mut [T]| {
        y.chunks_exact_mut(bias.len()).for_each(|y| y.copy_from_slice(bias));
        Ok(())
    })
}

/// Rows that are summed before their sum is added to that of the others.
const BLOCK: usize = 256;

/// The sum of all rows of `width` numbers: the gradient of what was added to each. Row by row in blocks, in parallel
/// over columns of one block, or over blocks.
pub(crate) fn sum_of_columns(g: &Tensor, width: usize) -> Result<Value> {
    let rows = g.elem_count() / width.max(1);
    Ok(compute!("sum_of_columns", width, T, |g| {
        let columns = |g: &[T], rows: usize| {
            make_rows(width, 1, rows, |first, sums| {
                column_sums::<T>(g, width, first, sums);
                Ok(())
            })
        };
        if rows <= BLOCK {
            columns(g, rows)?
        } else {
            let blocks = rows.div_ceil(BLOCK);
            let sums = make_rows(blocks, width, width * BLOCK, |first, sums: &mut [T]| {
                let g = g[first * BLOCK * width..].chunks(BLOCK * width);
                for (sums, g) in sums.chunks_exact_mut(width).zip(g) {
                    column_sums::<T>(g, width, 0, sums);
                }
                Ok(())
            })?;
            columns(&sums, blocks)?
        }
    }))
}

vectorised! {
    fn activate<T: Real>(y: &mut [T], activation: Activation) {
        match activation {
            Activation::Identity => {}
            Activation::Relu => {
                for y in y {
                    // Not `max`, which would hide a NaN.
                    *y = if *y < T::zero() { T::zero() } else { *y };
                }
            }
            Activation::Tanh => {
                for y in y {
                    *y = Real::tanh(*y);
                }
            }
        }
    }

    /// `g f'`, the slope taken from the value.
    fn slopes<T: Real>(y: &[T], g: &[T], d: &mut [T], activation: Activation) {
        let of = |y: T, g: T| match activation {
            Activation::Identity => g,
            Activation::Relu => if y <= T::zero() { T::zero() } else { g },
            Activation::Tanh => g * (T::one() - y * y),
        };
        for ((d, y), g) in d.iter_mut().zip(y).zip(g) {
            *d = of(*y, *g);
        }
    }

    fn column_sums<T: Real>(g: &[T], width: usize, first: usize, sums: &mut [T]) {
        for row in g.chunks_exact(width) {
            for (sum, g) in sums.iter_mut().zip(&row[first..]) {
                *sum += *g;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::check::{finite_differences, irregular, twins};

    fn inputs(x: &[usize], dtype: DType) -> Result<[Tensor; 3]> {
        let width = x[x.len() - 1];
        Ok([irregular(x, 1, dtype)?, irregular(&[7, width], 2, dtype)?, irregular(&[7], 3, dtype)?])
    }

    #[test]
    fn fused_equals_reference_in_value_and_gradient() -> Result<()> {
        for (shape, dtype, tolerance) in [
            (vec![4, 5], DType::F64, 1e-12),
            (vec![2, 3, 5], DType::F64, 1e-12),
            (vec![600, 2], DType::F64, 1e-12),
            (vec![100, 300], DType::F32, 2e-5),
        ] {
            for activation in [Activation::Identity, Activation::Relu, Activation::Tanh] {
                twins(
                    &inputs(&shape, dtype)?,
                    tolerance,
                    |i| linear_with_activation(&i[0], &i[1], &i[2], activation),
                    |i| reference_with_activation(&i[0], &i[1], &i[2], activation),
                )?;
            }
        }
        finite_differences(&inputs(&[3, 2], DType::F64)?, |i| {
            linear_with_activation(&i[0], &i[1], &i[2], Activation::Tanh)
        })
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
