//! What the tables say: where errors are least, how wide the window is, what a schedule costs.
use gumbel::Key;

use crate::record::{Row, Table};
use crate::study::{Arity, Family};

/// A number and its standard error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) value: f64,
    pub(crate) error: f64,
}

/// Errors of a gradient at one temperature, of a batch as it was measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) temperature: f64,
    pub(crate) exact_norm: f64,
    pub(crate) bias: Estimate,
    /// Of the mean over the batch.
    pub(crate) variance: Estimate,
    pub(crate) batch: f64,
    pub(crate) cosine_of_mean: f64,
}

impl Point {
    fn of(row: Row<'_>) -> Self {
        let estimate = |name: &str| Estimate {
            value: row.number(name),
            error: row.number(&format!("{name}_error")),
        };
        Self {
            temperature: row.number("temperature"),
            exact_norm: row.number("exact_norm"),
            bias: estimate("bias"),
            variance: estimate("variance"),
            batch: row.number("batch"),
            cosine_of_mean: row.number("cosine_of_mean"),
        }
    }

    /// `bias² + variance` of a batch of `examples` such images, over `‖g‖²`.
    pub(crate) fn relative_error(&self, examples: f64) -> f64 {
        let variance = self.variance.value * self.batch / examples;
        (self.bias.value.powi(2) + variance) / self.exact_norm.powi(2)
    }

    /// The same with other values within their errors.
    fn shaken(&self, examples: f64, key: Key) -> f64 {
        let normal = |at: u64| {
            // Box and Muller.
            let (u, v) = (key.uniform_at(2 * at).max(1e-300), key.uniform_at(2 * at + 1));
            (-2. * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
        };
        let moved = |e: Estimate, at| (e.value + e.error * normal(at)).max(0.);
        let point = Self { bias: Estimate { value: moved(self.bias, 0), ..self.bias }, ..*self };
        let variance = Estimate { value: moved(self.variance, 1), ..self.variance };
        Self { variance, ..point }.relative_error(examples)
    }
}

/// The measurements of one estimator on one model, by temperature.
pub(crate) fn points(
    gradients: &Table,
    identity: &str,
    (arity, step): (Arity, u64),
    family: Family,
    part: &str,
) -> Vec<Point> {
    let wanted = |row: &Row<'_>| {
        row.text("identity") == identity
            && row.text("categories") == arity.categories.to_string()
            && row.text("step") == step.to_string()
            && row.text("estimator") == family.name()
            && row.text("parameters") == part
    };
    let mut points: Vec<Point> = gradients.rows().filter(wanted).map(Point::of).collect();
    points.sort_by(|a, b| a.temperature.total_cmp(&b.temperature));
    points
}

/// Where a curve is lowest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Lowest {
    /// With its error, in factors: `value ·/ (1 + error)`.
    pub(crate) temperature: Estimate,
    /// Whether it is at an end of the grid, and may be beyond.
    pub(crate) at_the_end: bool,
}

/// The temperature of least error at a batch size; between the grid's by a parabola in `ln τ`.
pub(crate) fn optimum(points: &[Point], examples: f64) -> Option<Lowest> {
    let curve = |f: &dyn Fn(&Point) -> f64| -> Vec<(f64, f64)> {
        points.iter().map(|point| (point.temperature.ln(), f(point).ln())).collect()
    };
    let (best, at_the_end) = lowest(&curve(&|point| point.relative_error(examples)))?;
    let shakes = 100;
    let spread: f64 = (0..shakes)
        .filter_map(|shake| {
            let key = Key::from_seed(shake);
            let shaken =
                |point: &Point| point.shaken(examples, key.fold_in(point.temperature.to_bits()));
            Some((lowest(&curve(&shaken))?.0 - best).powi(2))
        })
        .sum();
    let error = best.exp() * (spread / shakes as f64).sqrt();
    Some(Lowest { temperature: Estimate { value: best.exp(), error }, at_the_end })
}

/// The lowest point of a curve and whether it is at an end.
fn lowest(curve: &[(f64, f64)]) -> Option<(f64, bool)> {
    let index = (0..curve.len()).min_by(|a, b| curve[*a].1.total_cmp(&curve[*b].1))?;
    if index == 0 || index + 1 == curve.len() {
        return Some((curve[index].0, true));
    }
    let ((x0, y0), (x1, y1), (x2, y2)) = (curve[index - 1], curve[index], curve[index + 1]);
    let (left, right) = ((y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1));
    let curvature = (right - left) / (x2 - x0);
    // The vertex of the parabola through the three.
    let vertex = if curvature > 0. { (x0 + x1 - left / curvature) / 2. } else { x1 };
    Some((vertex.clamp(x0, x2), false))
}

