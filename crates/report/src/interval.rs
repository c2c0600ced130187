//! Means over seeds, and how far they can be trusted.

/// A mean with its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Interval {
    /// How many numbers.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Standard error of the mean; none of one number.
    pub standard_error: Option<f64>,
    /// Half the width of the 95 % confidence interval of the mean, by Student's t; none of one number.
    pub half_width: Option<f64>,
}

/// The mean of some numbers with its 95 % confidence interval; none of no numbers.
#[must_use]
pub fn mean_and_interval(numbers: &[f64]) -> Option<Interval> {
    let count = numbers.len();
    if count == 0 {
        return None;
    }
    let mean = numbers.iter().sum::<f64>() / count as f64;
    let squares: f64 = numbers.iter().map(|x| (x - mean) * (x - mean)).sum();
    let standard_error = (count > 1).then(|| (squares / (count - 1) as f64 / count as f64).sqrt());
    let half_width = standard_error.map(|error| error * t_95(count - 1));
    Some(Interval { count, mean, standard_error, half_width })
}

/// The two-sided 95 % quantile of Student's t, exact to three digits for up to 12 degrees of freedom; beyond them by the
/// expansion of Fisher and Cornish, which is as exact there.
fn t_95(freedom: usize) -> f64 {
    const FEW: [f64; 12] =
        [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179];
    if let Some(t) = freedom.checked_sub(1).and_then(|i| FEW.get(i)) {
        return *t;
    }
    let (z, n) = (1.959_964_f64, freedom as f64);
    let (z3, z5) = (z.powi(3), z.powi(5));
    z + (z3 + z) / (4. * n) + (5. * z5 + 16. * z3 + 3. * z) / (96. * n * n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_tables() {
        for (freedom, t) in
            [(1, 12.706), (4, 2.776), (12, 2.179), (13, 2.160), (30, 2.042), (120, 1.980)]
        {
            assert!((t_95(freedom) - t).abs() < 1e-3, "{freedom}: {}", t_95(freedom));
        }
    }

    #[test]
    fn one_number_has_a_mean_and_no_interval() {
        assert_eq!(mean_and_interval(&[]), None);
        let one = mean_and_interval(&[3.]).unwrap();
        assert_eq!((one.mean, one.half_width), (3., None));
        let three = mean_and_interval(&[1., 2., 3.]).unwrap();
        assert_eq!((three.count, three.mean), (3, 2.));
        assert!((three.standard_error.unwrap() - (1f64 / 3.).sqrt()).abs() < 1e-12);
        assert!((three.half_width.unwrap() - 4.303 * (1f64 / 3.).sqrt()).abs() < 1e-9);
    }
}
