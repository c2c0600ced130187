//! Layer normalisation.
use std::sync::{Mutex, PoisonError};

use candle_core::{D, Device, Result, Tensor};

use crate::graph::{compute, fusible, node};
use crate::reduce::{LANES, fold, sum};
use crate::rows::make_rows;
use crate::vectorised::vectorised;
use crate::{Real, in_single};

const NAME: &str = "layer_norm";

/// Layer normalisation over the last axis.
///
/// With the moments of a row, and `ε = epsilon`:
///
/// ```math
/// y_i = \frac{x_i - \mathrm{mean}}{\sqrt{\mathrm{variance} + \varepsilon}} \cdot \mathrm{scale}_i + \mathrm{shift}_i
/// ```
///
/// `x: [.., D]`, `scale: [D]`, `shift: [D]` → `[.., D]`. Mean and variance are those of the `D` numbers of a row,
/// the variance without Bessel's correction. Differentiable in all three; the backward pass takes the moments
/// from `x` again, so that nothing but `x` is kept.
///
/// Source: Ba, Kiros, Hinton (2016), section 3.
///
/// # Errors
/// If `epsilon` is negative or not finite, or `scale` or `shift` do not have one number for each of a row.
pub fn layer_norm(x: &Tensor, scale: &Tensor, shift: &Tensor, epsilon: f64) -> Result<Tensor> {
    if !(epsilon >= 0. && epsilon.is_finite()) {
        candle_core::bail!("layer_norm: epsilon must be finite and at least 0, got {epsilon}")
    }
    let width = x.dims().last().copied().unwrap_or(0);
    if width == 0 || scale.dims() != [width] || shift.dims() != [width] {
        candle_core::bail!(
            "layer_norm: scale {:?} and shift {:?} do not fit the last axis of x {:?}",
            scale.shape(),
            shift.shape(),
            x.shape()
        )
    }
    in_single([x, scale, shift], |[x, scale, shift]| {
        #[cfg(feature = "cuda")]
        if crate::cuda::takes([x, scale, shift]) {
            return crate::cuda::layer_norm(x, scale, shift, epsilon);
        }
        if fusible([x, scale, shift]) {
            fused(x, scale, shift, width, epsilon)
        } else {
            reference(x, scale, shift, epsilon)
        }
    })
}

/// The twin of [`layer_norm`] from plain candle operations.
pub fn reference(x: &Tensor, scale: &Tensor, shift: &Tensor, epsilon: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + epsilon)?.sqrt()?;
    centred.broadcast_div(&deviation)?.broadcast_mul(scale)?.broadcast_add(shift)
}

fn fused(x: &Tensor, scale: &Tensor, shift: &Tensor, width: usize, epsilon: f64) -> Result<Tensor> {
    let y = compute!(NAME, x.shape(), T, |x, scale, shift| {
        make_rows(x.len() / width, width, 2 * width, |first, y: &mut [T]| {
            normalise(&x[first * width..][..y.len()], scale, shift, T::of(epsilon), y);
            Ok(())
        })?
    });
    node(NAME, [x, scale, shift], y, move |[x, scale, shift], _, g| {
        let (of_scale, of_shift);
        let dx = compute!(NAME, x.shape(), T, |x, scale, g| {
            let (dx, mut sums) = backward::<T>(x, scale, g, T::of(epsilon))?;
            of_shift = Tensor::from_vec(sums.split_off(width), width, &Device::Cpu)?;
            of_scale = Tensor::from_vec(sums, width, &Device::Cpu)?;
            dx
        });
        Ok([
            x.track_op().then(|| dx.tensor()),
            scale.track_op().then_some(of_scale),
            shift.track_op().then_some(of_shift),
        ])
    })
}

/// The gradient of `x`, and those of `scale` and `shift` one after the other.
fn backward<T: Real>(x: &[T], scale: &[T], g: &[T], epsilon: T) -> Result<(Vec<T>, Vec<T>)> {
    let width = scale.len();
    let sums = Mutex::new(Vec::new());
    let dx = make_rows(x.len() / width, width, 2 * width, |first, d: &mut [T]| {
        let (here, mut sum) = (first * width, vec![T::zero(); 2 * width]);
        slopes(&x[here..][..d.len()], scale, &g[here..][..d.len()], epsilon, d, &mut sum);
        sums.lock().unwrap_or_else(PoisonError::into_inner).push((first, sum));
        Ok(())
    })?;
    // The order in which they came depends on the threads.
    let mut sums = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
    sums.sort_unstable_by_key(|(first, _)| *first);
    let mut total = vec![T::zero(); 2 * width];
    for (_, sum) in &sums {
        for (total, sum) in total.iter_mut().zip(sum) {
            *total += *sum;
        }
    }
    Ok((dx, total))
}

/// Mean of a row, and the inverse of its standard deviation.
#[inline(always)]
fn moments<T: Real>(x: &[T], epsilon: T) -> (T, T) {
    let width = T::of(x.len() as f64);
    let mean = sum(x, |x| x) / width;
    let variance = sum(x, |x| (x - mean) * (x - mean)) / width;
    (mean, T::one() / Real::sqrt(variance + epsilon))
}

