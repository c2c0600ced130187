//! Derivatives by finite differences.

/// Step of the differences: truncation (`h⁴ f⁗′ / 30`) and rounding (`ε |f| / h`) are both near 1e-13.
const STEP: f64 = 1e-3;

/// The gradient of `f` at `x`, by central differences of fourth order:
/// `(8 (f(x+h) - f(x-h)) - (f(x+2h) - f(x-2h))) / 12h` in each coordinate.
///
/// For a smooth function with values and derivatives of order one the error is below 1e-11.
///
/// # Errors
/// If `f` fails.
pub fn central_gradient<E>(x: &[f64], f: impl Fn(&[f64]) -> Result<f64, E>) -> Result<Vec<f64>, E> {
    let at = |i: usize, steps: f64| {
        let moved: Vec<f64> =
            x.iter().enumerate().map(|(j, x)| if i == j { x + steps * STEP } else { *x }).collect();
        f(&moved)
    };
    (0..x.len())
        .map(|i| {
            let (near, far) = (at(i, 1.)? - at(i, -1.)?, at(i, 2.)? - at(i, -2.)?);
            Ok((8. * near - far) / (12. * STEP))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_far_below_every_tolerance_in_use() {
        let f = |x: &[f64]| Ok::<_, ()>((x[0] * x[1]).sin() + x[1].exp());
        let (a, b) = (0.7f64, -1.3f64);
        let gradient = central_gradient(&[a, b], f).unwrap();
        let cosine = (a * b).cos();
        for (numeric, exact) in gradient.iter().zip([b * cosine, a * cosine + b.exp()]) {
            assert!((numeric - exact).abs() < 1e-11, "{numeric} {exact}");
        }
        assert_eq!(central_gradient(&[0.], |_| Err::<f64, _>("no value")), Err("no value"));
    }
}
