//! Log-density of the binary Concrete distribution in logit coordinates.
use candle_core::{D, Result, Tensor};

use crate::bernoulli_log_prob::width;
use crate::graph::{compute, fusible, node};
use crate::logistic::{softplus_reference, sum_ln_1p_exp};
use crate::perturbed::{positive, shares};
use crate::reduce::sum_zip;
use crate::rows::{align_rows, cyclic, make_rows, numbers_of_both};
use crate::vectorised::vectorised;
use crate::{Real, in_single};

const NAME: &str = "bin_concrete_log_density";

/// Log-density of binary Concrete variables in logit coordinates, summed over the last axis, in nats.
///
/// With `d = logits - τ v` and `τ = temperature`:
///
/// ```math
/// \sum_n \bigl[ \ln \tau + d_n - 2 \ln(1 + e^{d_n}) \bigr]
/// ```
///
/// `logits: [.., N]`, `v: [.., N]` → `[..]`, shapes broadcast (logits `[1, 1, N]` of a prior, samples `[S, B, N]` give
/// `[S, B]`). Differentiable in both; finite wherever both are.
///
/// Source: Maddison, Mnih, Teh (2017), appendix C.3, after eq. 26.
///
/// # Errors
/// If `temperature` is not positive and finite, or the shapes do not broadcast.
pub fn bin_concrete_log_density(logits: &Tensor, v: &Tensor, temperature: f64) -> Result<Tensor> {
    positive(temperature)?;
    in_single([logits, v], |[logits, v]| {
        let (logits, v, leading) = align_rows(logits, v)?;
        #[cfg(feature = "cuda")]
        if crate::cuda::takes([&logits, &v]) {
            return crate::cuda::bin_concrete_log_density(&logits, &v, temperature)?
                .reshape(leading);
        }
        if !fusible([&logits, &v]) {
            return reference(&logits, &v, temperature);
        }
        fused(&logits, &v, temperature)?.reshape(leading)
    })
}

/// The twin of [`bin_concrete_log_density`] from plain candle operations.
pub fn reference(logits: &Tensor, v: &Tensor, temperature: f64) -> Result<Tensor> {
    let d = logits.broadcast_sub(&(v * temperature)?)?;
    ((&d - (softplus_reference(&d)? * 2.)?)? + temperature.ln())?.sum(D::Minus1)
}

fn fused(logits: &Tensor, v: &Tensor, temperature: f64) -> Result<Tensor> {
    let n = width(logits.shape())?;
    let numbers = numbers_of_both(logits, v);
    let rows = numbers / n;
    let sums = compute!(NAME, rows, T, |logits, v| {
        let constant = T::of(n as f64 * temperature.ln());
        make_rows(rows, 1, 2 * n, |first, y| {
            densities::<T>([logits, v], T::of(temperature), n, first, y);
            y.iter_mut().for_each(|y| *y += constant);
            Ok(())
        })?
    });
    node(NAME, [logits, v], sums, move |[logits, v], _, g| {
        let slopes = compute!(NAME, numbers, T, |logits, v, g| {
            make_rows(rows, n, 2 * n, |first, d| {
                slopes_in_v::<T>([logits, v, g], T::of(temperature), n, first, d);
                Ok(())
            })?
        });
        shares([logits, v], &slopes.tensor(), temperature)
    })
}