/// `Σ g s` and `Σ g s x` of three rows.
#[inline(always)]
fn sums_of_products<T: Real>(g: &[T], s: &[T], x: &[T]) -> (T, T) {
    let ((g, g_rest), (s, s_rest), (x, x_rest)) =
        (g.as_chunks::<LANES>(), s.as_chunks::<LANES>(), x.as_chunks::<LANES>());
    let (mut plain, mut weighted) = ([T::zero(); LANES], [T::zero(); LANES]);
    for ((g, s), x) in g.iter().zip(s).zip(x) {
        for i in 0..LANES {
            plain[i] += g[i] * s[i];
            weighted[i] += g[i] * s[i] * x[i];
        }
    }
    for (i, ((g, s), x)) in g_rest.iter().zip(s_rest).zip(x_rest).enumerate() {
        plain[i] += *g * *s;
        weighted[i] += *g * *s * *x;
    }
    (fold(plain), fold(weighted))
}

vectorised! {
    fn normalise<T: Real>(x: &[T], scale: &[T], shift: &[T], epsilon: T, y: &mut [T]) {
        let width = scale.len();
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
            let (mean, inverse) = moments(x, epsilon);
            for (((y, x), scale), shift) in y.iter_mut().zip(x).zip(scale).zip(shift) {
                *y = (*x - mean) * inverse * *scale + *shift;
            }
        }
    }

    /// The gradient of some rows, and what they add to those of `scale` and `shift`.
    fn slopes<T: Real>(x: &[T], scale: &[T], g: &[T], epsilon: T, d: &mut [T], sums: &mut [T]) {
        let width = scale.len();
        let (of_scale, of_shift) = sums.split_at_mut(width);
        let rows = x.chunks_exact(width).zip(g.chunks_exact(width));
        for ((x, g), d) in rows.zip(d.chunks_exact_mut(width)) {
            let (mean, inverse) = moments(x, epsilon);
            let parameters = of_scale.iter_mut().zip(of_shift.iter_mut());
            for (((d, x), g), (of_scale, of_shift)) in d.iter_mut().zip(x).zip(g).zip(parameters) {
                *d = (*x - mean) * inverse;
                *of_scale += *g * *d;
                *of_shift += *g;
            }
            let (plain, weighted) = sums_of_products(g, scale, d);
            let n = T::of(width as f64);
            let (plain, weighted) = (plain / n, weighted / n);
            for ((d, g), scale) in d.iter_mut().zip(g).zip(scale) {
                *d = (*g * *scale - plain - *d * weighted) * inverse;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::check::{close, finite_differences, irregular, twins};

    fn inputs(x: &[usize], dtype: DType) -> Result<[Tensor; 3]> {
        let width = x[x.len() - 1];
        let x = (irregular(x, 1, dtype)? * 3.)?.affine(1., 0.7)?;
        Ok([x, irregular(&[width], 2, dtype)?, irregular(&[width], 3, dtype)?])
    }

    #[test]
    fn fused_equals_reference_in_value_and_gradient() -> Result<()> {
        for (shape, dtype, tolerance) in [
            (vec![4, 5], DType::F64, 1e-12),
            (vec![7], DType::F64, 1e-12),
            (vec![2, 3, 1030], DType::F64, 1e-12),
            (vec![3, 50, 256], DType::F32, 1e-4),
        ] {
            twins(
                &inputs(&shape, dtype)?,
                tolerance,
                |i| layer_norm(&i[0], &i[1], &i[2], 1e-5),
                |i| reference(&i[0], &i[1], &i[2], 1e-5),
            )?;
        }
        finite_differences(&inputs(&[3, 4], DType::F64)?, |i| layer_norm(&i[0], &i[1], &i[2], 0.1))
    }

    #[test]
    fn large_offsets_and_equal_numbers() -> Result<()> {
        let (one, zero) = (Tensor::ones(4, DType::F64, &Device::Cpu)?, 0.);
        let shift = (&one * zero)?;
        let x = Tensor::new(&[[1e8f64, 1e8 + 1., 1e8 + 2., 1e8 + 3.], [7.; 4]], &Device::Cpu)?;
        let y = layer_norm(&x, &one, &shift, 1e-5)?;
        let outer = 1.5 / (1.25f64 + 1e-5).sqrt();
        let expected = [[-outer, -outer / 3., outer / 3., outer], [0.; 4]];
        close(&y, &Tensor::new(&expected, &Device::Cpu)?, 1e-12)
    }

    #[test]
    fn what_does_not_fit_is_an_error_that_says_so() -> Result<()> {
        let [x, scale, shift] = inputs(&[4, 5], DType::F32)?;
        for epsilon in [-1., f64::NAN] {
            let error = layer_norm(&x, &scale, &shift, epsilon).unwrap_err();
            assert!(error.to_string().contains(&format!("got {epsilon}")), "{error}");
        }
        let error = layer_norm(&x, &scale.narrow(0, 0, 4)?, &shift, 1e-5).unwrap_err();
        assert!(error.to_string().contains("[4]"), "{error}");
        assert!(layer_norm(&x.sum_all()?, &scale, &shift, 1e-5).is_err());
        assert_eq!(layer_norm(&x.narrow(0, 0, 0)?, &scale, &shift, 1e-5)?.dims(), [0, 5]);
        Ok(())
    }
}
