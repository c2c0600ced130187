//! The negative log-likelihood of categories.
use candle_core::{D, Device, Result, Tensor};

use crate::embedding::Indices;
use crate::graph::{compute, fusible, node};
use crate::rows::make_rows;
use crate::softmax_rows::{categories, for_log_sums, masked_row};
use crate::vectorised::vectorised;
use crate::{Real, in_single};

/// Negative log-likelihood of categories, in nats.
///
/// For each row `x` of logits:
///
/// ```math
/// \ln \sum_j e^{x_j} - x_{\mathrm{target}}
/// ```
///
/// `logits: [.., K]`, `targets: [..]` of `u32` → `[..]`. A `-∞` logit is a masked category; one that is the target
/// costs `+∞`. Differentiable in the logits; the backward pass makes one tensor of their size, the forward pass none.
///
/// # Errors
/// If a target is not below `K`, the shapes do not fit, or a row has no finite logit.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    const NAME: &str = "cross_entropy";
    let k = categories(logits.shape())?;
    let rows = logits.elem_count() / k;
    let ids = checked(NAME, logits, k, targets)?;
    in_single([logits], |[logits]| {
        #[cfg(feature = "cuda")]
        if crate::cuda::takes([logits]) && targets.device().same_device(logits.device()) {
            return crate::cuda::cross_entropy(logits, targets);
        }
        if !fusible([logits]) {
            return reference(logits, targets);
        }
        let log_sums;
        let y = compute!(NAME, targets.shape(), T, |logits| {
            let sums = make_rows(rows, 2, 2 * k, |first, y| log_sums_of::<T>(logits, k, first, y))?;
            let pairs = sums.chunks_exact(2).zip(logits.chunks_exact(k)).zip(&ids.0);
            let y = pairs.map(|((sum, row), id)| (sum[0] - row[*id as usize]) + sum[1]).collect();
            log_sums = Tensor::from_vec(sums, (rows, 2), &Device::Cpu)?;
            y
        });
        node(NAME, [logits], y, move |[logits], _, g| {
            let d = compute!(NAME, logits.shape(), T, |logits, log_sums, g| {
                make_rows(rows, k, 2 * k, |first, d: &mut [T]| {
                    slopes(logits, log_sums, g, &ids.0, first, d);
                    Ok(())
                })?
            });
            Ok([Some(d.tensor())])
        })
    })
}

/// The twin of [`cross_entropy`] from plain candle operations.
pub fn reference(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let log_probs = crate::log_softmax::reference(logits)?;
    log_probs.gather(&targets.unsqueeze(D::Minus1)?, D::Minus1)?.squeeze(D::Minus1)?.neg()
}

/// The targets of rows of `k` logits, or of what the logits are made of.
pub(crate) fn checked(name: &str, x: &Tensor, k: usize, targets: &Tensor) -> Result<Indices> {
    if x.rank() == 0 || targets.dims() != &x.dims()[..x.rank() - 1] {
        candle_core::bail!(
            "{name}: expected one target for each row of {:?}, got {:?}",
            x.shape(),
            targets.shape()
        )
    }
    Indices::below(targets, k, &format!("{name}: target"))
}

vectorised! {
    /// For rows `first..` the largest logit, and what is to be added to it: of large logits the sum would lose digits.
    fn log_sums_of<T: Real>(logits: &[T], k: usize, first: usize, y: &mut [T]) -> Result<()> {
        let logits = &logits[first * k..][..y.len() / 2 * k];
        let mut masked = None;
        for_log_sums(logits, k, |row, top, rest| {
            if top == T::NEG_INFINITY && masked.is_none() {
                masked = Some(first + row);
            }
            y[2 * row] = top;
            y[2 * row + 1] = rest;
        });
        if let Some(row) = masked {
            return masked_row(row);
        }
        Ok(())
    }

    /// `g (softmax - one-hot)` for rows `first..`; 0 where a logit is masked.
    fn slopes<T: Real>(x: &[T], log_sums: &[T], g: &[T], ids: &[u32], first: usize, d: &mut [T]) {
        let k = 2 * x.len() / log_sums.len().max(1);
        for (i, d) in d.chunks_exact_mut(k).enumerate() {
            let row = first + i;
            let (x, top, rest, g) = (&x[row * k..][..k], log_sums[2 * row], log_sums[2 * row + 1], g[row]);
            for (d, x) in d.iter_mut().zip(x) {
                *d = g * Real::exp((*x - top) - rest);
            }
            let id = ids[row] as usize;
            if x[id] > T::NEG_INFINITY {
                d[id] -= g;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Var};

    use super::*;
    use crate::check::{close, finite_differences, irregular, twins};

    fn targets(shape: &[usize], k: u32) -> Result<Tensor> {
        let n = shape.iter().product::<usize>() as u32;
        let ids: Vec<u32> = (0..n).map(|i| (i * i + 3 * i) % k).collect();
        Tensor::from_vec(ids, shape, &Device::Cpu)
    }

    #[test]
    fn fused_equals_reference_in_value_and_gradient() -> Result<()> {
        for (shape, dtype, tolerance) in [
            (vec![3, 5], DType::F64, 1e-12),
            (vec![4, 1], DType::F64, 1e-12),
            (vec![7], DType::F64, 1e-12),
            (vec![2, 50, 3000], DType::F32, 2e-5),
        ] {
            let logits = (irregular(&shape, 1, dtype)? * 3.)?;
            let ids = targets(&shape[..shape.len() - 1], shape[shape.len() - 1] as u32)?;
            twins(
                &[logits],
                tolerance,
                |x| cross_entropy(&x[0], &ids),
                |x| reference(&x[0], &ids),
            )?;
        }
        let ids = targets(&[3], 4)?;
        finite_differences(&[irregular(&[3, 4], 2, DType::F64)?], |x| cross_entropy(&x[0], &ids))
    }

    #[test]
    fn huge_and_masked_logits() -> Result<()> {
        let inf = f32::INFINITY;
        let x = [[1e30, -1e30, 3.], [1., 2., -inf], [0., 0., -inf]];
        let x = Var::new(&x, &Device::Cpu)?;
        let y = cross_entropy(&x, &Tensor::new(&[0u32, 1, 2], &Device::Cpu)?)?;
        assert_eq!(y.to_vec1::<f32>()?, [0., 0.313_261_66, inf]);
        let p = 0.268_941_43f32;
        close(
            y.sum_all()?.backward()?.get(&x).unwrap(),
            &Tensor::new(&[[0., 0., 0.], [p, -p, 0.], [0.5, 0.5, 0.]], &Device::Cpu)?,
            1e-6,
        )
    }

    #[test]
    fn bad_arguments_are_errors_that_name_them() -> Result<()> {
        let x = Tensor::new(&[[0f32, 1.], [f32::NEG_INFINITY; 2]], &Device::Cpu)?;
        let run = |targets: &[u32]| cross_entropy(&x, &Tensor::new(targets, &Device::Cpu)?);
        for (targets, expected) in [
            (&[0, 2][..], "target 2 at place 1 is not below 2"),
            (&[0, 1], "row 1"),
            (&[0, 1, 1], "got [3]"),
        ] {
            let error = run(targets).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        Ok(())
    }
}
