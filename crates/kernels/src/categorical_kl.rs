//! Divergence between categorical distributions given by logits.
use candle_core::{D, Result, Tensor};

use crate::graph::{Value, compute, fusible, node};
use crate::log_softmax::forward as log_softmax;
use crate::reduce::{BLOCK, sum_zip, sum_zip_of_rows};
use crate::rows::{align_rows, cyclic, make_rows, numbers_of_both};
use crate::softmax_rows::{categories, exp_in_place};
use crate::vectorised::vectorised;
use crate::{Real, in_single};

const NAME: &str = "categorical_kl";

/// Divergence between categorical variables over the last axis, in nats.
///
/// With `q` and `p` the softmax of either logits:
///
/// ```math
/// \mathrm{KL}(q \,\|\, p) = \sum_k q_k (\log q_k - \log p_k)
/// ```
///
/// `q_logits, p_logits: [.., K]` (unnormalised, leading shapes broadcast) → `[..]`. A category masked in
/// `q` (`-∞`) contributes 0; one masked in `p` but not in `q` makes the divergence `+∞`. Differentiable in
/// both.
///
/// # Errors
/// If a row of `q_logits` or `p_logits` has no finite entry.
pub fn categorical_kl(q_logits: &Tensor, p_logits: &Tensor) -> Result<Tensor> {
    in_single([q_logits, p_logits], |[q, p]| {
        let (q, p, leading) = align_rows(q, p)?;
        #[cfg(feature = "cuda")]
        if crate::cuda::takes([&q, &p]) {
            return crate::cuda::categorical_kl(&q, &p)?.reshape(leading);
        }
        let rows = if fusible([&q, &p]) { fused(&q, &p)? } else { reference(&q, &p)? };
        rows.reshape(leading)
    })
}

/// The twin of [`categorical_kl`] from plain candle operations (finite logits only).
pub fn reference(q_logits: &Tensor, p_logits: &Tensor) -> Result<Tensor> {
    let log_q = super::log_softmax::reference(q_logits)?;
    let log_p = super::log_softmax::reference(p_logits)?;
    log_q.exp()?.broadcast_mul(&log_q.broadcast_sub(&log_p)?)?.sum(D::Minus1)
}

fn fused(q: &Tensor, p: &Tensor) -> Result<Tensor> {
    let k = categories(q.shape())?;
    let log_q = compute!(NAME, q.shape(), T, |q| log_softmax::<T>(q, k)?).tensor();
    let log_p = compute!(NAME, p.shape(), T, |p| log_softmax::<T>(p, k)?).tensor();
    let kl = log_ratio(&log_q, &log_p, k)?;
    node(NAME, [q, p], kl, move |[q, p], kl, g| {
        let of_q = q.track_op().then(|| log_ratio_slopes(&log_q, &log_p, kl, g, k)).transpose()?;
        let of_p = || {
            let (a, b, rows) = (&log_q, &log_p, p.elem_count() / k);
            let cost = 2 * k * (g.elem_count() / rows.max(1));
            Ok::<_, candle_core::Error>(compute!(NAME, p.shape(), T, |a, b, g| {
                make_rows(rows, k, cost, |first, d| {
                    slopes_of_p::<T>([a, b], g, k, first, d);
                    Ok(())
                })?
            }))
        };
        let of_p = p.track_op().then(of_p).transpose()?;
        Ok([of_q.map(Value::tensor), of_p.map(Value::tensor)])
    })
}

/// `Σ_k q_k (log q_k - log p_k)` of each row, with `q` normalised.
pub(crate) fn log_ratio(log_q: &Tensor, log_p: &Tensor, k: usize) -> Result<Value> {
    let rows = numbers_of_both(log_q, log_p) / k;
    Ok(compute!(NAME, rows, T, |log_q, log_p| {
        make_rows(rows, 1, 2 * k, |first, y| {
            divergences::<T>(log_q, log_p, k, first, y);
            Ok(())
        })?
    }))
}

/// The gradient of [`log_ratio`] in the logits of `q`, given its value.
pub(crate) fn log_ratio_slopes(
    log_q: &Tensor,
    log_p: &Tensor,
    value: &Tensor,
    g: &Tensor,
    k: usize,
) -> Result<Value> {
    let rows = log_q.elem_count() / k;
    let cost = 2 * k * (g.elem_count() / rows.max(1));
    Ok(compute!(NAME, log_q.shape(), T, |log_q, log_p, value, g| {
        make_rows(rows, k, cost, |first, d| {
            slopes_of_q::<T>([log_q, log_p], value, g, k, first, d);
            Ok(())
        })?
    }))
}

/// `q (log q - log p)`, 0 where `q` is 0 whatever `p` is.
#[inline(always)]
fn term<T: Real>(prob: T, log_ratio: T) -> T {
    if prob > T::zero() { prob * log_ratio } else { T::zero() }
}

