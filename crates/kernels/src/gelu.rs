//! The Gaussian error linear unit.
use candle_core::{Result, Tensor};

use crate::elementwise::elementwise;
use crate::graph::fusible;
use crate::vectorised::vectorised;
use crate::{Real, in_single};

/// `√(8/π)`.
const SLOPE: f64 = 1.595_769_121_605_730_8;

/// The coefficient of the cubic term in the tanh approximation.
const CUBIC: f64 = 0.044_715;

/// Beyond this the unit is `x` or 0, in single and in double precision; its cube would overflow much later.
const FLAT: f64 = 30.;

/// The Gaussian error linear unit in its tanh approximation,
/// elementwise: what PyTorch computes with `approximate="tanh"`, *not* its default. Differentiable.
///
/// It is computed in the second form, which keeps its relative precision where `tanh` is close to -1:
///
/// ```math
/// \frac{x}{2} \Bigl( 1 + \tanh\Bigl( \sqrt{2 / \pi}\, (x + 0.044715\, x^3) \Bigr) \Bigr)
/// = x\, \sigma\Bigl( \sqrt{8 / \pi}\, (x + 0.044715\, x^3) \Bigr)
/// ```
///
/// Source: Hendrycks and Gimpel (2016), section 2.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if !fusible([x]) {
        return reference(x);
    }
    in_single([x], |[x]| elementwise!("gelu", x, gelus, gelu_slopes))
}

/// The twin of [`gelu`] from plain candle operations.
pub fn reference(x: &Tensor) -> Result<Tensor> {
    let u = ((x.sqr()? * CUBIC)? + 1.)?.mul(x)?.affine(0.5 * SLOPE, 0.)?;
    (u.tanh()? + 1.)?.mul(x)?.affine(0.5, 0.)
}

vectorised! {
    fn gelus<T: Real>(x: &[T], y: &mut [T]) {
        let (slope, cubic, flat) = (T::of(SLOPE), T::of(CUBIC), T::of(FLAT));
        for (y, x) in y.iter_mut().zip(x) {
            let t = clamp(*x, flat);
            *y = *x / (T::one() + Real::exp(-(slope * t * (T::one() + cubic * t * t))));
        }
    }

    fn gelu_slopes<T: Real>(x: &[T], g: &[T], d: &mut [T]) {
        let (slope, cubic, flat) = (T::of(SLOPE), T::of(CUBIC), T::of(FLAT));
        let three = T::of(3.);
        for ((d, x), g) in d.iter_mut().zip(x).zip(g) {
            let t = clamp(*x, flat);
            let square = cubic * t * t;
            let s = T::one() / (T::one() + Real::exp(-(slope * t * (T::one() + square))));
            *d = *g * (s + t * s * (T::one() - s) * slope * (T::one() + three * square));
        }
    }
}

/// `x` within `±bound`; a NaN stays one.
#[inline(always)]
fn clamp<T: Real>(x: T, bound: T) -> T {
    let x = if x > bound { bound } else { x };
    if x < -bound { -bound } else { x }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::check::{close, finite_differences, irregular, twins};

    #[test]
    fn fused_equals_reference_in_value_and_gradient() -> Result<()> {
        for (shape, dtype, tolerance) in
            [(vec![3, 50], DType::F64, 1e-12), (vec![2, 99, 301], DType::F32, 2e-5)]
        {
            let x = (irregular(&shape, 1, dtype)? * 2.)?;
            twins(&[x], tolerance, |x| gelu(&x[0]), |x| reference(&x[0]))?;
        }
        finite_differences(&[irregular(&[40], 2, DType::F64)?], |x| gelu(&x[0]))
    }

    /// `gelu(±1)` to sixteen digits, and both ends.
    #[test]
    fn known_and_extreme_values() -> Result<()> {
        let y = gelu(&Tensor::new(&[1f64, -1.], &Device::Cpu)?)?;
        let expected = [0.841_191_990_608_276_8, -0.158_808_009_391_723_24];
        close(&y, &Tensor::new(&expected, &Device::Cpu)?, 1e-15)?;
        for huge in [40f32, 1e30, f32::MAX] {
            let x = Var::new(&[huge, -huge], &Device::Cpu)?;
            let y = gelu(&x)?;
            assert_eq!(y.to_vec1::<f32>()?, [huge, 0.]);
            let slopes = y.sum_all()?.backward()?.get(&x).unwrap().to_vec1::<f32>()?;
            assert_eq!(slopes, [1., 0.]);
        }
        assert!(gelu(&Tensor::new(&[f32::NAN], &Device::Cpu)?)?.to_vec1::<f32>()?[0].is_nan());
        Ok(())
    }
}
