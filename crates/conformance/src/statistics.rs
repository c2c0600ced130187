//! Test statistics.

/// `P(√n D > 1.95) ≈ 0.001` for the Kolmogorov–Smirnov distance `D` of a continuous distribution.
pub const KOLMOGOROV_SMIRNOV_CRITICAL: f64 = 1.95;

/// Standard errors beyond which a deviation counts: `P(|z| > 4.5) ≈ 7e-6`.
///
/// Every test draws from a fixed seed, so that a red test is a change of the code and not bad luck; the
/// level only says how likely a *new* seed is to fail.
pub const Z_CRITICAL: f64 = 4.5;

/// `√n sup_x |F_n(x) - F(x)|`: the Kolmogorov–Smirnov statistic of `samples` against `cdf`.
#[must_use]
pub fn kolmogorov_smirnov(mut samples: Vec<f64>, cdf: impl Fn(f64) -> f64) -> f64 {
    samples.sort_unstable_by(f64::total_cmp);
    let n = samples.len() as f64;
    let distance = samples.iter().enumerate().fold(0f64, |distance, (i, x)| {
        let f = cdf(*x);
        distance.max(f - i as f64 / n).max((i + 1) as f64 / n - f)
    });
    distance * n.sqrt()
}

/// `Φ(x)`, the standard normal distribution function, to an absolute error of 1e-15.
///
/// `½ + φ(x) (x + x³/3 + x⁵/(3·5) + …)`. Source: Marsaglia (2004), "Evaluating the normal distribution".
#[must_use]
pub fn normal_cdf(x: f64) -> f64 {
    if x.abs() > 8.5 {
        return if x > 0. { 1. } else { 0. };
    }
    let (mut sum, mut term, mut i) = (x, x, 1.);
    while term.abs() > 1e-17 * sum.abs() {
        i += 2.;
        term *= x * x / i;
        sum += term;
    }
    0.5 + sum * (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt()
}

/// How many standard errors `count` successes in `trials` are from the probability `p`.
#[must_use]
pub fn binomial_z(count: usize, trials: usize, p: f64) -> f64 {
    let n = trials as f64;
    (count as f64 - n * p) / (n * p * (1. - p)).sqrt()
}

/// `√n ρ` for the sample correlation `ρ` of pairs: standard normal where the two are independent.
#[must_use]
pub fn correlation_z(pairs: &[(f64, f64)]) -> f64 {
    let n = pairs.len() as f64;
    let (mean_a, mean_b) = pairs.iter().fold((0., 0.), |(a, b), (x, y)| (a + x / n, b + y / n));
    let (mut covariance, mut variance_a, mut variance_b) = (0., 0., 0.);
    for (x, y) in pairs {
        let (x, y) = (x - mean_a, y - mean_b);
        covariance += x * y;
        variance_a += x * x;
        variance_b += y * y;
    }
    n.sqrt() * covariance / (variance_a * variance_b).sqrt()
}

/// Mean and its standard error.
#[must_use]
pub fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.);
    (mean, (variance / n).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_sees_a_shift() {
        let grid = |shift: f64| (0..10_000).map(|i| (f64::from(i) + 0.5) / 1e4 + shift).collect();
        let fits = kolmogorov_smirnov(grid(0.), |u| u);
        let shifted = kolmogorov_smirnov(grid(0.05), |u| u.min(1.));
        assert!((fits - 0.005).abs() < 1e-9, "{fits}");
        assert!((shifted - 5.005).abs() < 1e-9, "{shifted}");
    }

    /// Quantiles as tabulated.
    #[test]
    fn normal_quantiles() {
        for (x, p) in [
            (1.959_963_984_540_054, 0.975),
            (-3.090_232_306_167_813_5, 1e-3),
            (-4.264_890_793_922_825, 1e-5),
            (-9., 0.),
        ] {
            assert!((normal_cdf(x) - p).abs() < 2e-15, "{x}: {}", normal_cdf(x));
        }
    }

    #[test]
    fn moments_of_a_few_numbers() {
        assert_eq!(mean_and_error(&[1., 2., 3., 6.]), (3., (14f64 / 12.).sqrt()));
        assert_eq!(binomial_z(60, 100, 0.5), 2.);
        let opposite: Vec<(f64, f64)> = (0..100).map(|i| (f64::from(i), -f64::from(i))).collect();
        assert!((correlation_z(&opposite) + 10.).abs() < 1e-12);
    }
}
