//! The negative log-likelihood of categories whose logits are a linear map of the input.
use candle_core::{DType, Device, Result, Tensor};

use crate::autocast::{rounded, times_transposed};
use crate::cross_entropy::checked;
use crate::graph::{compute, fusible, node};
use crate::matmul::{Matrix, add_product, append_product};
use crate::reduce::{max, sum};
use crate::rows::for_units;
use crate::softmax_rows::row_log_sum_exp;
use crate::vectorised::vectorised;
use crate::{Real, in_single};

const NAME: &str = "linear_cross_entropy";

/// Logits that are in memory at a time, and bounds of the number of rows that they are of.
const LOGITS: usize = 1 << 22;
const ROWS: (usize, usize) = (64, 1024);

/// Mean negative log-likelihood of categories with the logits `x Wᵀ`, in nats.
///
/// Over all rows `x_n`, of which there are `N`, with their targets `t_n`:
///
/// ```math
/// \frac{1}{N} \sum_{n=1}^{N} \Bigl[ \ln \sum_j e^{(x_n W^\top)_j} - (x_n W^\top)_{t_n} \Bigr]
/// ```
///
/// `x: [.., D]`, `weight: [V, D]`, `targets: [..]` of `u32` → a scalar. Differentiable in `x` and `weight`.
///
/// The logits `[N, V]` are never there as a whole, but for some rows at a time: 2²² numbers, or 64 rows if those are
/// more. Where a gradient is needed, it is computed with them in the forward pass, and kept until the backward pass
/// multiplies it with that of the result (not if that is 1): 6 `N D V` operations and memory for one gradient of `x`
/// and one of `weight`; without gradients a third of the operations and no such memory. The backward pass of a
/// result that nobody differentiates is therefore not free: pass `weight.detach()` and `x.detach()` then. On an NVIDIA GPU
/// all logits and their gradient are in memory at once.
///
/// # Errors
/// If a target is not below `V`, there is none at all, or the shapes do not fit.
pub fn linear_cross_entropy(x: &Tensor, weight: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let (v, d) = weight.dims2()?;
    let ids = checked(NAME, x, v, targets)?;
    if x.dims().last() != Some(&d) || d == 0 || v == 0 || ids.0.is_empty() {
        candle_core::bail!(
            "{NAME}: x {:?} does not fit weight {:?}, or is empty",
            x.shape(),
            weight.shape()
        )
    }
    let [x, weight] = &rounded([x, weight])?;
    in_single([x, weight], |[x, weight]| {
        #[cfg(feature = "cuda")]
        if crate::cuda::takes([x, weight]) {
            let logits = times_transposed(x, weight)?;
            return crate::cuda::cross_entropy(&logits, targets)?.mean_all();
        }
        if !fusible([x, weight]) {
            return reference(x, weight, targets);
        }
        let (mut gradients, shapes) = ([None, None], [x.shape().clone(), weight.shape().clone()]);
        let tracked = [x, weight].map(Tensor::track_op);
        let loss = compute!(NAME, (), T, |x, weight| {
            let mut pass = Pass::<T>::new(x, weight, d, tracked);
            let loss = pass.run(&ids.0);
            for ((slot, numbers), like) in gradients.iter_mut().zip(pass.gradients).zip(&shapes) {
                *slot = numbers.map(|n| Tensor::from_vec(n, like, &Device::Cpu)).transpose()?;
            }
            vec![loss]
        });
        node(NAME, [x, weight], loss, move |_, _, g| {
            let g = g.to_dtype(DType::F64)?.to_scalar::<f64>()?;
            let scaled = |gradient: &Option<Tensor>| match gradient {
                Some(gradient) if g == 1. => Ok(Some(gradient.clone())),
                Some(gradient) => gradient.affine(g, 0.).map(Some),
                None => Ok(None),
            };
            let [dx, dw] = &gradients;
            Ok([scaled(dx)?, scaled(dw)?])
        })
    })
}

/// The twin of [`linear_cross_entropy`] from plain candle operations.
pub fn reference(x: &Tensor, weight: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let logits = times_transposed(x, weight)?;
    crate::cross_entropy::reference(&logits, targets)?.mean_all()
}

/// Rows of `v` logits that are in memory at a time.
pub(crate) fn rows_at_a_time(v: usize) -> usize {
    (LOGITS / v).clamp(ROWS.0, ROWS.1)
}

/// What one pass over the rows needs, and the gradients that it adds to.
struct Pass<'a, T> {
    x: &'a [T],
    weight: &'a [T],
    width: usize,
    gradients: [Option<Vec<T>>; 2],
}

impl<'a, T: Real> Pass<'a, T> {
    fn new(x: &'a [T], weight: &'a [T], width: usize, [of_x, of_weight]: [bool; 2]) -> Self {
        let room = |like: &[T], wanted: bool| wanted.then(|| Vec::with_capacity(like.len()));
        Self { x, weight, width, gradients: [room(x, of_x), room(weight, of_weight)] }
    }

    /// The loss.
    fn run(&mut self, ids: &[u32]) -> T {
        let (n, v) = (ids.len(), self.weight.len() / self.width);
        let rows = rows_at_a_time(v).min(n);
        let (mut logits, mut losses) = (Vec::with_capacity(rows * v), vec![T::zero(); n]);
        let share = T::of((n as f64).recip());
        for (i, (ids, losses)) in ids.chunks(rows).zip(losses.chunks_mut(rows)).enumerate() {
            let x = &self.x[i * rows * self.width..][..ids.len() * self.width];
            let x = Matrix::new(x, self.width);
            let weight = Matrix::new(self.weight, self.width);
            logits.clear();
            append_product(x, weight.transposed(), &mut logits);
            let [dx, dw] = &mut self.gradients;
            if dx.is_none() && dw.is_none() {
                in_rows(&mut logits, v, ids, losses, |row, id| loss(row, id));
                continue;
            }
            in_rows(&mut logits, v, ids, losses, |row, id| loss_and_slopes(row, id, share));
            let slopes = Matrix::new(&logits, v);
            if let Some(dx) = dx {
                append_product(slopes, weight, dx);
            }
            match dw {
                Some(dw) if dw.is_empty() => append_product(slopes.transposed(), x, dw),
                Some(dw) => add_product(slopes.transposed(), x, dw),
                None => {}
            }
        }
        sum(&losses, |x| x) * share
    }
}

