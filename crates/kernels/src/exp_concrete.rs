//! Samples of the Concrete distribution in log-coordinates, and their density from the noise.
use candle_core::{D, Result, Tensor, WithDType};

use crate::exp_concrete_density::{sums_of_variables, variable_constant};
use crate::graph::{Value, compute, fusible, node};
use crate::log_softmax::log_softmax_slopes;
use crate::perturbed::{Perturbed, make_pairs, sample_shape, scale_sum};
use crate::reduce::sum_of_rows;
use crate::rows::make_rows;
use crate::softmax_rows::{categories, centre_rows, log_normalise_rows};
use crate::vectorised::vectorised;
use crate::{Key, Real, compute_dtype, in_single, noise};

const NAME: &str = "exp_concrete";

/// Samples of the logarithm of Concrete variables.
///
/// With `G ~ Gumbel(0, 1)` independent per entry, and `τ = temperature`:
///
/// ```math
/// y = \log \operatorname{softmax}\Bigl(\frac{\mathrm{logits} + G}{\tau}\Bigr)
/// ```
///
/// `logits: [S | 1, .., K]` → `[S, .., K]` with `S = samples`: a leading axis of 1 is shared by all samples. Entry `i` of
/// the result, in row-major order, uses element `i` of the stream `key`. A `-∞` logit masks a category, whose
/// coordinate is `-∞`. Differentiable; the noise is not stored.
///
/// Source: Maddison, Mnih, Teh (2017), appendix C.3.
///
/// # Errors
/// If `temperature` is not positive and finite, the leading axis is neither 1 nor `samples`, or a row has no finite
/// logit.
pub fn exp_concrete(logits: &Tensor, samples: usize, temperature: f64, key: Key) -> Result<Tensor> {
    let scores = Perturbed::new(temperature, key)?;
    let shape = sample_shape(logits, samples, 2)?;
    in_single([logits], |[logits]| {
        #[cfg(feature = "cuda")]
        if crate::cuda::takes([logits]) {
            return crate::cuda::exp_concrete(logits, shape, temperature, key);
        }
        if !fusible([logits]) {
            return reference(logits, samples, temperature, key);
        }
        let k = categories(logits.shape())?;
        let rows = shape.iter().product::<usize>() / k;
        let y = compute!(NAME, shape, T, |logits| {
            make_rows(rows, k, 3 * k, |first, y: &mut [T]| {
                samples_of(scores, logits, (first, k), y)
            })?
        });
        sample(logits, y, scores)
    })
}

/// The sample `y: [S, .., N, K]` of [`exp_concrete`] and its log-density `[S, ..]` in nats, summed over the variables.
///
/// Along the path of a sample the density is a function of the noise alone, and so has no gradient. For each variable
/// it is:
///
/// ```math
/// \ln \Gamma(K) + (K - 1) \ln \tau - \sum_k G_k - K \ln \sum_k e^{-G_k}
/// ```
///
/// It is meant for logits without masks: the noise of a masked category counts. Of logits in half precision both are in
/// `f32`: a sample that is rounded has another density.
///
/// # Errors
/// Those of [`exp_concrete`]; logits of fewer than three axes.
pub fn exp_concrete_with_log_density(
    logits: &Tensor,
    samples: usize,
    temperature: f64,
    key: Key,
) -> Result<(Tensor, Tensor)> {
    let scores = Perturbed::new(temperature, key)?;
    let shape = sample_shape(logits, samples, 3)?;
    let logits = &logits.to_dtype(compute_dtype(logits.dtype()))?;
    #[cfg(feature = "cuda")]
    if crate::cuda::takes([logits]) {
        return crate::cuda::exp_concrete_with_log_density(logits, shape, temperature, key);
    }
    if !fusible([logits]) {
        return with_log_density_reference(logits, samples, temperature, key);
    }
    let k = categories(logits.shape())?;
    let (leading, n) = (&shape[..shape.len() - 2], shape[shape.len() - 2]);
    let sums: usize = leading.iter().product();
    let rows = sums * n;
    let density;
    let y = compute!(NAME, shape.as_slice(), T, |logits| {
        let (y, each) = make_pairs(rows, k, |first, y: &mut [T], density| {
            samples_and_densities(scores, logits, (first, k), y, density)
        })?;
        let each = sums_of_variables(&each, (sums, n), variable_constant(k, temperature));
        density = Value(T::to_cpu_storage_owned(each), leading.into());
        y
    });
    Ok((sample(logits, y, scores)?, density.tensor()))
}

