//! A relaxed bit: Gumbel-Softmax for two categories in logistic form, soft or straight-through.
use candle_core::{Result, Tensor};

use crate::graph::{compute, fusible, node};
use crate::logistic::sigmoid_reference;
use crate::perturbed::{Perturbed, sample_shape};
use crate::rows::make_rows;
use crate::vectorised::vectorised;
use crate::{Forward, Key, Real, bin_concrete, in_single, noise};

const NAME: &str = "gumbel_sigmoid";

/// Samples of relaxed bits, those of [`bin_concrete()`] under the same key; or the bits that they round to.
///
/// With `L ~ Logistic(0, 1)` independent per entry, and `τ = temperature`:
///
/// ```math
/// \sigma\Bigl(\frac{\mathrm{logits} + L}{\tau}\Bigr)
/// ```
///
/// `logits: [S | 1, ..]` → `[S, ..]` with `S = samples`: a leading axis of 1 is shared by all samples. Differentiable;
/// nothing but the result is stored.
///
/// Source: Maddison, Mnih, Teh (2017), eq. 16. With [`Forward::Hard`] it is the straight-through estimator of
/// Jang et al. (2017), section 2.2, for bits: 1 where the soft bit is above ½, with the gradient of the soft one,
/// which is biased.
///
/// # Errors
/// If `temperature` is not positive and finite, or the leading axis is neither 1 nor `samples`.
pub fn gumbel_sigmoid(
    logits: &Tensor,
    samples: usize,
    temperature: f64,
    forward: Forward,
    key: Key,
) -> Result<Tensor> {
    let scores = Perturbed::new(temperature, key)?;
    let shape = sample_shape(logits, samples, 1)?;
    in_single([logits], |[logits]| {
        #[cfg(feature = "cuda")]
        if crate::cuda::takes([logits]) {
            return crate::cuda::gumbel_sigmoid(logits, shape, temperature, forward, key);
        }
        if fusible([logits]) {
            fused(logits, &shape, scores, forward)
        } else {
            reference(logits, samples, temperature, forward, key)
        }
    })
}

/// The twin of [`gumbel_sigmoid`] from plain candle operations.
pub fn reference(
    logits: &Tensor,
    samples: usize,
    temperature: f64,
    forward: Forward,
    key: Key,
) -> Result<Tensor> {
    let v = bin_concrete::reference(logits, samples, temperature, key)?;
    let soft = sigmoid_reference(&v)?;
    match forward {
        Forward::Soft => Ok(soft),
        Forward::Hard => v.detach().gt(0f64)?.to_dtype(v.dtype())? + (&soft - soft.detach())?,
    }
}

fn fused(logits: &Tensor, shape: &[usize], scores: Perturbed, forward: Forward) -> Result<Tensor> {
    let n: usize = shape.iter().product();
    let y = compute!(NAME, shape, T, |logits| {
        make_rows(n, 1, 2, |first, y: &mut [T]| {
            match forward {
                Forward::Soft => soft(scores, logits, first, y),
                Forward::Hard => hard(scores, logits, first, y),
            }
            Ok(())
        })?
    });
    node(NAME, [logits], y, move |[logits], y, g| {
        let inputs = logits.elem_count();
        let d = compute!(NAME, logits.shape(), T, |logits, y, g| {
            make_rows(inputs, 1, 2 * (n / inputs.max(1)), |first, d: &mut [T]| {
                match forward {
                    Forward::Soft => soft_slopes(scores, [y, g], inputs, first, d),
                    Forward::Hard => hard_slopes(scores, [logits, g], first, d),
                }
                Ok(())
            })?
        });
        Ok([Some(d.tensor())])
    })
}

vectorised! {
    fn soft<T: Real>(scores: Perturbed, logits: &[T], first: usize, y: &mut [T]) {
        scores.fill(logits, first, y, noise::logistic);
        for y in y {
            *y = Real::sigmoid(*y);
        }
    }

    fn hard<T: Real>(scores: Perturbed, logits: &[T], first: usize, y: &mut [T]) {
        scores.fill(logits, first, y, noise::logistic);
        for y in y {
            *y = if *y > T::zero() { T::one() } else { T::zero() };
        }
    }

    /// `Σ_s g y (1 - y) / temperature` over the samples `s` that share a logit, of which there are `n`.
    fn soft_slopes<T: Real>(scores: Perturbed, yg: [&[T]; 2], n: usize, first: usize, d: &mut [T]) {
        let [y, g] = yg;
        for start in (first..g.len()).step_by(n) {
            for ((d, y), g) in d.iter_mut().zip(&y[start..]).zip(&g[start..]) {
                *d += *g * (*y * (T::one() - *y));
            }
        }
        scale(d, T::of(scores.inverse));
    }

    /// The same, of soft bits that are made again.
    fn hard_slopes<T: Real>(scores: Perturbed, lg: [&[T]; 2], first: usize, d: &mut [T]) {
        let [logits, g] = lg;
        let mut v = vec![T::zero(); d.len()];
        for start in (first..g.len()).step_by(logits.len()) {
            scores.fill(logits, start, &mut v, noise::logistic);
            for ((d, v), g) in d.iter_mut().zip(&v).zip(&g[start..]) {
                let y = Real::sigmoid(*v);
                *d += *g * (y * (T::one() - y));
            }
        }
        scale(d, T::of(scores.inverse));
    }
}

