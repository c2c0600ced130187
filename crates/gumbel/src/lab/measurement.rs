//! What is measured of an estimator.
use std::time::Duration;

/// A number and its standard error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// Its standard error.
    pub error: f64,
}

/// Bias, variance and cost of a gradient estimator, against the exact gradient `g`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Measurement {
    /// Independent estimates that were drawn.
    pub replicates: usize,
    /// The exact gradient `g`.
    pub exact: Vec<f64>,
    /// The mean of the estimates.
    pub mean: Vec<f64>,
    /// Standard errors of the mean, for each coordinate.
    pub mean_error: Vec<f64>,
    /// `‖E ĝ‖`. Its square is estimated without bias, as that of `bias` is.
    pub norm: Estimate,
    /// `‖E ĝ - g‖`. Its square is estimated without bias, so that noise alone adds nothing to it (0 where that
    /// is negative).
    pub bias: Estimate,
    /// `tr Cov ĝ`.
    pub variance: Estimate,
    /// `E ‖ĝ - g‖²`, bias and variance together.
    pub mean_squared_error: Estimate,
    /// `E cos(ĝ, g)`: of a single estimate.
    pub cosine: Estimate,
    /// `cos(E ĝ, g)`: of the mean; what is left of 1 is bias in direction. Noise in the mean is accounted for;
    /// no number where it hides the mean.
    pub cosine_of_mean: Estimate,
    /// Wall time of one estimate, forward and backward, in a large batch: of the fastest of the batches.
    pub seconds: f64,
}

impl Measurement {
    /// `‖g‖`.
    #[must_use]
    pub fn exact_norm(&self) -> f64 {
        norm(&self.exact)
    }

    /// Signal to noise: above 1 a single estimate points the right way. Not finite where there is no noise.
    ///
    /// For an estimate `ĝ` it is:
    ///
    /// ```math
    /// \frac{\lVert \mathbb{E}\, \hat g \rVert^2}{\operatorname{tr} \operatorname{Cov} \hat g}
    /// ```
    #[must_use]
    pub fn signal_to_noise(&self) -> f64 {
        self.norm.value.powi(2) / self.variance.value
    }

    /// The coordinate whose mean is farthest from the exact gradient, and how many standard errors that is.
    ///
    /// An error below the rounding of the gradients counts as that rounding: an exact estimator has none.
    #[must_use]
    pub fn worst(&self) -> (usize, f64) {
        let size = self.exact_norm() + self.mean_squared_error.value.sqrt();
        let rounding = (1e-9 * size).max(f64::MIN_POSITIVE);
        let distances = self.mean.iter().zip(&self.exact).zip(&self.mean_error);
        let scores =
            distances.map(|((mean, exact), error)| (mean - exact).abs() / error.max(rounding));
        let worst = scores.enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
        worst.unwrap_or((0, 0.))
    }

    /// Whether the estimator agrees with the exact gradient.
    ///
    /// With a limit of 4.5, a wrong alarm has a probability of 7e-6 for each coordinate.
    ///
    /// # Errors
    /// If a coordinate is more than `limit` standard errors off: which one, and by how much.
    pub fn check_unbiased(&self, limit: f64) -> Result<(), String> {
        let (coordinate, distance) = self.worst();
        if distance <= limit {
            return Ok(());
        }
        let at = |values: &[f64]| values.get(coordinate).copied().unwrap_or(f64::NAN);
        Err(format!(
            "coordinate {coordinate} of the mean of {} estimates is {}, {distance:.1} standard errors from the \
             exact {}",
            self.replicates,
            at(&self.mean),
            at(&self.exact)
        ))
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

/// Statistics of one part of the replicates.
struct Part {
    mean: Vec<f64>,
    /// Unbiased variances of the coordinates.
    variance: Vec<f64>,
    mean_squared_error: f64,
    cosine: f64,
}

/// Collects the replicates part by part.
pub(crate) struct Accumulator<'a> {
    exact: &'a [f64],
    parts: Vec<Part>,
    replicates: usize,
    seconds: f64,
}

impl<'a> Accumulator<'a> {
    pub(crate) fn new(exact: &'a [f64]) -> Self {
        Self { exact, parts: Vec::new(), replicates: 0, seconds: f64::INFINITY }
    }

    /// One part: gradients of `P` numbers each, one after another.
    pub(crate) fn add(&mut self, gradients: &[f64], elapsed: Duration) {
        let p = self.exact.len().max(1);
        let rows = gradients.len() / p;
        let n = rows as f64;
        let mut mean = vec![0.; p];
        for row in gradients.chunks(p) {
            for (mean, g) in mean.iter_mut().zip(row) {
                *mean += g / n;
            }
        }
        let (mut variance, mut error, mut cosine) = (vec![0.; p], 0., 0.);
        let size = norm(self.exact);
        for row in gradients.chunks(p) {
            for ((variance, g), mean) in variance.iter_mut().zip(row).zip(&mean) {
                *variance += (g - mean).powi(2) / (n - 1.);
            }
            let gap = row.iter().zip(self.exact).map(|(g, exact)| (g - exact).powi(2));
            error += gap.sum::<f64>() / n;
            let length = norm(row) * size;
            // An estimate of 0 points nowhere.
            cosine += if length > 0. { dot(row, self.exact) / length / n } else { 0. };
        }
        self.parts.push(Part { mean, variance, mean_squared_error: error, cosine });
        self.replicates += rows;
        self.seconds = self.seconds.min(elapsed.as_secs_f64() / n);
    }

