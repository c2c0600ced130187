//! Errors of gradients by temperature: where they are least, and by which laws they go.
use gumbel::Key;
use gumbel::lab::Estimate;

use crate::record::Row;

/// Errors of a gradient at one temperature.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) temperature: f64,
    pub(crate) exact_norm: f64,
    /// Of the mean of the estimates.
    norm: f64,
    /// Of the mean over the batch that was measured.
    pub(crate) bias: Estimate,
    /// The same.
    pub(crate) variance: Estimate,
    pub(crate) batch: f64,
    pub(crate) cosine_of_mean: f64,
}

impl Point {
    /// None where something is missing.
    pub(crate) fn of(row: Row<'_>) -> Option<Self> {
        let estimate = |name: &str| Estimate {
            value: row.number(name),
            error: row.number(&format!("{name}_error")),
        };
        let point = Self {
            temperature: row.number("temperature"),
            exact_norm: row.number("exact_norm"),
            norm: row.number("norm"),
            bias: estimate("bias"),
            variance: estimate("variance"),
            batch: row.number("batch"),
            cosine_of_mean: row.number("cosine_of_mean"),
        };
        let needed = [point.temperature, point.exact_norm, point.bias.value, point.variance.value];
        needed.into_iter().all(f64::is_finite).then_some(point)
    }

    /// `bias² + variance` over `‖g‖²`, the noise being that of `examples` images.
    pub(crate) fn relative_error(&self, examples: f64) -> f64 {
        let variance = self.variance.value * self.batch / examples;
        (self.bias.value.powi(2) + variance) / self.exact_norm.powi(2)
    }

    /// `1 - cos²` between the exact gradient and the mean of `averaged` estimates: the error over `‖g‖²` that is left where that mean
    /// may be of any length.
    fn direction_error(&self, averaged: f64) -> f64 {
        let squared = self.norm.powi(2);
        1. - self.cosine_of_mean.powi(2) * squared / (squared + self.variance.value / averaged)
    }

    pub(crate) fn relative_bias(&self) -> Estimate {
        let Estimate { value, error } = self.bias;
        Estimate { value: value / self.exact_norm, error: error / self.exact_norm }
    }

    /// Whether the bias is more than noise.
    pub(crate) fn has_bias(&self) -> bool {
        self.bias.value > 2. * self.bias.error
    }

    /// The same point with other values within their errors.
    fn shaken(&self, (first, second): (f64, f64)) -> Self {
        let moved =
            |e: Estimate, by: f64| Estimate { value: (e.value + e.error * by).max(0.), ..e };
        Self { bias: moved(self.bias, first), variance: moved(self.variance, second), ..*self }
    }
}

/// Where a curve is lowest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Lowest {
    pub(crate) temperature: Estimate,
    /// Whether it is at an end of the grid, and may be beyond.
    pub(crate) end: Option<End>,
}

/// An end of a grid of temperatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Cold,
    Hot,
}

impl End {
    /// How a number at this end is marked: the truth is beyond.
    pub(crate) fn mark(end: Option<Self>) -> &'static str {
        match end {
            None => "",
            Some(Self::Cold) => "< ",
            Some(Self::Hot) => "> ",
        }
    }
}

/// The temperature of least error at a batch size; between the grid's by a parabola in `ln τ`.
pub(crate) fn optimum(points: &[Point], examples: f64) -> Option<Lowest> {
    let (best, end) = least(points, examples)?;
    let shakes = 100;
    let spread: f64 = (0..shakes)
        .filter_map(|shake| {
            // All temperatures were measured under the same noise, and move together.
            let by = normal_pair(Key::from_seed(shake));
            let moved: Vec<Point> = points.iter().map(|point| point.shaken(by)).collect();
            Some((least(&moved, examples)?.0 - best).powi(2))
        })
        .sum();
    let error = best.exp() * (spread / shakes as f64).sqrt();
    Some(Lowest { temperature: Estimate { value: best.exp(), error }, end })
}

fn least(points: &[Point], examples: f64) -> Option<(f64, Option<End>)> {
    least_by(points, |point| point.relative_error(examples))
}