vectorised! {
    fn densities<T: Real>(lv: [&[T]; 2], temperature: T, n: usize, first: usize, y: &mut [T]) {
        for (i, y) in y.iter_mut().enumerate() {
            let [l, v] = lv.map(|x| cyclic(x, first + i, n));
            // d - 2 ln(1 + e^d) = -|d| - 2 ln(1 + e^-|d|)
            let linear = sum_zip(l, v, |l, v| Real::abs(l - temperature * v));
            let rest = sum_ln_1p_exp(l, v, |l, v| l - temperature * v);
            *y = -(linear + (rest + rest));
        }
    }

    /// `g τ tanh(d / 2)`.
    fn slopes_in_v<T: Real>(lvg: [&[T]; 3], temperature: T, n: usize, first: usize, out: &mut [T]) {
        let [l, v, g] = lvg;
        for (i, out) in out.chunks_exact_mut(n).enumerate() {
            let (l, v) = (cyclic(l, first + i, n), cyclic(v, first + i, n));
            let scale = g[first + i] * temperature;
            for ((out, l), v) in out.iter_mut().zip(l).zip(v) {
                let d = *l - temperature * *v;
                let e = Real::exp(-Real::abs(d));
                let size = (T::one() - e) / (T::one() + e) * scale;
                *out = if d >= T::zero() { size } else { -size };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::check::{close, finite_differences, irregular, twins};
    use crate::{Key, bin_concrete_with_log_density};

    #[test]
    fn fused_equals_reference_in_value_and_gradient() -> Result<()> {
        for (logits, v, dtype, tolerance) in [
            (vec![1, 4, 19], vec![3, 4, 19], DType::F64, 1e-12),
            (vec![1, 1, 40], vec![3, 4, 40], DType::F64, 1e-12),
            (vec![3, 4, 8], vec![1, 4, 8], DType::F64, 1e-12),
            (vec![3, 1, 8], vec![1, 4, 8], DType::F64, 1e-12),
            (vec![7], vec![2, 7], DType::F64, 1e-12),
            (vec![1, 1, 200], vec![5, 64, 200], DType::F32, 3e-5),
            (vec![1, 64, 200], vec![5, 64, 200], DType::F32, 3e-5),
        ] {
            for temperature in [0.4, 1.5] {
                let inputs =
                    [(irregular(&logits, 1, dtype)? * 3.)?, (irregular(&v, 2, dtype)? * 4.)?];
                twins(
                    &inputs,
                    tolerance,
                    |i| bin_concrete_log_density(&i[0], &i[1], temperature),
                    |i| reference(&i[0], &i[1], temperature),
                )?;
            }
        }
        let inputs = [irregular(&[1, 3, 5], 3, DType::F64)?, irregular(&[2, 3, 5], 4, DType::F64)?];
        finite_differences(&inputs, |i| bin_concrete_log_density(&i[0], &i[1], 0.7))
    }

    #[test]
    fn the_density_of_a_sample_is_that_of_its_noise() -> Result<()> {
        let logits = (irregular(&[1, 30, 20], 1, DType::F64)? * 5.)?;
        for temperature in [0.05, 0.5, 3.] {
            let key = Key::from_seed(2);
            let (v, density) = bin_concrete_with_log_density(&logits, 4, temperature, key)?;
            close(&bin_concrete_log_density(&logits, &v, temperature)?, &density, 1e-11)?;
        }
        Ok(())
    }

    #[test]
    fn no_sample_is_too_large_and_bad_arguments_are_errors() -> Result<()> {
        let logits = Var::new(&[[-1e4f32, 1e4, 0., 90.]], &Device::Cpu)?;
        let v = Var::new(&[[1e4f32, 1e4, -1e30, 180.]], &Device::Cpu)?;
        let y = bin_concrete_log_density(&logits, &v, 0.5)?;
        let exact = 4. * 0.5f32.ln() - 1.5e4 - 0.5e4 - 5e29 - 2. * 2f32.ln();
        close(&y, &Tensor::new(&[exact], &Device::Cpu)?, 1e-6)?;
        let grads = y.sum_all()?.backward()?;
        let get = |x: &Var| grads.get(x.as_tensor()).unwrap().to_vec2::<f32>();
        assert_eq!(get(&logits)?, [[1., -1., -1., 0.]]);
        assert_eq!(get(&v)?, [[-0.5, 0.5, 0.5, 0.]]);
        for temperature in [0., -1., f64::NAN, f64::INFINITY] {
            let error = bin_concrete_log_density(&logits, &v, temperature).unwrap_err();
            assert!(error.to_string().contains(&format!("{temperature}")), "{error}");
        }
        let short = v.narrow(1, 0, 3)?;
        assert!(bin_concrete_log_density(&logits, &short, 1.).is_err());
        Ok(())
    }
}
