//! The figures of a study, as SVG.
use gumbel::lab::Estimate;
use gumbel_report::{Axes, Line, Panel};

use crate::bounds::{Fixed, Group};
use crate::errors::{Point, optimum};
use crate::study::{ARITIES, Arity, Family};
use crate::view::View;

/// A figure: the end of its file's name, what it shows, and its panels.
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) caption: &'static str,
    pub(crate) panels: Vec<Panel>,
    pub(crate) axes: Axes,
}

/// Numbers of images that noise is given for.
pub(crate) const BATCHES: [f64; 4] = [1., 10., 100., 1000.];

/// A figure from its name, caption, labels of the axes and which of them are logarithmic.
fn figure(
    name: &'static str,
    caption: &'static str,
    (x, y): (&str, &str),
    (log_x, log_y): (bool, bool),
    panels: Vec<Panel>,
) -> Figure {
    let axes = Axes { x: x.to_owned(), y: y.to_owned(), log_x, log_y };
    Figure { name, caption, panels, axes }
}

/// All figures that there is something in.
pub(crate) fn all(view: &View<'_>) -> Vec<Figure> {
    let figures = of_gradients(view).into_iter().chain(of_models(view));
    let drawn = |panel: &Panel| panel.lines.iter().any(|line| line.points.len() > 1);
    figures.filter(|figure| figure.panels.iter().any(drawn)).collect()
}

fn of_gradients(view: &View<'_>) -> Vec<Figure> {
    let errors = |y: fn(&Point) -> f64| each_arity(|arity| errors(view, arity, y));
    vec![
        figure(
            "error",
            "Mean squared error of the gradient in the encoder over `‖g‖²`, of a batch of 100 images, after a tenth of the \
             training, by temperature.",
            ("temperature", "MSE / ‖g‖²"),
            (true, true),
            errors(|point| point.relative_error(100.)),
        ),
        figure(
            "bias",
            "Relative bias of the same, `‖E ĝ - g‖ / ‖g‖`; points where noise leaves nothing of it are missing.",
            ("temperature", "bias / ‖g‖"),
            (true, true),
            errors(|point| point.relative_bias().value),
        ),
        figure(
            "variance",
            "Relative variance of the same for the noise of one image, `tr Cov ĝ / ‖g‖²`.",
            ("temperature", "variance / ‖g‖²"),
            (true, true),
            errors(|p| p.variance.value * p.batch / p.exact_norm.powi(2)),
        ),
        figure(
            "cosine",
            "Cosine between the mean of the estimates and the exact gradient, of the same.",
            ("temperature", "cosine"),
            (true, false),
            errors(|point| point.cosine_of_mean),
        ),
        figure(
            "optimum",
            "Temperature of least error of ST-GS by number of categories, a line for each batch size; and 1/(n - 1), the temperature \
             of Maddison et al. below which a relaxed variable has no mode inside the simplex. Points at an end of the grid are left \
             out.",
            ("categories n", "temperature"),
            (true, true),
            optima(view, Family::StraightThroughGumbelSoftmax),
        ),
        figure(
            "optimum-relaxed",
            "The same of Gumbel-Softmax.",
            ("categories n", "temperature"),
            (true, true),
            optima(view, Family::GumbelSoftmax),
        ),
    ]
}

fn of_models(view: &View<'_>) -> Vec<Figure> {
    let relaxed = [Family::GumbelSoftmax, Family::Concrete];
    vec![
        figure(
            "bound",
            "Exact ELBO of the trained discrete model on test images by the temperature that it was trained at; mean over seeds, ± 2 \
             standard errors.",
            ("temperature", "ELBO, nats"),
            (true, false),
            each_arity(|arity| trained(view, arity, &Family::TRAINED, |n| n.test_elbo)),
        ),
        figure(
            "gap",
            "Integrality gap: what was trained less the exact ELBO of the discrete model, on test images.",
            ("temperature", "objective - ELBO, nats"),
            (true, false),
            each_arity(|arity| trained(view, arity, &relaxed, |n| n.test_objective - n.test_elbo)),
        ),
        figure(
            "schedules",
            "Schedules side by side: ELBO on test images less that of the best fixed temperature of the same estimator (chosen on \
             validation images), by number of categories.",
            ("categories n", "nats"),
            (true, false),
            race(view),
        ),
    ]
}

