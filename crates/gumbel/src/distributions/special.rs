//! Special functions of whole numbers, and quadrature on the real line.
pub(crate) use gumbel_kernels::ln_gamma;

/// `ψ(n)`, the derivative of `ln Γ`, for a whole `n ≥ 1`.
pub(crate) fn digamma(n: usize) -> f64 {
    if n <= 256 {
        return -EULER + (1..n).map(|i| 1. / i as f64).sum::<f64>();
    }
    let x = n as f64;
    x.ln() - 0.5 / x - (1. / 12. - (1. / 120. - 1. / (252. * x * x)) / (x * x)) / (x * x)
}

/// The Euler–Mascheroni constant.
pub(crate) const EULER: f64 = 0.577_215_664_901_532_9;

/// Points of the trapezoidal rule with steps of at most `step`, each with its weight.
pub(crate) fn grid(from: f64, to: f64, step: f64) -> impl Iterator<Item = (f64, f64)> {
    let n = ((to - from) / step).ceil().max(1.);
    let h = (to - from) / n;
    (0..=n as u64).map(move |i| (from + i as f64 * h, h))
}

/// `∫_from^to f(x) dx` by the trapezoidal rule with steps of at most `step`, for vector-valued `f`.
///
/// For an integrand that is analytic in a strip of half-width `a` about the real line and negligible at
/// both ends, the error is of order `exp(-2π a / step)`: no other rule converges faster here.
pub(crate) fn integrate<const N: usize>(
    from: f64,
    to: f64,
    step: f64,
    f: impl Fn(f64) -> [f64; N],
) -> [f64; N] {
    let mut total = [0.; N];
    for (x, weight) in grid(from, to, step) {
        for (total, value) in total.iter_mut().zip(f(x)) {
            *total += value * weight;
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_arguments_meet() {
        let (a, b) = (digamma(256) + 1. / 256., digamma(257));
        assert!((a - b).abs() < 1e-14, "{a} {b}");
    }

    #[test]
    fn the_trapezoidal_rule_is_exact_for_a_gaussian() {
        let [area] = integrate(-40., 40., 0.5, |x| [(-x * x / 2.).exp()]);
        assert!((area - std::f64::consts::TAU.sqrt()).abs() < 1e-14);
    }
}