/// The twin of [`exp_concrete`] from plain candle operations.
pub fn reference(logits: &Tensor, samples: usize, temperature: f64, key: Key) -> Result<Tensor> {
    let shape = sample_shape(logits, samples, 2)?;
    let noise = key.gumbel(shape, logits.dtype(), logits.device())?;
    crate::log_softmax::reference(&(noise.broadcast_add(logits)? * (1. / temperature))?)
}

/// The twin of [`exp_concrete_with_log_density`] from plain candle operations.
pub fn with_log_density_reference(
    logits: &Tensor,
    samples: usize,
    temperature: f64,
    key: Key,
) -> Result<(Tensor, Tensor)> {
    let y = reference(logits, samples, temperature, key)?;
    let noise = key.gumbel(y.shape(), y.dtype(), y.device())?;
    let zeros = noise.zeros_like()?;
    let density = crate::exp_concrete_density::reference(&zeros, &noise, 1.)?;
    let constant = logits.dim(D::Minus1)?.saturating_sub(1) * y.dim(y.rank() - 2)?;
    Ok((y, (density + constant as f64 * temperature.ln())?))
}

/// The sample as a node of the graph.
fn sample(logits: &Tensor, y: Value, scores: Perturbed) -> Result<Tensor> {
    node(NAME, [logits], y, move |[logits], y, g| {
        let k = categories(logits.shape())?;
        let inputs = logits.elem_count() / k;
        let d = compute!(NAME, logits.shape(), T, |y, g| {
            let repeats = y.len() / (inputs * k).max(1);
            make_rows(inputs, k, 2 * k * repeats, |first, d: &mut [T]| {
                slopes(scores, [y, g], (first, k), inputs, d);
                Ok(())
            })?
        });
        Ok([Some(d.tensor())])
    })
}