#[inline(always)]
fn scale<T: Real>(d: &mut [T], factor: T) {
    for d in d {
        *d *= factor;
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::check::{close, finite_differences, irregular, twins};

    const KEY: fn() -> Key = || Key::from_seed(6).named("gumbel_sigmoid");

    #[test]
    fn fused_equals_reference_in_value_and_gradient() -> Result<()> {
        for (shape, samples, dtype, tolerance) in [
            (vec![1, 3, 5], 4, DType::F64, 1e-12),
            (vec![4, 3, 5], 4, DType::F64, 1e-12),
            (vec![3], 3, DType::F64, 1e-12),
            (vec![1, 64, 200], 5, DType::F32, 1e-5),
            (vec![2, 3, 5000], 2, DType::F32, 1e-5),
        ] {
            for forward in [Forward::Soft, Forward::Hard] {
                for temperature in [0.3, 1.] {
                    twins(
                        &[irregular(&shape, 1, dtype)?],
                        tolerance,
                        |x| gumbel_sigmoid(&x[0], samples, temperature, forward, KEY()),
                        |x| reference(&x[0], samples, temperature, forward, KEY()),
                    )?;
                }
            }
        }
        let x = [irregular(&[1, 2, 3], 2, DType::F64)?];
        finite_differences(&x, |x| gumbel_sigmoid(&x[0], 4, 0.7, Forward::Soft, KEY()))
    }

    #[test]
    fn the_hard_bit_is_the_rounding_of_the_soft_one_with_its_gradient() -> Result<()> {
        let logits = Var::from_tensor(&irregular(&[1, 50, 20], 4, DType::F64)?)?;
        let run = |forward| {
            let y = gumbel_sigmoid(&logits, 3, 0.5, forward, KEY())?;
            let gradient = y.sqr()?.sum_all()?.backward()?;
            let plain = y.sum_all()?.backward()?;
            Ok::<_, candle_core::Error>((y, [gradient, plain]))
        };
        let ((soft, [of_square, of_soft]), (hard, [_, of_hard])) =
            (run(Forward::Soft)?, run(Forward::Hard)?);
        close(&hard, &soft.gt(0.5)?.to_dtype(DType::F64)?, 0.)?;
        let get = |grads: &candle_core::backprop::GradStore| grads.get(&logits).cloned().unwrap();
        close(&get(&of_hard), &get(&of_soft), 1e-14)?;
        let gap = (get(&of_square) - get(&of_soft))?.abs()?.max_all()?.to_scalar::<f64>()?;
        assert!(gap > 0.1);
        Ok(())
    }

    #[test]
    fn extreme_logits_and_bad_arguments() -> Result<()> {
        let logits = Var::new(&[[-1e30f32, 1e30, f32::INFINITY]], &Device::Cpu)?;
        for forward in [Forward::Soft, Forward::Hard] {
            let y = gumbel_sigmoid(&logits, 4, 1e-3, forward, KEY())?;
            assert_eq!(y.to_vec2::<f32>()?, [[0., 1., 1.]; 4]);
            let grads = y.sum_all()?.backward()?;
            assert_eq!(grads.get(&logits).unwrap().to_vec2::<f32>()?, [[0.; 3]]);
            for temperature in [0., -1., f64::NAN, f64::INFINITY] {
                let error = gumbel_sigmoid(&logits, 4, temperature, forward, KEY()).unwrap_err();
                assert!(error.to_string().contains(&format!("{temperature}")), "{error}");
            }
            assert!(gumbel_sigmoid(&logits, 0, 1., forward, KEY()).is_err());
            let error = gumbel_sigmoid(&irregular(&[2, 3], 1, DType::F32)?, 3, 1., forward, KEY());
            assert!(error.unwrap_err().to_string().contains("[2, 3]"));
        }
        Ok(())
    }
}