/// `ln τ` where an error is least, between the grid's temperatures, and the end that it is at.
fn least_by(points: &[Point], error: impl Fn(&Point) -> f64) -> Option<(f64, Option<End>)> {
    let log = |point: &Point| error(point).max(f64::MIN_POSITIVE).ln();
    let curve: Vec<(f64, f64)> =
        points.iter().map(|point| (point.temperature.ln(), log(point))).collect();
    lowest(&curve)
}

/// The temperature at which the mean of `averaged` gradients, each of a batch as it was measured, has the best direction.
pub(crate) fn best_direction(points: &[Point], averaged: f64) -> Option<(f64, Option<End>)> {
    least_by(points, |point| point.direction_error(averaged)).map(|(log, end)| (log.exp(), end))
}

/// Two independent normal numbers (Box and Muller).
fn normal_pair(key: Key) -> (f64, f64) {
    let (u, v) = (key.uniform_at(0).max(f64::MIN_POSITIVE), key.uniform_at(1));
    let (radius, angle) = ((-2. * u.ln()).sqrt(), std::f64::consts::TAU * v);
    (radius * angle.cos(), radius * angle.sin())
}

/// The lowest place of a curve, and the end that it is at.
pub(crate) fn lowest(curve: &[(f64, f64)]) -> Option<(f64, Option<End>)> {
    let index = (0..curve.len()).min_by(|a, b| curve[*a].1.total_cmp(&curve[*b].1))?;
    if index == 0 {
        return Some((curve[index].0, Some(End::Cold)));
    }
    if index + 1 == curve.len() {
        return Some((curve[index].0, Some(End::Hot)));
    }
    let ((x0, y0), (x1, y1), (x2, y2)) = (curve[index - 1], curve[index], curve[index + 1]);
    let (left, right) = ((y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1));
    let curvature = (right - left) / (x2 - x0);
    // The vertex of the parabola through the three.
    let vertex = if curvature > 0. { (x0 + x1 - left / curvature) / 2. } else { x1 };
    Some((vertex.clamp(x0, x2), None))
}

/// More gradients than this are not averaged in [`averaged_for`]: noise would decide.
pub(crate) const MOST_AVERAGED: f64 = 1000.;

/// Of how many averaged gradients, each of a batch as it was measured, the error is least at a temperature: the more, the
/// colder. Less than one and more than [`MOST_AVERAGED`] are an end.
pub(crate) fn averaged_for(points: &[Point], temperature: f64) -> Option<(f64, Option<End>)> {
    let batch = points.first()?.batch;
    let warmer = |averaged: f64| {
        least(points, averaged * batch).is_some_and(|(log, _)| log > temperature.ln())
    };
    let (mut low, mut high) = (0., MOST_AVERAGED.ln());
    if !warmer(1.) {
        return Some((1., Some(End::Cold)));
    }
    if warmer(MOST_AVERAGED) {
        return Some((MOST_AVERAGED, Some(End::Hot)));
    }
    for _ in 0..30 {
        let middle: f64 = (low + high) / 2.;
        if warmer(middle.exp()) { low = middle } else { high = middle }
    }
    Some((low.exp(), None))
}

