//! Divergence between categorical distributions given by logits.
use candle_core::{CpuStorage, CustomOp2, CustomOp3, D, Layout, Result, Shape, Tensor};

use crate::log_softmax::{categories, exp_in_place, forward as log_softmax};
use crate::rows::{align_rows, data, for_rows, with_float};
use crate::{Real, in_single};

/// `KL(q ‖ p) = Σ_k q_k (log q_k - log p_k)` over the last axis, in nats.
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
        let rows = if q.device().is_cpu() { q.apply_op2(&p, Forward)? } else { reference(&q, &p)? };
        rows.reshape(leading)
    })
}

/// The twin of [`categorical_kl`] from plain candle operations (finite logits only).
pub fn reference(q_logits: &Tensor, p_logits: &Tensor) -> Result<Tensor> {
    let log_q = super::log_softmax::reference(q_logits)?;
    let log_p = super::log_softmax::reference(p_logits)?;
    log_q.exp()?.broadcast_mul(&log_q.broadcast_sub(&log_p)?)?.sum(D::Minus1)
}

struct Forward;

/// Which of the two gradients a backward kernel computes.
#[derive(Clone, Copy)]
enum Gradient {
    Q,
    P,
}

/// Log-probabilities of every row, and probabilities.
struct Normalised<T> {
    log_probs: Vec<T>,
    probs: Vec<T>,
}

impl<T: Real> Normalised<T> {
    fn new(logits: &[T], k: usize) -> Result<Self> {
        let log_probs = log_softmax(logits, k)?;
        let mut probs = log_probs.clone();
        for_rows(&mut probs, k, k, |_, probs| {
            exp_in_place(probs);
            Ok(())
        })?;
        Ok(Self { log_probs, probs })
    }

    /// `(log q, q)` of row `row`, counted modulo the number of rows.
    #[inline(always)]
    fn row(&self, row: usize, k: usize) -> (&[T], &[T]) {
        let start = row % (self.probs.len() / k) * k;
        (&self.log_probs[start..][..k], &self.probs[start..][..k])
    }
}

/// `q_k (log q_k - log p_k)`, 0 where `q_k` is 0 whatever `p_k` is.
#[inline(always)]
fn term<T: Real>(prob: T, log_q: T, log_p: T) -> T {
    if prob > T::zero() { prob * (log_q - log_p) } else { T::zero() }
}

#[inline(always)]
fn row_kl<T: Real>(log_q: &[T], q: &[T], log_p: &[T]) -> T {
    if q.len() > SHORT {
        return long_row_kl(log_q, q, log_p);
    }
    let mut kl = T::zero();
    for ((log_q, q), log_p) in log_q.iter().zip(q).zip(log_p) {
        kl += term(*q, *log_q, *log_p);
    }
    kl
}

/// Numbers that one running sum may hold.
const SHORT: usize = 64;

/// By halves: a running sum over a vocabulary would lose three digits.
fn long_row_kl<T: Real>(log_q: &[T], q: &[T], log_p: &[T]) -> T {
    let half = q.len() / 2;
    row_kl(&log_q[..half], &q[..half], &log_p[..half])
        + row_kl(&log_q[half..], &q[half..], &log_p[half..])
}

fn forward<T: Real>(q: &[T], p: &[T], k: usize) -> Result<Vec<T>> {
    let (q, p) = (Normalised::new(q, k)?, Normalised::new(p, k)?);
    let mut y = vec![T::zero(); q.probs.len().max(p.probs.len()) / k];
    for_rows(&mut y, 1, k, |first, y| {
        for (i, y) in y.iter_mut().enumerate() {
            let ((log_q, q), (log_p, _)) = (q.row(first + i, k), p.row(first + i, k));
            *y = row_kl(log_q, q, log_p);
        }
        Ok(())
    })?;
    Ok(y)
}

/// `g q_k (log q_k - log p_k - KL)` for the logits of `q`, `g (p_k - q_k)` for those of `p`, summed over
/// the rows that share one.
fn backward<T: Real>(which: Gradient, q: &[T], p: &[T], g: &[T], k: usize) -> Result<Vec<T>> {
    let (q, p) = (Normalised::new(q, k)?, Normalised::new(p, k)?);
    let rows = match which {
        Gradient::Q => q.probs.len() / k,
        Gradient::P => p.probs.len() / k,
    };
    let mut out = vec![T::zero(); rows * k];
    for_rows(&mut out, k, k * (g.len() / rows.max(1)), |first, out| {
        for (i, out) in out.chunks_mut(k).enumerate() {
            for row in (first + i..g.len()).step_by(rows) {
                let ((log_q, q), (log_p, p)) = (q.row(row, k), p.row(row, k));
                match which {
                    Gradient::Q => {
                        let kl = row_kl(log_q, q, log_p);
                        for (((out, log_q), q), log_p) in
                            out.iter_mut().zip(log_q).zip(q).zip(log_p)
                        {
                            *out += g[row] * (term(*q, *log_q, *log_p) - *q * kl);
                        }
                    }
                    Gradient::P => {
                        for ((out, q), p) in out.iter_mut().zip(q).zip(p) {
                            *out += g[row] * (*p - *q);
                        }
                    }
                }
            }
        }
        Ok(())
    })?;
    Ok(out)
}

impl CustomOp2 for Forward {
    fn name(&self) -> &'static str {
        "categorical_kl"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        lq: &Layout,
        p: &CpuStorage,
        lp: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let k = categories(lq.shape())?;
        let y = with_float!(q, self.name(), T => {
            forward::<T>(data(q, lq)?, data(p, lp)?, k)?
        });
        let rows = lq.shape().elem_count().max(lp.shape().elem_count()) / k;
        Ok((y, Shape::from(rows)))
    }

    fn bwd(
        &self,
        q: &Tensor,
        p: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let g = g.contiguous()?;
        let gradient = |which: Gradient, of: &Tensor| {
            of.track_op().then(|| q.apply_op3_no_bwd(p, &g, &which)).transpose()
        };
        Ok((gradient(Gradient::Q, q)?, gradient(Gradient::P, p)?))
    }
}

impl CustomOp3 for Gradient {
    fn name(&self) -> &'static str {
        "categorical_kl_backward"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        lq: &Layout,
        p: &CpuStorage,
        lp: &Layout,
        g: &CpuStorage,
        lg: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let k = categories(lq.shape())?;
        let out = with_float!(q, self.name(), T => {
            backward::<T>(*self, data(q, lq)?, data(p, lp)?, data(g, lg)?, k)?
        });
        let shape = match self {
            Self::Q => lq.shape(),
            Self::P => lp.shape(),
        };
        Ok((out, shape.clone()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::rows::check::{finite_differences, irregular, twins};

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
