//! Log-likelihood of binary data under independent Bernoulli variables given by logits.
use candle_core::{D, Result, Shape, Tensor};

use crate::graph::{compute, fusible, node};
use crate::logistic::{softplus_reference, sum_ln_1p_exp};
use crate::reduce::sum_zip;
use crate::rows::{align_rows, cyclic, make_rows, numbers_of_both};
use crate::vectorised::vectorised;
use crate::{Real, in_single};

/// Log-probability of bits `x` under independent Bernoulli variables, summed over the last axis, in nats.
///
/// With `l` for the logits:
///
/// ```math
/// \sum_d \log \mathrm{Bernoulli}(x_d; \sigma(l_d)) = \sum_d \bigl( x_d l_d - \ln(1 + e^{l_d}) \bigr)
/// ```
///
/// `logits: [.., D]`, `x: [.., D]` → `[..]`, shapes broadcast (logits `[S, B, D]`, data `[B, D]` give
/// `[S, B]`). `x` may lie anywhere in `[0, 1]` (grey levels); then it is the expected log-likelihood of a
/// pixel drawn with that probability. Differentiable in both. Finite at any finite logit.
pub fn bernoulli_log_prob(logits: &Tensor, x: &Tensor) -> Result<Tensor> {
    in_single([logits, x], |[logits, x]| {
        let (logits, x, leading) = align_rows(logits, x)?;
        #[cfg(feature = "cuda")]
        if crate::cuda::takes([&logits, &x]) {
            return crate::cuda::bernoulli_log_prob(&logits, &x)?.reshape(leading);
        }
        let sums =
            if fusible([&logits, &x]) { fused(&logits, &x)? } else { reference(&logits, &x)? };
        sums.reshape(leading)
    })
}

/// The twin of [`bernoulli_log_prob`] from plain candle operations.
pub fn reference(logits: &Tensor, x: &Tensor) -> Result<Tensor> {
    logits.broadcast_mul(x)?.broadcast_sub(&softplus_reference(logits)?)?.sum(D::Minus1)
}

fn fused(l: &Tensor, x: &Tensor) -> Result<Tensor> {
    const NAME: &str = "bernoulli_log_prob";
    let d = width(l.shape())?;
    let rows = numbers_of_both(l, x) / d;
    let sums = compute!(NAME, rows, T, |l, x| {
        make_rows(rows, 1, 2 * d, |first, y| {
            log_probs::<T>(l, x, d, first, y);
            Ok(())
        })?
    });
    node(NAME, [l, x], sums, move |[l, x], _, g| {
        let of_logits = || {
            let n = l.elem_count() / d;
            Ok(compute!(NAME, l.shape(), T, |l, x, g| {
                make_rows(n, d, 2 * d * (rows / n.max(1)), |first, out| {
                    slopes_of_logits::<T>([l, x, g], d, first, out);
                    Ok(())
                })?
            })
            .tensor())
        };
        let of_data = || {
            let n = x.elem_count() / d;
            Ok(compute!(NAME, x.shape(), T, |l, g| {
                make_rows(n, d, d * (rows / n.max(1)), |first, out| {
                    slopes_of_data::<T>([l, g], d, n, first, out);
                    Ok(())
                })?
            })
            .tensor())
        };
        Ok([l.track_op().then(of_logits).transpose()?, x.track_op().then(of_data).transpose()?])
    })
}

pub(crate) fn width(shape: &Shape) -> Result<usize> {
    match shape.dims().last() {
        Some(d) if *d > 0 => Ok(*d),
        _ => candle_core::bail!("expected logits [.., D] with D ≥ 1, got shape {shape:?}"),
    }
}

vectorised! {
    fn log_probs<T: Real>(l: &[T], x: &[T], d: usize, first: usize, y: &mut [T]) {
        for (i, y) in y.iter_mut().enumerate() {
            let (l, x) = (cyclic(l, first + i, d), cyclic(x, first + i, d));
            let linear = sum_zip(l, x, |l, x| x * l - if l > T::zero() { l } else { T::zero() });
            *y = linear - sum_ln_1p_exp(l, l, |l, _| l);
        }
    }

    /// `g (x - σ(l))`, summed over the rows that share a row of logits.
    fn slopes_of_logits<T: Real>(lxg: [&[T]; 3], d: usize, first: usize, out: &mut [T]) {
        let [l, x, g] = lxg;
        for (i, out) in out.chunks_mut(d).enumerate() {
            let logits = cyclic(l, first + i, d);
            for row in (first + i..g.len()).step_by(l.len() / d) {
                for ((out, l), x) in out.iter_mut().zip(logits).zip(cyclic(x, row, d)) {
                    *out += g[row] * (*x - Real::sigmoid(*l));
                }
            }
        }
    }

    /// `g l`, summed over the rows that share a row of data, of which there are `n`.
    fn slopes_of_data<T: Real>(lg: [&[T]; 2], d: usize, n: usize, first: usize, out: &mut [T]) {
        let [l, g] = lg;
        for (i, out) in out.chunks_mut(d).enumerate() {
            for row in (first + i..g.len()).step_by(n) {
                for (out, l) in out.iter_mut().zip(cyclic(l, row, d)) {
                    *out += g[row] * *l;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::check::{close, finite_differences, irregular, twins};

    #[test]
    fn fused_equals_reference_in_value_and_gradient() -> Result<()> {
        for (logits, x, dtype, tolerance) in [
            (vec![3, 4, 19], vec![4, 19], DType::F64, 1e-12),
            (vec![1, 4, 8], vec![4, 8], DType::F64, 1e-12),
            (vec![7], vec![2, 7], DType::F64, 1e-12),
            (vec![4, 1, 7], vec![3, 7], DType::F64, 1e-12),
            (vec![5, 100, 784], vec![100, 784], DType::F32, 1e-5),
        ] {
            let inputs = [(irregular(&logits, 1, dtype)? * 3.)?, irregular(&x, 2, dtype)?];
            twins(
                &inputs,
                tolerance,
                |i| bernoulli_log_prob(&i[0], &i[1]),
                |i| reference(&i[0], &i[1]),
            )?;
        }
        finite_differences(
            &[irregular(&[2, 3, 5], 3, DType::F64)?, irregular(&[3, 5], 4, DType::F64)?],
            |i| bernoulli_log_prob(&i[0], &i[1]),
        )
    }

    #[test]
    fn no_logit_is_too_large() -> Result<()> {
        let logits = Var::new(&[[-1e4f32, 1e4, 90., -90.]], &Device::Cpu)?;
        let x = Tensor::new(&[[0f32, 1., 0., 1.]], &Device::Cpu)?;
        let y = bernoulli_log_prob(&logits, &x)?;
        close(&y, &Tensor::new(&[-180f32], &Device::Cpu)?, 1e-6)?;
        let grads = y.backward()?;
        let grad = grads.get(logits.as_tensor()).unwrap().to_vec2::<f32>()?;
        assert_eq!(grad, [[0., 0., -1., 1.]]);
        assert!(bernoulli_log_prob(&logits, &Tensor::new(&[0f32, 1.], &Device::Cpu)?).is_err());
        Ok(())
    }
}
