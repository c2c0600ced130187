//! Log-density of the Concrete distribution in log-coordinates.
use candle_core::{D, Result, Tensor};

use crate::graph::{compute, fusible, node};
use crate::math::ln_gamma;
use crate::perturbed::{positive, scale_sum, shares};
use crate::reduce::{max_of_rows, sum_of_rows};
use crate::rows::{align_rows, make_rows, numbers_of_both};
use crate::softmax_rows::{categories, centre_rows, exp_in_place, normalise_rows};
use crate::vectorised::vectorised;
use crate::{Real, in_single};

const NAME: &str = "exp_concrete_log_density";

/// Log-density of Concrete variables in log-coordinates, summed over the last axis but one, in nats.
///
/// With `t = logits - τ y` and `τ = temperature`:
///
/// ```math
/// \sum_n \Bigl[ \ln \Gamma(K) + (K - 1) \ln \tau + \sum_k t_{nk} - K \ln \sum_k e^{t_{nk}} \Bigr]
/// ```
///
/// `logits: [.., N, K]`, `y: [.., N, K]` → `[..]`, shapes broadcast (logits `[1, 1, N, K]` of a prior, samples
/// `[S, B, N, K]` give `[S, B]`). Of finite numbers only: no category is masked. Differentiable in both.
///
/// Source: Maddison, Mnih, Teh (2017), appendix C.3.
///
/// # Errors
/// If `temperature` is not positive and finite, or the shapes have fewer than two axes or do not broadcast.
pub fn exp_concrete_log_density(logits: &Tensor, y: &Tensor, temperature: f64) -> Result<Tensor> {
    positive(temperature)?;
    in_single([logits, y], |[logits, y]| {
        let (logits, y, mut leading) = align_rows(logits, y)?;
        let Some(variables) = leading.pop() else {
            candle_core::bail!(
                "expected logits and values [.., N, K], got {:?} and {:?}",
                logits.shape(),
                y.shape()
            )
        };
        let sizes = (leading.iter().product(), variables);
        #[cfg(feature = "cuda")]
        if crate::cuda::takes([&logits, &y]) {
            let sums = crate::cuda::exp_concrete_log_density(&logits, &y, temperature, sizes)?;
            return sums.reshape(leading);
        }
        if !fusible([&logits, &y]) {
            return reference(&logits, &y, temperature);
        }
        fused(&logits, &y, temperature, sizes)?.reshape(leading)
    })
}

/// The twin of [`exp_concrete_log_density`] from plain candle operations.
pub fn reference(logits: &Tensor, y: &Tensor, temperature: f64) -> Result<Tensor> {
    let t = logits.broadcast_sub(&(y * temperature)?)?;
    let k = t.dim(D::Minus1)?;
    let constant = ln_gamma(k) + k.saturating_sub(1) as f64 * temperature.ln();
    (crate::log_softmax::reference(&t)?.sum(D::Minus1)? + constant)?.sum(D::Minus1)
}

/// What the log-density of a variable has beside `Σ_k t_k - K ln (Σ_k exp t_k / K)`.
pub(crate) fn variable_constant(k: usize, temperature: f64) -> f64 {
    let real = k as f64;
    ln_gamma(k) - real * real.ln() + (real - 1.) * temperature.ln()
}

/// `rows` sums of `n` variables, each with a constant added.
pub(crate) fn sums_of_variables<T: Real>(
    each: &[T],
    (rows, n): (usize, usize),
    constant: f64,
) -> Vec<T> {
    let mut sums = vec![T::of(constant * n as f64); rows];
    for (sum, each) in sums.iter_mut().zip(each.chunks(n.max(1))) {
        *sum += crate::reduce::sum(each, |x| x);
    }
    sums
}

fn fused(
    logits: &Tensor,
    y: &Tensor,
    temperature: f64,
    sums_and_variables: (usize, usize),
) -> Result<Tensor> {
    let k = categories(logits.shape())?;
    let numbers = numbers_of_both(logits, y);
    let rows = numbers / k;
    let sums = compute!(NAME, sums_and_variables.0, T, |logits, y| {
        let each = make_rows(rows, 1, 2 * k, |first, out| {
            densities::<T>([logits, y], T::of(temperature), (first, k), out);
            Ok(())
        })?;
        sums_of_variables(&each, sums_and_variables, variable_constant(k, temperature))
    });
    node(NAME, [logits, y], sums, move |[logits, y], _, g| {
        let slopes = compute!(NAME, numbers, T, |logits, y, g| {
            make_rows(rows, k, 2 * k, |first, d| {
                slopes_in_y::<T>([logits, y], g, T::of(temperature), (first, k), d)
            })?
        });
        shares([logits, y], &slopes.tensor(), temperature)
    })
}

/// Rows `first..` of `t = logits - τ y` into zeros.
#[inline(always)]
fn fill_difference<T: Real>(ly: [&[T]; 2], temperature: T, start: usize, t: &mut [T]) {
    let [logits, y] = ly;
    scale_sum(t, y, start, -temperature);
    scale_sum(t, logits, start, T::one());
}