/// Slope of `ln y` in `ln x`, by least squares: the exponent of a power law.
pub(crate) fn exponent(points: impl Iterator<Item = (f64, f64)>) -> f64 {
    let points: Vec<(f64, f64)> = points.map(|(x, y)| (x.ln(), y.ln())).collect();
    let n = points.len() as f64;
    let mean = |f: fn(&(f64, f64)) -> f64| points.iter().map(f).sum::<f64>() / n;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let along: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    along / points.iter().map(|p| (p.0 - x).powi(2)).sum::<f64>()
}

/// Trained models of one kind, over their seeds.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) estimator: String,
    /// A temperature or a rule.
    pub(crate) rule: String,
    pub(crate) test_elbo: Estimate,
    pub(crate) test_log_likelihood: Estimate,
    pub(crate) valid_elbo: Estimate,
    /// Objective less bound, on the test images.
    pub(crate) gap: Estimate,
    pub(crate) last_temperature: Estimate,
    pub(crate) milliseconds: f64,
    pub(crate) seeds: usize,
}

impl Group {
    pub(crate) fn temperature(&self) -> Option<f64> {
        self.rule.parse().ok()
    }
}

/// Mean over seeds and its standard error; no error of a single one.
fn over_seeds(values: &[f64]) -> Estimate {
    let n = values.len() as f64;
    let value = values.iter().sum::<f64>() / n;
    let spread: f64 = values.iter().map(|x| (x - value).powi(2)).sum();
    Estimate { value, error: (spread / (n * (n - 1.))).sqrt() }
}

/// All groups of an arity.
pub(crate) fn groups(training: &Table, identity: &str, arity: Arity) -> Vec<Group> {
    let of_arity = |row: &Row<'_>| {
        row.text("identity") == identity && row.text("categories") == arity.categories.to_string()
    };
    let rows: Vec<Row<'_>> = training.rows().filter(of_arity).collect();
    let mut names: Vec<(&str, &str)> =
        rows.iter().map(|row| (row.text("estimator"), row.text("temperature"))).collect();
    names.sort_unstable();
    names.dedup();
    let group = |(estimator, rule): (&str, &str)| {
        let same =
            |row: &&Row<'_>| row.text("estimator") == estimator && row.text("temperature") == rule;
        let rows: Vec<&Row<'_>> = rows.iter().filter(same).collect();
        let over = |f: &dyn Fn(&Row<'_>) -> f64| {
            over_seeds(&rows.iter().map(|row| f(row)).collect::<Vec<_>>())
        };
        Group {
            estimator: estimator.to_owned(),
            rule: rule.to_owned(),
            test_elbo: over(&|row| row.number("test_elbo")),
            test_log_likelihood: over(&|row| row.number("test_log_likelihood")),
            valid_elbo: over(&|row| row.number("valid_elbo")),
            gap: over(&|row| row.number("test_objective") - row.number("test_elbo")),
            last_temperature: over(&|row| row.number("temperature_at_the_end")),
            milliseconds: over(&|row| row.number("milliseconds_per_step")).value,
            seeds: rows.len(),
        }
    };
    names.into_iter().map(group).collect()
}

/// The fixed temperatures of an estimator, in order.
pub(crate) fn fixed(groups: &[Group], family: Family) -> Vec<&Group> {
    let mut fixed: Vec<&Group> = groups
        .iter()
        .filter(|group| group.estimator == family.name() && group.temperature().is_some())
        .collect();
    fixed.sort_by(|a, b| a.temperature().unwrap_or(0.).total_cmp(&b.temperature().unwrap_or(0.)));
    fixed
}

/// The fixed temperature with the best bound on validation images.
pub(crate) fn best<'a>(fixed: &[&'a Group]) -> Option<&'a Group> {
    fixed.iter().max_by(|a, b| a.valid_elbo.value.total_cmp(&b.valid_elbo.value)).copied()
}

/// The best temperature, between those of the grid by a parabola in `ln τ`, and whether it is at an end.
pub(crate) fn best_temperature(fixed: &[&Group]) -> Option<(f64, bool)> {
    let curve: Vec<(f64, f64)> = fixed
        .iter()
        .filter_map(|group| Some((group.temperature()?.ln(), -group.valid_elbo.value)))
        .collect();
    lowest(&curve).map(|(log, at_the_end)| (log.exp(), at_the_end))
}