fn each_arity(lines: impl Fn(Arity) -> Vec<Line>) -> Vec<Panel> {
    let panel = |arity: Arity| Panel { title: arity.to_string(), lines: lines(arity) };
    ARITIES.into_iter().map(panel).filter(|panel| !panel.lines.is_empty()).collect()
}

fn line(name: &str, points: Vec<(f64, f64)>) -> Line {
    Line { name: name.to_owned(), points, band: vec![] }
}

fn errors(view: &View<'_>, arity: Arity, y: fn(&Point) -> f64) -> Vec<Line> {
    let of_family = |family: Family| {
        let points = view.points((arity, view.tenth()), family);
        line(family.name(), points.iter().map(|point| (point.temperature, y(point))).collect())
    };
    Family::MEASURED.into_iter().map(of_family).filter(|line| !line.points.is_empty()).collect()
}

fn optima(view: &View<'_>, family: Family) -> Vec<Panel> {
    let panel = |step: u64| {
        let of_batch = |examples: f64| {
            let of_arity = |arity: Arity| {
                let found = optimum(&view.points((arity, step), family), examples)?;
                let inside = found.end.is_none();
                inside.then_some((arity.categories as f64, found.temperature.value))
            };
            line(&format!("batch {examples}"), ARITIES.into_iter().filter_map(of_arity).collect())
        };
        let mut lines: Vec<Line> =
            BATCHES.into_iter().map(of_batch).filter(|line| !line.points.is_empty()).collect();
        if !lines.is_empty() {
            let rule = ARITIES.map(|a| (a.categories as f64, 1. / (a.categories as f64 - 1.)));
            lines.push(line("1/(n - 1)", rule.to_vec()));
        }
        Panel { title: format!("after {step} steps"), lines }
    };
    view.checkpoints.into_iter().map(panel).filter(|panel| !panel.lines.is_empty()).collect()
}

fn trained(
    view: &View<'_>,
    arity: Arity,
    families: &[Family],
    y: impl Fn(&crate::bounds::Numbers) -> f64,
) -> Vec<Line> {
    let groups = view.groups(arity);
    let of_family = |family: &Family| {
        let fixed = Fixed::of(&groups, *family)?;
        let placed = |group: &&Group| -> Option<(f64, Estimate)> {
            Some((group.temperature()?, group.mean(&y)))
        };
        let placed: Vec<_> = fixed.groups.iter().filter_map(placed).collect();
        let points = placed.iter().map(|(temperature, y)| (*temperature, y.value)).collect();
        // One seed has no error.
        let known = placed.iter().all(|(_, y)| y.error.is_finite());
        let band = placed.iter().filter(|_| known).map(|(_, y)| 2. * y.error).collect();
        Some(Line { band, ..line(family.name(), points) })
    };
    families.iter().filter_map(of_family).collect()
}

fn race(view: &View<'_>) -> Vec<Panel> {
    let groups = ARITIES.map(|arity| (arity, view.groups(arity)));
    let moving = |group: &&Group, family: Family| {
        // Two temperatures that stay as they are have their rows in the table.
        let moves = group.temperature().is_none() && !group.rule.contains("backward");
        group.estimator == family.name() && moves
    };
    let panel = |family: Family| {
        let all = groups.iter().flat_map(|(_, groups)| groups);
        let mut rules: Vec<&str> =
            all.filter(|group| moving(group, family)).map(|group| group.rule.as_str()).collect();
        rules.sort_unstable();
        rules.dedup();
        let of_rule = |rule: &str| {
            let above = |(arity, groups): &(Arity, Vec<Group>)| {
                let best = Fixed::of(groups, family)?.best();
                let own = groups.iter().find(|g| moving(g, family) && g.rule == rule)?;
                Some((arity.categories as f64, own.above(best).value))
            };
            line(rule, groups.iter().filter_map(above).collect())
        };
        let lines = rules.into_iter().map(of_rule).filter(|line| !line.points.is_empty());
        Panel { title: family.name().to_owned(), lines: lines.collect() }
    };
    Family::TRAINED.into_iter().map(panel).filter(|panel| !panel.lines.is_empty()).collect()
}