vectorised! {
    /// `Σ_k t_k - K ln (Σ_k exp t_k / K)` of rows `first..`.
    fn densities<T: Real>(
        ly: [&[T]; 2],
        temperature: T,
        first_and_width: (usize, usize),
        out: &mut [T],
    ) {
        let (first, k) = first_and_width;
        let mut t = vec![T::zero(); out.len() * k];
        fill_difference(ly, temperature, first * k, &mut t);
        let mut totals = vec![T::zero(); out.len()];
        max_of_rows(&t, k, &mut totals);
        for (t, top) in t.chunks_exact_mut(k).zip(&totals) {
            for t in t {
                *t -= *top;
            }
        }
        sum_of_rows(&t, k, out);
        exp_in_place(&mut t);
        sum_of_rows(&t, k, &mut totals);
        let k = T::of(k as f64);
        for (out, total) in out.iter_mut().zip(&totals) {
            *out -= k * Real::ln(*total / k);
        }
    }

    /// `g τ (K softmax_k(t) - 1)` of rows `first..`, with one `g` for all variables of an example.
    fn slopes_in_y<T: Real>(
        ly: [&[T]; 2],
        g: &[T],
        temperature: T,
        first_and_width: (usize, usize),
        d: &mut [T],
    ) -> Result<()> {
        let (first, k) = first_and_width;
        let variables = (ly[0].len().max(ly[1].len()) / k) / g.len();
        fill_difference(ly, temperature, first * k, d);
        centre_rows(d, k, first)?;
        normalise_rows(d, k);
        let k_real = T::of(k as f64);
        for (row, d) in d.chunks_exact_mut(k).enumerate() {
            let scale = g[(first + row) / variables] * temperature;
            for d in d {
                *d = (k_real * *d - T::one()) * scale;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::check::{close, finite_differences, irregular, twins};
    use crate::{Key, exp_concrete_with_log_density};

    #[test]
    fn fused_equals_reference_in_value_and_gradient() -> Result<()> {
        for (logits, y, dtype, tolerance) in [
            (vec![1, 4, 3, 19], vec![3, 4, 3, 19], DType::F64, 1e-12),
            (vec![1, 1, 2, 8], vec![3, 4, 2, 8], DType::F64, 1e-12),
            (vec![3, 4, 2, 8], vec![1, 4, 2, 8], DType::F64, 1e-12),
            (vec![3, 1, 2, 8], vec![1, 4, 2, 8], DType::F64, 1e-12),
            (vec![1, 1, 1, 4], vec![2, 3, 5, 4], DType::F64, 1e-12),
            (vec![2, 1], vec![2, 1], DType::F64, 1e-12),
            (vec![1, 1, 20, 10], vec![2, 50, 20, 10], DType::F32, 5e-5),
            (vec![1, 3, 1, 700], vec![2, 3, 1, 700], DType::F32, 5e-5),
        ] {
            for temperature in [0.4, 1.5] {
                let inputs = [irregular(&logits, 1, dtype)?, (irregular(&y, 2, dtype)? * 3.)?];
                twins(
                    &inputs,
                    tolerance,
                    |i| exp_concrete_log_density(&i[0], &i[1], temperature),
                    |i| reference(&i[0], &i[1], temperature),
                )?;
            }
        }
        let inputs =
            [irregular(&[1, 2, 2, 3], 3, DType::F64)?, irregular(&[2, 2, 2, 3], 4, DType::F64)?];
        finite_differences(&inputs, |i| exp_concrete_log_density(&i[0], &i[1], 0.7))
    }

    #[test]
    fn the_density_of_a_sample_is_that_of_its_noise() -> Result<()> {
        let logits = (irregular(&[1, 30, 2, 5], 1, DType::F64)? * 5.)?;
        for temperature in [0.05, 0.5, 3.] {
            let key = Key::from_seed(2);
            let (y, density) = exp_concrete_with_log_density(&logits, 4, temperature, key)?;
            close(&exp_concrete_log_density(&logits, &y, temperature)?, &density, 1e-11)?;
        }
        Ok(())
    }

    #[test]
    fn no_value_is_too_large_and_bad_arguments_are_errors() -> Result<()> {
        let logits = Var::new(&[[-1e4f32, 1e4, 0.]], &Device::Cpu)?;
        let y = Var::new(&[[0f32, -1e4, -1e30]], &Device::Cpu)?;
        let density = exp_concrete_log_density(&logits, &y, 0.5)?.to_scalar::<f32>()?;
        assert!((density / -1e30 - 1.).abs() < 1e-6, "{density}");
        let grads = exp_concrete_log_density(&logits, &y, 0.5)?.backward()?;
        let get = |x: &Var| grads.get(x.as_tensor()).unwrap().to_vec2::<f32>();
        assert_eq!(get(&logits)?, [[1., 1., -2.]]);
        assert_eq!(get(&y)?, [[-0.5, -0.5, 1.]]);
        for temperature in [0., -1., f64::NAN, f64::INFINITY] {
            let error = exp_concrete_log_density(&logits, &y, temperature).unwrap_err();
            assert!(error.to_string().contains(&format!("{temperature}")), "{error}");
        }
        assert!(exp_concrete_log_density(&logits, &y.narrow(1, 0, 2)?, 1.).is_err());
        let flat = logits.flatten_all()?;
        let error = exp_concrete_log_density(&flat, &flat, 1.).unwrap_err().to_string();
        assert!(error.contains("[.., N, K]"), "{error}");
        Ok(())
    }
}