/// How many times its batch a gradient would have to be averaged over for its error to be least at a temperature: the
/// larger the batch, the colder. None where it takes less than one or more than a million times.
pub(crate) fn averaged_for(points: &[Point], temperature: f64) -> Option<f64> {
    let batch = points.first()?.batch;
    let warmer = |times: f64| {
        optimum(points, times * batch).is_some_and(|found| found.temperature.value > temperature)
    };
    let (mut low, mut high) = (0f64, 1e6f64.ln());
    if !warmer(low.exp()) || warmer(high.exp()) {
        return None;
    }
    for _ in 0..30 {
        let middle = (low + high) / 2.;
        if warmer(middle.exp()) { low = middle } else { high = middle }
    }
    Some(low.exp())
}

/// The temperatures between which the bound on validation images is within `nats` of the best; between the grid's by a line
/// in `ln τ`, at its ends no further.
pub(crate) fn window(fixed: &[&Group], nats: f64) -> Option<(f64, f64)> {
    let level = best(fixed)?.valid_elbo.value - nats;
    let curve: Vec<(f64, f64)> = fixed
        .iter()
        .filter_map(|group| Some((group.temperature()?.ln(), group.valid_elbo.value)))
        .collect();
    let top = (0..curve.len()).max_by(|a, b| curve[*a].1.total_cmp(&curve[*b].1))?;
    let crossing = |mut at: usize, step: isize| {
        while let Some(next) = at.checked_add_signed(step).filter(|next| *next < curve.len()) {
            let ((x0, y0), (x1, y1)) = (curve[at], curve[next]);
            if y1 < level {
                return x0 + (x1 - x0) * (y0 - level) / (y0 - y1);
            }
            at = next;
        }
        curve[at].0
    };
    Some((crossing(top, -1).exp(), crossing(top, 1).exp()))
}

/// The bound at a temperature between those of the grid.
pub(crate) fn at(fixed: &[&Group], temperature: f64) -> Option<f64> {
    let curve: Vec<(f64, f64)> = fixed
        .iter()
        .filter_map(|group| Some((group.temperature()?.ln(), group.valid_elbo.value)))
        .collect();
    let x = temperature.ln();
    let (first, last) = (curve.first()?, curve.last()?);
    if x <= first.0 {
        return Some(first.1);
    }
    let pair = curve.windows(2).find(|pair| x <= pair[1].0);
    Some(pair.map_or(last.1, |pair| {
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(temperature: f64) -> Point {
        let exactly = |value| Estimate { value, error: 0. };
        Point {
            temperature,
            exact_norm: 1.,
            // The laws: bias in proportion to τ, variance to its inverse.
            bias: exactly(temperature),
            variance: exactly(0.02 / temperature),
            batch: 100.,
            cosine_of_mean: 0.,
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
            assert!(!found.at_the_end && found.temperature.error == 0.);
        }
        // 0.1 is (c / 2)^(1/3) for ten times the batch.
        let times = averaged_for(&points, 0.1).unwrap();
        assert!((times / 10. - 1.).abs() < 0.3, "{times}");
        assert_eq!((averaged_for(&points, 1.4), averaged_for(&points, 1e-3)), (None, None));
        assert!(optimum(&points[5..], 1000.).unwrap().at_the_end);
        assert_eq!(optimum(&[], 1.), None);
        let slope = exponent(points.iter().map(|p| (p.temperature, p.variance.value)));
        assert!((slope + 1.).abs() < 1e-9);
    }

    #[test]
    fn windows_end_where_the_bound_has_fallen() {
        let group = |temperature: f64, valid: f64| Group {
            estimator: "ST-GS".to_owned(),
            rule: temperature.to_string(),
            test_elbo: over_seeds(&[valid, valid + 1.]),
            test_log_likelihood: over_seeds(&[0.]),
            valid_elbo: over_seeds(&[valid]),
            gap: over_seeds(&[0.]),
            last_temperature: over_seeds(&[0.]),
            milliseconds: 1.,
            seeds: 1,
        };
        let all = [group(2., -104.), group(0.5, -101.), group(1., -100.), group(0.25, -100.8)];
        let fixed = fixed(&all, Family::StraightThroughGumbelSoftmax);
        assert_eq!(best(&fixed).unwrap().rule, "1");
        let (low, high) = window(&fixed, 0.5).unwrap();
        assert!((low - 0.5f64.sqrt()).abs() < 1e-9, "{low}");
        assert!((high - 2f64.powf(0.125)).abs() < 1e-9, "{high}");
        assert_eq!(window(&fixed, 10.), Some((0.25, 2.)));
        assert!((at(&fixed, 2f64.sqrt()).unwrap() + 102.).abs() < 1e-9);
        assert_eq!((at(&fixed, 9.), at(&fixed, 0.1)), (Some(-104.), Some(-100.8)));
        assert!((all[0].test_elbo.error - 0.5).abs() < 1e-9);
    }
}