vectorised! {
    /// `Σ_k q_k (log q_k - log p_k)` of rows `first..`.
    fn divergences<T: Real>(log_q: &[T], log_p: &[T], k: usize, first: usize, y: &mut [T]) {
        let (mut probs, mut ratios) = ([T::zero(); BLOCK], [T::zero(); BLOCK]);
        let tile = (BLOCK / k).max(1);
        for (i, y) in y.chunks_mut(tile).enumerate() {
            let row = first + i * tile;
            if k > BLOCK {
                let (log_q, log_p) = (cyclic(log_q, row, k), cyclic(log_p, row, k));
                for (log_q, log_p) in log_q.chunks(BLOCK).zip(log_p.chunks(BLOCK)) {
                    let probs = &mut probs[..log_q.len()];
                    probs.copy_from_slice(log_q);
                    exp_in_place(probs);
                    for ((ratio, log_q), log_p) in ratios.iter_mut().zip(log_q).zip(log_p) {
                        *ratio = *log_q - *log_p;
                    }
                    y[0] += sum_zip(probs, &ratios[..log_q.len()], term);
                }
                continue;
            }
            let n = y.len() * k;
            for (j, (prob, ratio)) in
                probs[..n].chunks_mut(k).zip(ratios[..n].chunks_mut(k)).enumerate()
            {
                let (log_q, log_p) = (cyclic(log_q, row + j, k), cyclic(log_p, row + j, k));
                prob.copy_from_slice(log_q);
                for ((ratio, log_q), log_p) in ratio.iter_mut().zip(log_q).zip(log_p) {
                    *ratio = *log_q - *log_p;
                }
            }
            exp_in_place(&mut probs[..n]);
            sum_zip_of_rows(&probs[..n], &ratios[..n], k, y, term);
        }
    }

    /// `g q_k (log q_k - log p_k - KL)`, summed over the rows that share a row of `q`.
    fn slopes_of_q<T: Real>(logs: [&[T]; 2], kl: &[T], g: &[T], k: usize, first: usize, d: &mut [T]) {
        let [log_q, log_p] = logs;
        let log_q_here = &log_q[first * k..][..d.len()];
        for (i, (d, log_q_row)) in d.chunks_mut(k).zip(log_q_here.chunks(k)).enumerate() {
            for row in (first + i..g.len()).step_by(log_q.len() / k) {
                let log_p = cyclic(log_p, row, k);
                for ((d, log_q), log_p) in d.iter_mut().zip(log_q_row).zip(log_p) {
                    // Where q is 0, so is the slope, however large the logarithms are.
                    let ratio = *log_q - *log_p - kl[row];
                    *d += if *log_q == T::NEG_INFINITY { T::zero() } else { g[row] * ratio };
                }
            }
        }
        for (d, log_q) in d.iter_mut().zip(log_q_here) {
            *d = term(Real::exp(*log_q), *d);
        }
    }

    /// `g (p_k - q_k)`, summed over the rows that share a row of `p`.
    fn slopes_of_p<T: Real>(logs: [&[T]; 2], g: &[T], k: usize, first: usize, d: &mut [T]) {
        let [log_q, log_p] = logs;
        let p_rows = log_p.len() / k;
        for (i, (d, log_p)) in d.chunks_mut(k).zip(log_p[first * k..].chunks(k)).enumerate() {
            for row in (first + i..g.len()).step_by(p_rows) {
                for ((d, log_q), log_p) in d.iter_mut().zip(cyclic(log_q, row, k)).zip(log_p) {
                    *d += g[row] * (Real::exp(*log_p) - Real::exp(*log_q));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::check::{finite_differences, irregular, twins};

    #[test]
    fn fused_equals_reference_in_value_and_gradient() -> Result<()> {
        for (q, p, dtype, tolerance) in [
            (vec![1, 4, 3, 5], vec![1, 4, 3, 5], DType::F64, 1e-12),
            (vec![2, 4, 3, 5], vec![1, 1, 3, 5], DType::F64, 1e-12),
            (vec![1, 4, 3, 5], vec![2, 4, 3, 5], DType::F64, 1e-12),
            (vec![2, 1, 3, 5], vec![1, 4, 3, 5], DType::F64, 1e-12),
            (vec![1, 900, 20, 10], vec![1, 1, 20, 10], DType::F32, 3e-5),
        ] {
            let inputs = [irregular(&q, 1, dtype)?, irregular(&p, 2, dtype)?];
            twins(
                &inputs,
                tolerance,
                |i| categorical_kl(&i[0], &i[1]),
                |i| reference(&i[0], &i[1]),
            )?;
        }
        finite_differences(
            &[irregular(&[2, 3, 4], 3, DType::F64)?, irregular(&[3, 4], 4, DType::F64)?],
            |i| categorical_kl(&i[0], &i[1]),
        )
    }

    #[test]
    fn masked_categories() -> Result<()> {
        let inf = f64::INFINITY;
        let q = Var::new(&[[1., 2., -inf], [0., 0., 0.], [1e4, -1e4, 3.]], &Device::Cpu)?;
        let p = Tensor::new(&[[0., 0., 0.], [0., 0., -inf], [0., 0., 0.]], &Device::Cpu)?;
        let kl = categorical_kl(&q, &p)?;
        let values = kl.to_vec1::<f64>()?;
        assert!((values[0] - 0.516_409_179_779_891_8).abs() < 1e-14);
        assert_eq!(values[1], inf);
        assert!((values[2] - 3f64.ln()).abs() < 1e-14);
        let grads = kl.narrow(0, 0, 1)?.backward()?;
        let grad = grads.get(q.as_tensor()).unwrap().to_vec2::<f64>()?;
        assert!(grad[0].iter().all(|g| g.is_finite()) && grad[0][2] == 0., "{grad:?}");
        assert!(categorical_kl(&Tensor::new(&[-inf, -inf], &Device::Cpu)?, &p).is_err());
        Ok(())
    }
}
