//! Divergence between categorical distributions given by logits.
use candle_core::{CpuStorage, CustomOp2, CustomOp3, D, Layout, Result, Shape, Tensor};

use crate::Real;
use crate::log_softmax::{categories, masked_row, row_log_sum_exp};
use crate::rows::{align_rows, data, for_rows, sum, with_float};

/// `KL(q ‖ p) = Σ_k q_k (log q_k - log p_k)` over the last axis, in nats.
///
/// `q_logits, p_logits: [.., K]` (unnormalised, leading shapes broadcast) → `[..]`. A category masked in
/// `q` (`-∞`) contributes 0; one masked in `p` but not in `q` makes the divergence `+∞`. Differentiable in
/// both.
///
/// # Errors
/// If a row of `q_logits` or `p_logits` has no finite entry.
pub fn categorical_kl(q_logits: &Tensor, p_logits: &Tensor) -> Result<Tensor> {
    let (q, p, leading) = align_rows(q_logits, p_logits)?;
    let rows = if q.device().is_cpu() { q.apply_op2(&p, Forward)? } else { reference(&q, &p)? };
    rows.reshape(leading)
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

/// `x_k - total`, where `-∞` stays what it is.
#[inline]
fn row_kl<T: Real>(q: &[T], p: &[T], total_q: T, total_p: T) -> T {
    sum(q.len(), |k| {
        let log_q = q[k] - total_q;
        let prob = Real::exp(log_q);
        if prob > T::zero() { prob * (log_q - (p[k] - total_p)) } else { T::zero() }
    })
}

fn totals<T: Real>(x: &[T], k: usize) -> Result<Vec<T>> {
    let mut totals = vec![T::zero(); x.len() / k];
    for_rows(&mut totals, 1, k, |first, totals| {
        for (i, total) in totals.iter_mut().enumerate() {
            *total = row_log_sum_exp(&x[(first + i) * k..][..k]);
            if *total == T::NEG_INFINITY {
                return masked_row(first + i);
            }
        }
        Ok(())
    })?;
    Ok(totals)
}

fn forward<T: Real>(q: &[T], p: &[T], k: usize) -> Result<Vec<T>> {
    let (totals_q, totals_p) = (totals(q, k)?, totals(p, k)?);
    let (rows_q, rows_p) = (totals_q.len(), totals_p.len());
    let mut y = vec![T::zero(); rows_q.max(rows_p)];
    for_rows(&mut y, 1, k, |first, y| {
        for (i, y) in y.iter_mut().enumerate() {
            let (a, b) = ((first + i) % rows_q, (first + i) % rows_p);
            *y = row_kl(&q[a * k..][..k], &p[b * k..][..k], totals_q[a], totals_p[b]);
        }
        Ok(())
    })?;
    Ok(y)
}

/// `g q_k (log q_k - log p_k - KL)` for the logits of `q`, `g (p_k - q_k)` for those of `p`, summed over
/// the rows that share one.
fn backward<T: Real>(which: Gradient, q: &[T], p: &[T], g: &[T], k: usize) -> Result<Vec<T>> {
    let (totals_q, totals_p) = (totals(q, k)?, totals(p, k)?);
    let (rows_q, rows_p) = (totals_q.len(), totals_p.len());
    let rows = match which {
        Gradient::Q => rows_q,
        Gradient::P => rows_p,
    };
    let mut out = vec![T::zero(); rows * k];
    for_rows(&mut out, k, k * (g.len() / rows.max(1)), |first, out| {
        for (i, out) in out.chunks_mut(k).enumerate() {
            for row in (first + i..g.len()).step_by(rows) {
                let (a, b) = (row % rows_q, row % rows_p);
                let (q, p) = (&q[a * k..][..k], &p[b * k..][..k]);
                let kl = match which {
                    Gradient::Q => row_kl(q, p, totals_q[a], totals_p[b]),
                    Gradient::P => T::zero(),
                };
                for (j, out) in out.iter_mut().enumerate() {
                    let (log_q, log_p) = (q[j] - totals_q[a], p[j] - totals_p[b]);
                    let prob = Real::exp(log_q);
                    match which {
                        Gradient::Q if prob > T::zero() => {
                            *out += g[row] * prob * (log_q - log_p - kl);
                        }
                        Gradient::Q => {}
                        Gradient::P => *out += g[row] * (Real::exp(log_p) - prob),
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
