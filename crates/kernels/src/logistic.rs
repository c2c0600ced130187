//! `sigmoid` and `softplus`, stable at any logit.
use candle_core::{Result, Tensor};

use crate::elementwise::elementwise;
use crate::graph::fusible;
use crate::reduce::{LANES, fold};
use crate::vectorised::vectorised;
use crate::{Real, in_single};

/// The logistic function, elementwise. Differentiable.
///
/// Of a number `x`:
///
/// ```math
/// \sigma(x) = \frac{1}{1 + e^{-x}}
/// ```
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    if !fusible([x]) {
        return sigmoid_reference(x);
    }
    in_single([x], |[x]| elementwise!("sigmoid", x, sigmoids, sigmoid_slopes))
}

/// A smooth `max(x, 0)`, elementwise. Differentiable, with gradient `σ(x)`.
///
/// Of a number `x`:
///
/// ```math
/// \operatorname{softplus}(x) = \ln(1 + e^x) = -\ln \sigma(-x)
/// ```
pub fn softplus(x: &Tensor) -> Result<Tensor> {
    if !fusible([x]) {
        return softplus_reference(x);
    }
    in_single([x], |[x]| elementwise!("softplus", x, softpluses, softplus_slopes))
}

/// The twin of [`sigmoid`] from plain candle operations.
pub fn sigmoid_reference(x: &Tensor) -> Result<Tensor> {
    (x.neg()?.exp()? + 1.)?.recip()
}

/// The twin of [`softplus`] from plain candle operations.
pub fn softplus_reference(x: &Tensor) -> Result<Tensor> {
    x.relu()? + (x.abs()?.neg()?.exp()? + 1.)?.log()?
}

/// `Σ ln(1 + e^{-|f(x_i, y_i)|})`. The logarithm is taken of products of eight factors (each at most 2): one
/// logarithm per number would be most of the cost.
#[inline(always)]
pub(crate) fn sum_ln_1p_exp<T: Real>(x: &[T], y: &[T], f: impl Fn(T, T) -> T) -> T {
    let ((xs, x_rest), (ys, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let mut sums = [T::zero(); LANES];
    for (xs, ys) in xs.chunks(8).zip(ys.chunks(8)) {
        let mut products = [T::one(); LANES];
        for (x, y) in xs.iter().zip(ys) {
            for ((product, x), y) in products.iter_mut().zip(x).zip(y) {
                *product *= T::one() + Real::exp(-Real::abs(f(*x, *y)));
            }
        }
        for (sum, product) in sums.iter_mut().zip(products) {
            *sum += Real::ln(product);
        }
    }
    // What is left over, with ∞ in the lanes that are empty.
    let mut sizes = [-T::NEG_INFINITY; LANES];
    for (size, (x, y)) in sizes.iter_mut().zip(x_rest.iter().zip(y_rest)) {
        *size = Real::abs(f(*x, *y));
    }
    for (sum, size) in sums.iter_mut().zip(sizes) {
        *sum += Real::ln_1p(Real::exp(-size));
    }
    fold(sums)
}

vectorised! {
    fn sigmoids<T: Real>(x: &[T], y: &mut [T]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = Real::sigmoid(*x);
        }
    }

    fn sigmoid_slopes<T: Real>(x: &[T], g: &[T], d: &mut [T]) {
        for ((d, x), g) in d.iter_mut().zip(x).zip(g) {
            // σ(x) σ(-x) keeps its precision where 1 - σ(x) would be 0.
            *d = *g * Real::sigmoid(*x) * Real::sigmoid(-*x);
        }
    }

    fn softpluses<T: Real>(x: &[T], y: &mut [T]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = Real::softplus(*x);
        }
    }

    fn softplus_slopes<T: Real>(x: &[T], g: &[T], d: &mut [T]) {
        for ((d, x), g) in d.iter_mut().zip(x).zip(g) {
            *d = *g * Real::sigmoid(*x);
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::check::{finite_differences, irregular, twins};

    #[test]
    fn fused_equals_reference_in_value_and_gradient() -> Result<()> {
        for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-5)] {
            let x = (irregular(&[3, 70], 1, dtype)? * 4.)?;
            twins(
                std::slice::from_ref(&x),
                tolerance,
                |x| sigmoid(&x[0]),
                |x| sigmoid_reference(&x[0]),
            )?;
            twins(&[x], tolerance, |x| softplus(&x[0]), |x| softplus_reference(&x[0]))?;
        }
        let x = [irregular(&[5], 2, DType::F64)?];
        finite_differences(&x, |x| sigmoid(&x[0]))?;
        finite_differences(&x, |x| softplus(&x[0]))
    }

    #[test]
    fn sums_of_any_length_are_those_of_each_number() {
        for n in [0usize, 1, 15, 16, 17, 128, 200, 300] {
            let x: Vec<f64> = (0..n).map(|i| 7. * (0.9 * i as f64).sin()).collect();
            let y: Vec<f64> = (0..n).map(|i| (0.4 * i as f64).cos()).collect();
            let exact: f64 = x.iter().zip(&y).map(|(x, y)| (-(x - y).abs()).exp().ln_1p()).sum();
            let got = sum_ln_1p_exp(&x, &y, |x, y| x - y);
            assert!((got - exact).abs() <= 1e-13 * exact, "{n}: {got} {exact}");
        }
    }

    #[test]
    fn nothing_overflows() -> Result<()> {
        let x = Var::new(&[-1e4f32, -100., 100., 1e4], &Device::Cpu)?;
        assert_eq!(softplus(&x)?.to_vec1::<f32>()?, [0., 3.8e-44, 100., 1e4]);
        for f in [sigmoid, softplus] {
            let grads = f(&x)?.sum_all()?.backward()?;
            let grad = grads.get(x.as_tensor()).unwrap().to_vec1::<f32>()?;
            assert!(grad.iter().all(|g| g.is_finite()), "{grad:?}");
        }
        Ok(())
    }
}
