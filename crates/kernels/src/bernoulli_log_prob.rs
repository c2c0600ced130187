//! Log-likelihood of binary data under independent Bernoulli variables given by logits.
use candle_core::{CpuStorage, CustomOp2, CustomOp3, D, Layout, Result, Shape, Tensor};

use crate::logistic::softplus_reference;
use crate::rows::{align_rows, data, for_rows, sum, sum_zip, with_float};
use crate::{Real, in_single};

/// `Σ_d log Bernoulli(x_d; σ(l_d)) = Σ_d (x_d l_d - ln(1 + e^{l_d}))` over the last axis, in nats.
///
/// `logits: [.., D]`, `x: [.., D]` → `[..]`, shapes broadcast (logits `[S, B, D]`, data `[B, D]` give
/// `[S, B]`). `x` may lie anywhere in `[0, 1]` (grey levels); then it is the expected log-likelihood of a
/// pixel drawn with that probability. Differentiable in both. Finite at any logit.
pub fn bernoulli_log_prob(logits: &Tensor, x: &Tensor) -> Result<Tensor> {
    in_single([logits, x], |[logits, x]| {
        let (logits, x, leading) = align_rows(logits, x)?;
        let sums = if logits.device().is_cpu() {
            logits.apply_op2(&x, Forward)?
        } else {
            reference(&logits, &x)?
        };
        sums.reshape(leading)
    })
}

/// The twin of [`bernoulli_log_prob`] from plain candle operations.
pub fn reference(logits: &Tensor, x: &Tensor) -> Result<Tensor> {
    logits.broadcast_mul(x)?.broadcast_sub(&softplus_reference(logits)?)?.sum(D::Minus1)
}

struct Forward;

/// Which of the two gradients a backward kernel computes.
#[derive(Clone, Copy)]
enum Gradient {
    Logits,
    Data,
}

fn width(shape: &Shape) -> Result<usize> {
    match shape.dims().last() {
        Some(d) if *d > 0 => Ok(*d),
        _ => candle_core::bail!("expected logits [.., D] with D ≥ 1, got shape {shape:?}"),
    }
}

/// `Σ ln(1 + e^{-|l|})` of a row. The logarithm is taken of products of eight factors (each at most 2):
/// one logarithm per number would be most of the cost.
#[inline(always)]
fn sum_ln_1p_exp<T: Real>(l: &[T]) -> T {
    const LANES: usize = 16;
    let (blocks, rest) = l.as_chunks::<{ 8 * LANES }>();
    let mut sums = [T::zero(); LANES];
    for block in blocks {
        let mut products = [T::one(); LANES];
        for chunk in block.as_chunks::<LANES>().0 {
            for (product, l) in products.iter_mut().zip(chunk) {
                *product *= T::one() + Real::exp(-Real::abs(*l));
            }
        }
        for (sum, product) in sums.iter_mut().zip(products) {
            *sum += Real::ln(product);
        }
    }
    sum(&sums, |x| x) + sum(rest, |l| Real::ln_1p(Real::exp(-Real::abs(l))))
}

fn forward<T: Real>(l: &[T], x: &[T], d: usize) -> Result<Vec<T>> {
    let (rows_l, rows_x) = (l.len() / d, x.len() / d);
    let mut y = vec![T::zero(); rows_l.max(rows_x)];
    for_rows(&mut y, 1, 2 * d, |first, y| {
        for (i, y) in y.iter_mut().enumerate() {
            let row = first + i;
            let (l, x) = (&l[row % rows_l * d..][..d], &x[row % rows_x * d..][..d]);
            let linear = sum_zip(l, x, |l, x| x * l - if l > T::zero() { l } else { T::zero() });
            *y = linear - sum_ln_1p_exp(l);
        }
        Ok(())
    })?;
    Ok(y)
}

/// `g (x - σ(l))` for the logits, `g l` for the data, summed over the rows that share one.
fn backward<T: Real>(which: Gradient, l: &[T], x: &[T], g: &[T], d: usize) -> Result<Vec<T>> {
    let (rows_l, rows_x) = (l.len() / d, x.len() / d);
    let rows = match which {
        Gradient::Logits => rows_l,
        Gradient::Data => rows_x,
    };
    let mut out = vec![T::zero(); rows * d];
    for_rows(&mut out, d, 2 * d * (g.len() / rows.max(1)), |first, out| {
        for (i, out) in out.chunks_mut(d).enumerate() {
            for row in (first + i..g.len()).step_by(rows) {
                let (l, x) = (&l[row % rows_l * d..][..d], &x[row % rows_x * d..][..d]);
                match which {
                    Gradient::Logits => {
                        for ((out, l), x) in out.iter_mut().zip(l).zip(x) {
                            *out += g[row] * (*x - Real::sigmoid(*l));
                        }
                    }
                    Gradient::Data => {
                        for (out, l) in out.iter_mut().zip(l) {
                            *out += g[row] * *l;
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
        "bernoulli_log_prob"
    }

    fn cpu_fwd(
        &self,
        l: &CpuStorage,
        ll: &Layout,
        x: &CpuStorage,
        lx: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let d = width(ll.shape())?;
        let y = with_float!(l, self.name(), T => {
            forward::<T>(data(l, ll)?, data(x, lx)?, d)?
        });
        let rows = ll.shape().elem_count().max(lx.shape().elem_count()) / d;
        Ok((y, Shape::from(rows)))
    }

    fn bwd(
        &self,
        l: &Tensor,
        x: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let g = g.contiguous()?;
        let gradient = |which: Gradient, of: &Tensor| {
            of.track_op().then(|| l.apply_op3_no_bwd(x, &g, &which)).transpose()
        };
        Ok((gradient(Gradient::Logits, l)?, gradient(Gradient::Data, x)?))
    }
}

impl CustomOp3 for Gradient {
    fn name(&self) -> &'static str {
        "bernoulli_log_prob_backward"
    }

    fn cpu_fwd(
        &self,
        l: &CpuStorage,
        ll: &Layout,
        x: &CpuStorage,
        lx: &Layout,
        g: &CpuStorage,
        lg: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let d = width(ll.shape())?;
        let out = with_float!(l, self.name(), T => {
            backward::<T>(*self, data(l, ll)?, data(x, lx)?, data(g, lg)?, d)?
        });
        let shape = match self {
            Self::Logits => ll.shape(),
            Self::Data => lx.shape(),
        };
        Ok((out, shape.clone()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::rows::check::{close, finite_differences, irregular, twins};

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