/// Slope of `ln y` in `ln x` by least squares, each point weighted by its error: the exponent of a power law.
///
/// Errors at different `x` count as independent. Those that come of common noise go up and down together, which moves a slope
/// less: the error is rather too large.
pub(crate) fn exponent(points: impl Iterator<Item = (f64, Estimate)>) -> Estimate {
    // Without errors all weigh alike.
    let relative = |y: Estimate| (y.error / y.value).max(1e-12);
    let known = points.filter(|(_, y)| y.value.is_finite() && y.error.is_finite());
    let points: Vec<(f64, f64, f64)> =
        known.map(|(x, y)| (x.ln(), y.value.ln(), relative(y).powi(-2))).collect();
    let total: f64 = points.iter().map(|p| p.2).sum();
    let mean =
        |f: fn(&(f64, f64, f64)) -> f64| points.iter().map(|p| f(p) * p.2).sum::<f64>() / total;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let along: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y) * p.2).sum();
    let spread: f64 = points.iter().map(|p| (p.0 - x).powi(2) * p.2).sum();
    Estimate { value: along / spread, error: spread.sqrt().recip() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(temperature: f64) -> Point {
        let exactly = |value| Estimate { value, error: 0. };
        Point {
            temperature,
            exact_norm: 1.,
            norm: 1.,
            // The laws: bias in proportion to τ, variance to its inverse.
            bias: exactly(temperature),
            variance: exactly(0.02 / temperature),
            batch: 100.,
            cosine_of_mean: 1. / (1. + temperature * temperature).sqrt(),
        }
    }

    #[test]
    fn the_optimum_of_the_laws_is_found_between_the_points() {
        let grid = [0.05, 0.07, 0.1, 0.15, 0.22, 0.33, 0.5, 0.7, 1., 1.5];
        let points: Vec<Point> = grid.into_iter().map(point).collect();
        // τ² + c / τ is least at (c / 2)^(1/3), c = 0.02 · 100 / B.
        for examples in [100., 1000.] {
            let expected = f64::cbrt(0.01 * 100. / examples);
            let found = optimum(&points, examples).unwrap();
            assert!((found.temperature.value / expected - 1.).abs() < 0.05, "{found:?}");
            assert!(found.end.is_none() && found.temperature.error == 0.);
        }
        // 0.1 is (c / 2)^(1/3) for ten times the batch.
        let (times, end) = averaged_for(&points, 0.1).unwrap();
        assert!((times / 10. - 1.).abs() < 0.3 && end.is_none(), "{times}");
        assert_eq!(averaged_for(&points, 1.4).unwrap(), (1., Some(End::Cold)));
        assert_eq!(averaged_for(&points, 1e-3).unwrap(), (1000., Some(End::Hot)));
        assert_eq!(optimum(&points[5..], 1000.).unwrap().end, Some(End::Cold));
        assert_eq!(optimum(&points[..5], 1.).unwrap().end, Some(End::Hot));
        assert_eq!(optimum(&[], 1.), None);
        let slope = exponent(points.iter().map(|p| (p.temperature, p.variance)));
        assert!((slope.value + 1.).abs() < 1e-9 && slope.error < 1e-9);
        // A point off the line counts by its error; of two with 10 % each, a factor of e apart, the slope is known to 0.14.
        let mut line: Vec<(f64, Estimate)> =
            points.iter().map(|p| (p.temperature, p.variance)).collect();
        line[4].1 = Estimate { value: 9., error: 1e9 };
        assert!((exponent(line.into_iter()).value + 1.).abs() < 1e-6);
        let ten_percent = |value: f64| Estimate { value, error: 0.1 * value };
        let two = [(1., ten_percent(3.)), (1f64.exp(), ten_percent(5.))];
        assert!((exponent(two.into_iter()).error - 0.1 * 2f64.sqrt()).abs() < 1e-9);
    }

    #[test]
    fn a_direction_has_no_length() {
        let grid = [0.05, 0.07, 0.1, 0.15, 0.22, 0.33, 0.5, 0.7, 1., 1.5];
        let points: Vec<Point> = grid.into_iter().map(point).collect();
        // (1 + τ²) (1 + c / τ) is least where 2 τ³ + c τ² = c.
        let (found, end) = best_direction(&points, 10.).unwrap();
        let c = 0.02 / 10.;
        assert!((found / 0.0997 - 1.).abs() < 0.05 && end.is_none(), "{found}");
        assert!((2. * 0.0997f64.powi(3) + c * 0.0997f64.powi(2) - c).abs() < 1e-5);
        // Ten times as long, ten times the noise: worse by the error, and just as good by the direction.
        let longer = |p: &Point| Point {
            norm: 10.,
            variance: Estimate { value: 100. * p.variance.value, ..p.variance },
            bias: Estimate { value: 9., ..p.bias },
            ..*p
        };
        let change = longer(&points[3]).direction_error(10.) - points[3].direction_error(10.);
        assert!(change.abs() < 1e-12, "{change}");
        assert!(longer(&points[3]).relative_error(1000.) > points[3].relative_error(1000.));
    }

    #[test]
    fn an_uncertain_bias_makes_an_uncertain_optimum() {
        let grid = [0.05, 0.1, 0.2, 0.4, 0.8];
        let mut points: Vec<Point> = grid.into_iter().map(point).collect();
        for point in &mut points {
            point.bias.error = 0.3 * point.bias.value;
        }
        let found = optimum(&points, 100.).unwrap().temperature;
        // τ goes as bias to the power -2/3.
        assert!((0.1..0.4).contains(&(found.error / found.value)), "{found:?}");
        assert!(points[0].has_bias());
    }
}
