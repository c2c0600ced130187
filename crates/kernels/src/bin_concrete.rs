//! Samples of the binary Concrete distribution in logit coordinates, and their density from the noise.
use candle_core::{D, Result, Tensor, WithDType};

use crate::graph::{Value, compute, fusible, node};
use crate::logistic::softplus_reference;
use crate::perturbed::{Perturbed, make_pairs, sample_shape, scale_sum, sum_of_repeats};
use crate::reduce::sum_of_rows;
use crate::rows::make_rows;
use crate::vectorised::vectorised;
use crate::{Key, Real, compute_dtype, in_single, noise};

const NAME: &str = "bin_concrete";

/// Samples of binary Concrete variables in logit coordinates, whose relaxed bit is `σ(v)`.
///
/// With `L ~ Logistic(0, 1)` independent per entry, and `τ = temperature`:
///
/// ```math
/// v = \frac{\mathrm{logits} + L}{\tau}
/// ```
///
/// `logits: [S | 1, ..]` → `[S, ..]` with `S = samples`: a leading axis of 1 is shared by all samples. Entry `i` of
/// the result, in row-major order, uses element `i` of the stream `key`. Differentiable; the noise is not stored.
///
/// Source: Maddison, Mnih, Teh (2017), appendix B.
///
/// # Errors
/// If `temperature` is not positive and finite, or the leading axis is neither 1 nor `samples`.
pub fn bin_concrete(logits: &Tensor, samples: usize, temperature: f64, key: Key) -> Result<Tensor> {
    let scores = Perturbed::new(temperature, key)?;
    let shape = sample_shape(logits, samples, 1)?;
    in_single([logits], |[logits]| {
        #[cfg(feature = "cuda")]
        if crate::cuda::takes([logits]) {
            return crate::cuda::bin_concrete(logits, shape, temperature, key);
        }
        if !fusible([logits]) {
            return reference(logits, samples, temperature, key);
        }
        let n = shape.iter().product();
        let v = compute!(NAME, shape, T, |logits| {
            make_rows(n, 1, 2, |first, v: &mut [T]| {
                scores_of(scores, logits, first, v);
                Ok(())
            })?
        });
        sample(logits, v, scores)
    })
}

/// The sample `v: [S, .., N]` of [`bin_concrete`] and its log-density `[S, ..]` in nats, summed over the last axis.
///
/// Along the path of a sample the density is a function of the noise alone, and so has no gradient. With the uniform
/// numbers `u` that the noise is made of, it is:
///
/// ```math
/// \sum_n \bigl[ \ln \tau + \ln u_n + \ln(1 - u_n) \bigr]
/// ```
///
/// Of logits in half precision both are in `f32`: a sample that is rounded has another density.
///
/// # Errors
/// Those of [`bin_concrete`]; logits of one axis.
pub fn bin_concrete_with_log_density(
    logits: &Tensor,
    samples: usize,
    temperature: f64,
    key: Key,
) -> Result<(Tensor, Tensor)> {
    let scores = Perturbed::new(temperature, key)?;
    let shape = sample_shape(logits, samples, 2)?;
    let logits = &logits.to_dtype(compute_dtype(logits.dtype()))?;
    #[cfg(feature = "cuda")]
    if crate::cuda::takes([logits]) && logits.elem_count() > 0 {
        return crate::cuda::bin_concrete_with_log_density(logits, shape, temperature, key);
    }
    if !fusible([logits]) {
        return with_log_density_reference(logits, samples, temperature, key);
    }
    let (leading, width) = (&shape[..shape.len() - 1], shape[shape.len() - 1]);
    let rows = leading.iter().product();
    let density;
    let v = compute!(NAME, shape.as_slice(), T, |logits| {
        let constant = T::of(temperature.ln() * width as f64);
        let (v, densities) = make_pairs(rows, width, |first, v: &mut [T], density| {
            scores_and_densities(scores, logits, (first, width), v, density);
            density.iter_mut().for_each(|density| *density += constant);
            Ok(())
        })?;
        density = Value(T::to_cpu_storage_owned(densities), leading.into());
        v
    });
    Ok((sample(logits, v, scores)?, density.tensor()))
}

/// The twin of [`bin_concrete`] from plain candle operations.
pub fn reference(logits: &Tensor, samples: usize, temperature: f64, key: Key) -> Result<Tensor> {
    let shape = sample_shape(logits, samples, 1)?;
    let noise = key.logistic(shape, logits.dtype(), logits.device())?;
    noise.broadcast_add(logits)? * (1. / temperature)
}

/// The twin of [`bin_concrete_with_log_density`] from plain candle operations.
pub fn with_log_density_reference(
    logits: &Tensor,
    samples: usize,
    temperature: f64,
    key: Key,
) -> Result<(Tensor, Tensor)> {
    let v = reference(logits, samples, temperature, key)?;
    let noise = key.logistic(v.shape(), v.dtype(), v.device())?;
    let density = (noise.neg()? - (softplus_reference(&noise.neg()?)? * 2.)?)? + temperature.ln();
    Ok((v, density?.sum(D::Minus1)?))
}