vectorised! {
    fn samples_of<T: Real>(
        scores: Perturbed,
        logits: &[T],
        first_and_width: (usize, usize),
        y: &mut [T],
    ) -> Result<()> {
        let (first, k) = first_and_width;
        scores.fill(logits, first * k, y, noise::gumbel);
        centre_rows(y, k, first)?;
        log_normalise_rows(y, k);
        Ok(())
    }

    /// Rows `first..` of the sample, and `-Σ_k G_k - K ln (Σ_k e^-G_k / K)` of each.
    fn samples_and_densities<T: Real>(
        scores: Perturbed,
        logits: &[T],
        first_and_width: (usize, usize),
        y: &mut [T],
        density: &mut [T],
    ) -> Result<()> {
        let (first, k) = first_and_width;
        let mut exponentials = vec![T::zero(); y.len()];
        let mut totals = vec![T::zero(); density.len()];
        scores.fill_noise(first * k, y, &mut exponentials, noise::gumbel_with_exponential);
        sum_of_rows(y, k, density);
        sum_of_rows(&exponentials, k, &mut totals);
        let k_real = T::of(k as f64);
        for (density, total) in density.iter_mut().zip(&totals) {
            *density = -*density - k_real * Real::ln(*total / k_real);
        }
        scale_sum(y, logits, first * k, T::of(scores.inverse));
        centre_rows(y, k, first)?;
        log_normalise_rows(y, k);
        Ok(())
    }

    /// `Σ_s (g_k - e^{y_k} Σ_j g_j) / temperature` over the samples `s` that share a row of logits, of which there are
    /// `n`.
    fn slopes<T: Real>(
        scores: Perturbed,
        yg: [&[T]; 2],
        first_and_width: (usize, usize),
        n: usize,
        d: &mut [T],
    ) {
        let ([y, g], (first, k)) = (yg, first_and_width);
        let inverse = T::of(scores.inverse);
        let mut each = vec![T::zero(); d.len()];
        for start in (first * k..g.len()).step_by(n * k) {
            let here = start..start + d.len();
            log_softmax_slopes(&y[here.clone()], &g[here], k, &mut each);
            for (d, each) in d.iter_mut().zip(&each) {
                *d += *each * inverse;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::check::{close, finite_differences, irregular, twins};

    const KEY: fn() -> Key = || Key::from_seed(8).named("exp_concrete");

    #[test]
    fn fused_equals_reference_in_value_and_gradient() -> Result<()> {
        for (shape, samples, dtype, tolerance) in [
            (vec![1, 3, 2, 5], 4, DType::F64, 1e-12),
            (vec![4, 3, 2, 5], 4, DType::F64, 1e-12),
            (vec![1, 3, 40], 2, DType::F64, 1e-12),
            (vec![1, 100, 20, 10], 2, DType::F32, 2e-5),
            (vec![2, 3, 1, 5000], 2, DType::F32, 2e-5),
        ] {
            for temperature in [0.3, 1.] {
                let x = [irregular(&shape, 1, dtype)?];
                twins(
                    &x,
                    tolerance,
                    |x| exp_concrete(&x[0], samples, temperature, KEY()),
                    |x| reference(&x[0], samples, temperature, KEY()),
                )?;
                let run = |x: &[Tensor]| {
                    exp_concrete_with_log_density(&x[0], samples, temperature, KEY())
                };
                twins(
                    &x,
                    tolerance,
                    |x| Ok(run(x)?.0),
                    |x| reference(&x[0], samples, temperature, KEY()),
                )?;
                let twin = with_log_density_reference(&x[0], samples, temperature, KEY())?.1;
                close(&run(&x)?.1, &twin, tolerance)?;
                assert_eq!(twin.rank() + 2, x[0].rank());
            }
        }
        let x = [irregular(&[1, 2, 3], 2, DType::F64)?];
        finite_differences(&x, |x| exp_concrete(&x[0], 4, 0.7, KEY()))
    }

    #[test]
    fn a_draw_does_not_depend_on_the_size_of_the_batch() -> Result<()> {
        let logits = irregular(&[1, 1000, 5, 7], 3, DType::F32)?;
        let few = logits.narrow(1, 0, 11)?;
        let start = |t: Tensor| t.flatten_all()?.narrow(0, 0, 385)?.to_vec1::<f32>();
        let whole = start(exp_concrete(&logits, 1, 0.5, KEY())?)?;
        assert_eq!(start(exp_concrete(&few, 1, 0.5, KEY())?)?, whole);
        assert_eq!(start(exp_concrete_with_log_density(&few, 1, 0.5, KEY())?.0)?, whole);
        Ok(())
    }

    #[test]
    fn masked_categories_and_extreme_logits() -> Result<()> {
        let inf = f32::INFINITY;
        let logits = Tensor::new(&[[[0f32, -inf, 1.], [1e30, -1e30, 0.]]], &Device::Cpu)?;
        let y = exp_concrete(&logits, 50, 1e-3, KEY())?.flatten_to(1)?.to_vec2::<f32>()?;
        for row in y.chunks(2) {
            assert!(row[0][1] == -inf && row[0][0].max(row[0][2]) > -1.);
            assert!(row[1][0] == 0. && row[1][2] < -9e32);
        }
        let nothing = Tensor::full(-inf, (1, 2, 3), &Device::Cpu)?;
        assert!(exp_concrete(&nothing, 1, 1., KEY()).unwrap_err().to_string().contains("row 0"));
        assert!(exp_concrete_with_log_density(&nothing, 1, 1., KEY()).is_err());
        Ok(())
    }

    #[test]
    fn bad_arguments_are_errors_that_say_so() -> Result<()> {
        let logits = irregular(&[2, 2, 3], 3, DType::F32)?;
        for temperature in [0., -1., f64::NAN, f64::INFINITY] {
            for error in [
                exp_concrete(&logits, 2, temperature, KEY()).unwrap_err(),
                exp_concrete_with_log_density(&logits, 2, temperature, KEY()).unwrap_err(),
            ] {
                assert!(error.to_string().contains(&format!("{temperature}")), "{error}");
            }
        }
        for samples in [0, 3] {
            let error = exp_concrete(&logits, samples, 1., KEY()).unwrap_err().to_string();
            assert!(error.contains("[2, 2, 3]") && error.contains(&format!("S = {samples}")));
        }
        assert!(exp_concrete_with_log_density(&logits.get(0)?, 2, 1., KEY()).is_err());
        assert!(exp_concrete(&logits.to_dtype(DType::U8)?, 2, 1., KEY()).is_err());
        Ok(())
    }
}