/// Sets each loss to `f` of its row of logits and its target, in parallel.
fn in_rows<T: Real>(
    logits: &mut [T],
    v: usize,
    ids: &[u32],
    losses: &mut [T],
    f: impl Fn(&mut [T], usize) -> T + Sync,
) {
    let rows = logits.chunks_exact_mut(v).zip(ids).zip(losses);
    for_units(rows.collect(), |_, ((row, id), loss)| *loss = f(row, *id as usize));
}

vectorised! {
    fn loss<T: Real>(row: &[T], target: usize) -> T {
        let (top, rest) = row_log_sum_exp(row);
        (top - row[target]) + rest
    }

    /// The loss of a row of logits, which become its gradient times `share`.
    fn loss_and_slopes<T: Real>(row: &mut [T], target: usize, share: T) -> T {
        let top = max(row);
        let of_target = row[target] - top;
        let mut total = T::zero();
        // The numbers of a block stay in the cache from one loop to the next.
        for block in row.chunks_mut(1024) {
            for x in block.iter_mut() {
                *x = Real::exp(*x - top);
            }
            total += sum(block, |x| x);
        }
        let factor = share / total;
        for x in row.iter_mut() {
            *x *= factor;
        }
        row[target] -= share;
        Real::ln(total) - of_target
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;
    use crate::check::{close, finite_differences, irregular, twins};

    fn targets(shape: &[usize], v: u32) -> Result<Tensor> {
        let n = shape.iter().product::<usize>() as u32;
        let ids: Vec<u32> = (0..n).map(|i| (i * i + 3 * i) % v).collect();
        Tensor::from_vec(ids, shape, &Device::Cpu)
    }

    #[test]
    fn fused_equals_reference_in_value_and_gradient() -> Result<()> {
        // The last is of several chunks of rows.
        for (shape, v, dtype, tolerance) in [
            (vec![4, 3], 5, DType::F64, 1e-12),
            (vec![2, 3, 2], 1, DType::F64, 1e-12),
            (vec![2, 100, 16], 30_000, DType::F32, 1e-5),
        ] {
            let d = shape[shape.len() - 1];
            let inputs = [irregular(&shape, 1, dtype)?, irregular(&[v, d], 2, dtype)?];
            let ids = targets(&shape[..shape.len() - 1], v as u32)?;
            twins(
                &inputs,
                tolerance,
                |i| linear_cross_entropy(&i[0], &i[1], &ids),
                |i| reference(&i[0], &i[1], &ids),
            )?;
            // One input alone, and none.
            for (one, other) in [(0, 1), (1, 0)] {
                let run = |f: fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor>, i: &[Tensor]| {
                    let pair = if one == 0 { [&i[0], &inputs[other]] } else { [&inputs[0], &i[0]] };
                    f(pair[0], pair[1], &ids)
                };
                twins(
                    &inputs[one..=one],
                    tolerance,
                    |i| run(linear_cross_entropy, i),
                    |i| run(reference, i),
                )?;
            }
            let loss = linear_cross_entropy(&inputs[0], &inputs[1], &ids)?;
            assert!(!loss.track_op());
            close(&loss, &reference(&inputs[0], &inputs[1], &ids)?, tolerance)?;
        }
        let inputs = [irregular(&[3, 2], 1, DType::F64)?, irregular(&[4, 2], 2, DType::F64)?];
        let ids = targets(&[3], 4)?;
        finite_differences(&inputs, |i| linear_cross_entropy(&i[0], &i[1], &ids))
    }

    #[test]
    fn huge_logits_do_not_overflow() -> Result<()> {
        let x = Var::new(&[[1e15f32, 0.], [0., -1e15]], &Device::Cpu)?;
        let weight = Tensor::new(&[[1e15f32, 0.], [0., 1e15]], &Device::Cpu)?;
        let loss = linear_cross_entropy(&x, &weight, &Tensor::new(&[0u32, 0], &Device::Cpu)?)?;
        assert_eq!(loss.to_scalar::<f32>()?, 0.);
        let d = loss.backward()?.get(&x).unwrap().to_vec2::<f32>()?;
        assert_eq!(d, [[0.; 2]; 2]);
        Ok(())
    }

    #[test]
    fn bad_arguments_are_errors_that_name_them() -> Result<()> {
        let (x, weight) = (irregular(&[2, 3], 1, DType::F32)?, irregular(&[5, 3], 2, DType::F32)?);
        let run = |x: &Tensor, targets: &[u32]| {
            linear_cross_entropy(x, &weight, &Tensor::new(targets, &Device::Cpu)?)
        };
        for (x, targets, expected) in [
            (x.clone(), &[0, 5][..], "target 5 at place 1 is not below 5"),
            (x.clone(), &[0], "got [1]"),
            (x.narrow(1, 0, 2)?, &[0, 1], "x [2, 2] does not fit weight [5, 3]"),
            (x.narrow(0, 0, 0)?, &[], "or is empty"),
        ] {
            let error = run(&x, targets).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        Ok(())
    }
}