/// The sample as a node of the graph.
fn sample(logits: &Tensor, v: Value, scores: Perturbed) -> Result<Tensor> {
    node(NAME, [logits], v, move |[logits], _, g| {
        let n = logits.elem_count();
        let d = compute!(NAME, logits.shape(), T, |g| sum_of_repeats::<T>(g, n, scores.inverse)?);
        Ok([Some(d.tensor())])
    })
}

vectorised! {
    fn scores_of<T: Real>(scores: Perturbed, logits: &[T], first: usize, v: &mut [T]) {
        scores.fill(logits, first, v, noise::logistic);
    }

    /// Rows `first..` of the sample, and of the log-density of their noise.
    fn scores_and_densities<T: Real>(
        scores: Perturbed,
        logits: &[T],
        first_and_width: (usize, usize),
        v: &mut [T],
        density: &mut [T],
    ) {
        let (first, width) = first_and_width;
        let mut each = vec![T::zero(); v.len()];
        scores.fill_noise(first * width, v, &mut each, noise::logistic_with_log_density);
        scale_sum(v, logits, first * width, T::of(scores.inverse));
        sum_of_rows(&each, width, density);
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::check::{close, finite_differences, irregular, twins};

    const KEY: fn() -> Key = || Key::from_seed(7).named("bin_concrete");

    #[test]
    fn fused_equals_reference_in_value_and_gradient() -> Result<()> {
        for (shape, samples, dtype, tolerance) in [
            (vec![1, 3, 5], 4, DType::F64, 1e-12),
            (vec![4, 3, 5], 4, DType::F64, 1e-12),
            (vec![1, 7], 3, DType::F64, 1e-12),
            (vec![1, 64, 200], 5, DType::F32, 1e-5),
            (vec![2, 3, 5000], 2, DType::F32, 1e-5),
        ] {
            for temperature in [0.3, 1.] {
                let x = [irregular(&shape, 1, dtype)?];
                twins(
                    &x,
                    tolerance,
                    |x| bin_concrete(&x[0], samples, temperature, KEY()),
                    |x| reference(&x[0], samples, temperature, KEY()),
                )?;
                twins(
                    &x,
                    tolerance,
                    |x| Ok(bin_concrete_with_log_density(&x[0], samples, temperature, KEY())?.0),
                    |x| reference(&x[0], samples, temperature, KEY()),
                )?;
                let density = bin_concrete_with_log_density(&x[0], samples, temperature, KEY())?.1;
                let twin = with_log_density_reference(&x[0], samples, temperature, KEY())?.1;
                close(&density, &twin, tolerance)?;
                assert_eq!(density.rank() + 1, x[0].rank());
            }
        }
        let x = [irregular(&[1, 2, 3], 2, DType::F64)?];
        finite_differences(&x, |x| bin_concrete(&x[0], 4, 0.7, KEY()))
    }

    #[test]
    fn a_draw_does_not_depend_on_the_size_of_the_batch() -> Result<()> {
        let logits = irregular(&[1, 5000, 7], 3, DType::F32)?;
        let few = logits.narrow(1, 0, 11)?;
        let start = |t: Tensor| t.flatten_all()?.narrow(0, 0, 77)?.to_vec1::<f32>();
        let whole = start(bin_concrete(&logits, 1, 0.5, KEY())?)?;
        assert_eq!(start(bin_concrete(&few, 1, 0.5, KEY())?)?, whole);
        assert_eq!(start(bin_concrete_with_log_density(&few, 1, 0.5, KEY())?.0)?, whole);
        Ok(())
    }

    #[test]
    fn no_logit_and_no_temperature_is_too_large_or_small() -> Result<()> {
        let logits = Tensor::new(&[[[-1e30f32, 1e30, 0.]]], &Device::Cpu)?;
        let (v, density) = bin_concrete_with_log_density(&logits, 50, 1e-3, KEY())?;
        let v: Vec<f32> = v.flatten_all()?.to_vec1()?;
        assert!(v.chunks(3).all(|v| v[0] < -9e32 && v[1] > 9e32 && v[2].is_finite()));
        assert!(density.flatten_all()?.to_vec1::<f32>()?.iter().all(|x| x.is_finite()));
        Ok(())
    }

    #[test]
    fn bad_arguments_are_errors_that_say_so() -> Result<()> {
        let logits = irregular(&[2, 3], 3, DType::F32)?;
        for temperature in [0., -1., f64::NAN, f64::INFINITY] {
            for error in [
                bin_concrete(&logits, 2, temperature, KEY()).unwrap_err(),
                bin_concrete_with_log_density(&logits, 2, temperature, KEY()).unwrap_err(),
            ] {
                assert!(error.to_string().contains(&format!("{temperature}")), "{error}");
            }
        }
        for samples in [0, 3] {
            let error = bin_concrete(&logits, samples, 1., KEY()).unwrap_err().to_string();
            assert!(
                error.contains(&format!("S = {samples}")) && error.contains("[2, 3]"),
                "{error}"
            );
        }
        assert!(bin_concrete_with_log_density(&logits.flatten_all()?, 6, 1., KEY()).is_err());
        assert!(bin_concrete(&logits.to_dtype(DType::U8)?, 2, 1., KEY()).is_err());
        Ok(())
    }
}