    pub(crate) fn finish(self) -> Measurement {
        let p = self.exact.len();
        let (parts, n) = (&self.parts, self.replicates as f64);
        let over = |f: &dyn Fn(&Part) -> f64| estimate(&parts.iter().map(f).collect::<Vec<_>>());
        let mean: Vec<f64> = (0..p).map(|i| over(&|part| part.mean[i]).value).collect();
        let mean_error: Vec<f64> =
            (0..p).map(|i| (over(&|part| part.variance[i]).value / n).sqrt()).collect();
        let variance = over(&|part| part.variance.iter().sum());
        let means: Vec<&[f64]> = parts.iter().map(|part| part.mean.as_slice()).collect();
        let gaps: Vec<Vec<f64>> = means
            .iter()
            .map(|mean| mean.iter().zip(self.exact).map(|(a, b)| a - b).collect())
            .collect();
        let gaps: Vec<&[f64]> = gaps.iter().map(Vec::as_slice).collect();
        Measurement {
            replicates: self.replicates,
            exact: self.exact.to_vec(),
            cosine_of_mean: cosine_of_mean(&means, self.exact),
            norm: root(squared_norm(&means)),
            mean,
            mean_error,
            bias: root(squared_norm(&gaps)),
            variance,
            mean_squared_error: over(&|part| part.mean_squared_error),
            cosine: over(&|part| part.cosine),
            seconds: self.seconds,
        }
    }
}

fn sum(vectors: &[&[f64]]) -> Vec<f64> {
    let mut total = vec![0.; vectors.first().map_or(0, |first| first.len())];
    for vector in vectors {
        for (total, x) in total.iter_mut().zip(*vector) {
            *total += x;
        }
    }
    total
}

/// `‖E v‖²` from independent `v_1, .., v_G`: the mean of `v_j · v_k` over pairs, which has no bias and may be
/// negative. Its variance is that of a U-statistic.
fn squared_norm(vectors: &[&[f64]]) -> Estimate {
    let g = vectors.len() as f64;
    let total = sum(vectors);
    let own: f64 = vectors.iter().map(|v| dot(v, v)).sum();
    let value = (dot(&total, &total) - own) / (g * (g - 1.));
    let mean: Vec<f64> = total.iter().map(|x| x / g).collect();
    let centred: Vec<Vec<f64>> =
        vectors.iter().map(|v| v.iter().zip(&mean).map(|(x, m)| x - m).collect()).collect();
    let (mut along, mut pairs) = (0., 0.);
    for (j, a) in centred.iter().enumerate() {
        along += dot(a, &mean).powi(2) / (g - 1.);
        let others = centred.iter().enumerate().filter(|(k, _)| *k != j);
        pairs += others.map(|(_, b)| dot(a, b).powi(2)).sum::<f64>() / (g * (g - 1.));
    }
    let variance = 4. * (along - pairs / g).max(0.) / g + 2. * pairs / (g * (g - 1.));
    Estimate { value, error: variance.sqrt() }
}

/// The root of a square that may have come out negative.
fn root(square: Estimate) -> Estimate {
    let value = square.value.max(0.).sqrt();
    let near_zero = square.error.sqrt();
    let error = if value > 0. { near_zero.min(square.error / (2. * value)) } else { near_zero };
    Estimate { value, error }
}

/// The cosine between the mean of all vectors and `exact`, with its jackknife error.
fn cosine_of_mean(vectors: &[&[f64]], exact: &[f64]) -> Estimate {
    let g = vectors.len() as f64;
    let cosine = |total: &[f64], own: f64, n: f64| {
        let square = (dot(total, total) - own) / (n * (n - 1.));
        if square > 0. { dot(total, exact) / n / square.sqrt() / norm(exact) } else { f64::NAN }
    };
    let total = sum(vectors);
    let own: f64 = vectors.iter().map(|v| dot(v, v)).sum();
    let without: Vec<f64> = vectors
        .iter()
        .map(|v| {
            let rest: Vec<f64> = total.iter().zip(*v).map(|(t, x)| t - x).collect();
            cosine(&rest, own - dot(v, v), g - 1.)
        })
        .collect();
    let mean = without.iter().sum::<f64>() / g;
    let spread: f64 = without.iter().map(|x| (x - mean).powi(2)).sum();
    let value = cosine(&total, own, g).clamp(-1., 1.);
    Estimate { value, error: (spread * (g - 1.) / g).sqrt() }
}

/// Mean and its standard error.
fn estimate(values: &[f64]) -> Estimate {
    let n = values.len() as f64;
    let value = values.iter().sum::<f64>() / n;
    let spread: f64 = values.iter().map(|x| (x - value).powi(2)).sum();
    Estimate { value, error: (spread / (n * (n - 1.))).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Key;
    use crate::distributions::Bernoulli;
    use crate::estimators::{
        Enumerate, Estimator, Reinforce, RunningMoments, StraightThrough, Trace,
    };
    use crate::lab::Problem;
    use crate::objectives::Elbo;
    use candle_core::Tensor;

    fn one_bit(logits: &Tensor, trace: &mut Trace<'_>) -> candle_core::Result<Tensor> {
        let q = Bernoulli::from_logits(&logits.unsqueeze(0)?)?;
        trace.sample("z", &q, &q)?.affine(2., 1.)?.sqr()?.sum(2)
    }

    fn measure(estimator: &dyn Estimator, seed: u64) -> Measurement {
        let elbo = Elbo { beta: 0., ..Elbo::default() };
        Problem::new(&[0.5], one_bit)
            .measure(estimator, &elbo, 1, 20_000, Key::from_seed(seed))
            .unwrap()
    }

    /// f(0) = 1, f(1) = 9; the score is b - p.
    #[test]
    fn the_variance_of_a_score_function_is_the_known_one() {
        let p = 1. / (1. + (-0.5f64).exp());
        let exact = 8. * p * (1. - p);
        let square = p * (9. * (1. - p)).powi(2) + (1. - p) * p * p;
        let reinforce = Reinforce { samples: 1, moments: RunningMoments::none() };
        let m = measure(&reinforce, 1);
        assert!((m.exact[0] - exact).abs() < 1e-12);
        let variance = square - exact * exact;
        assert!((m.variance.value - variance).abs() < 4.5 * m.variance.error, "{:?}", m.variance);
        assert!((m.mean_squared_error.value - variance).abs() < 4.5 * m.mean_squared_error.error);
        assert!(m.bias.value < 4. * m.bias.error && m.cosine_of_mean.value > 0.999);
        assert!(m.check_unbiased(4.5).is_ok());
    }

    /// Straight-through: f'(b) p (1 - p), with f'(0) = 4 and f'(1) = 12.
    #[test]
    fn the_bias_of_straight_through_is_the_known_one() {
        let p = 1. / (1. + (-0.5f64).exp());
        let bias = (4. + 8. * p - 8.) * p * (1. - p);
        let m = measure(&StraightThrough { samples: 1 }, 1);
        assert!((m.bias.value - bias.abs()).abs() < 4.5 * m.bias.error, "{:?} {bias}", m.bias);
        assert!(m.check_unbiased(4.5).is_err());
        let exact = measure(&Enumerate { samples: 1 }, 1);
        assert!(exact.variance.value < 1e-25 && exact.bias.value < 1e-12 && exact.worst().1 < 1.);
    }

    #[test]
    fn distances_of_an_unbiased_estimator_are_those_of_a_normal_number() {
        let reinforce = Reinforce { samples: 1, moments: RunningMoments::none() };
        let squares: Vec<f64> =
            (0..60).map(|seed| measure(&reinforce, 100 + seed).worst().1.powi(2)).collect();
        let mean = squares.iter().sum::<f64>() / 60.;
        // The mean of 60 squares of normal numbers is 1 ± 0.18.
        assert!((mean - 1.).abs() < 0.7, "{mean}");
    }

    /// Of noise around 0 in many dimensions the norm is 0, and the error says how far off it may be.
    #[test]
    fn noise_in_many_dimensions_is_no_bias() {
        let (parts, dimensions) = (50, 128);
        let mut above = 0;
        for seed in 0..200 {
            let key = Key::from_seed(seed);
            let noise: Vec<Vec<f64>> = (0..parts)
                .map(|j| (0..dimensions).map(|i| key.uniform_at(j * 1000 + i) - 0.5).collect())
                .collect();
            let vectors: Vec<&[f64]> = noise.iter().map(Vec::as_slice).collect();
            let square = squared_norm(&vectors);
            above += u32::from(square.value.abs() > 3. * square.error);
            let shifted: Vec<Vec<f64>> =
                noise.iter().map(|v| v.iter().map(|x| x + 0.1).collect()).collect();
            let shifted: Vec<&[f64]> = shifted.iter().map(Vec::as_slice).collect();
            let norm = root(squared_norm(&shifted));
            assert!((norm.value - 0.1 * 128f64.sqrt()).abs() < 4.5 * norm.error, "{norm:?}");
            let cosine = cosine_of_mean(&shifted, &[1.; 128]);
            assert!(
                (cosine.value - 1.).abs() < 4.5 * cosine.error && cosine.error < 0.04,
                "{cosine:?}"
            );
        }
        assert!(above <= 3, "{above} of 200");
    }
}
