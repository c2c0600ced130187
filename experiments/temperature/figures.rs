//! The figures of a study, as SVG.
use gumbel_report::{Axes, Line, Panel};

use crate::analysis::{Group, Point, best, fixed, groups, optimum, points};
use crate::page::View;
use crate::study::{ARITIES, Arity, Family};

/// A figure: the end of its file's name, what it shows, and its panels.
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) caption: &'static str,
    pub(crate) panels: Vec<Panel>,
    pub(crate) axes: Axes,
}

/// Batch sizes at which errors are given: the variance of one image is divided by them.
pub(crate) const BATCHES: [f64; 4] = [1., 10., 100., 1000.];

fn axes(x: &str, y: &str, (log_x, log_y): (bool, bool)) -> Axes {
    Axes { x: x.to_owned(), y: y.to_owned(), log_x, log_y }
}

/// All figures that there is something in.
pub(crate) fn all(view: &View<'_>) -> Vec<Figure> {
    let [_, _, tenth, _] = view.checkpoints;
    let mut figures = vec![
        Figure {
            name: "error",
            caption: "Mean squared error of the gradient in the encoder over `‖g‖²`, of a batch of 100 images, after a tenth of \
                      the training, by temperature.",
            panels: each_arity(|arity| errors(view, (arity, tenth), |p| p.relative_error(100.))),
            axes: axes("temperature", "MSE / ‖g‖²", (true, true)),
        },
        Figure {
            name: "bias",
            caption: "Relative bias of the same, `‖E ĝ - g‖ / ‖g‖`.",
            panels: each_arity(|arity| {
                errors(view, (arity, tenth), |p| p.bias.value / p.exact_norm)
            }),
            axes: axes("temperature", "bias / ‖g‖", (true, true)),
        },
        Figure {
            name: "variance",
            caption: "Relative variance of the same for a batch of one image, `tr Cov ĝ / ‖g‖²`.",
            panels: each_arity(|arity| {
                errors(view, (arity, tenth), |p| p.variance.value * p.batch / p.exact_norm.powi(2))
            }),
            axes: axes("temperature", "variance / ‖g‖²", (true, true)),
        },
        Figure {
            name: "cosine",
            caption: "Cosine between the mean of the estimates and the exact gradient, of the same.",
            panels: each_arity(|arity| errors(view, (arity, tenth), |p| p.cosine_of_mean)),
            axes: axes("temperature", "cosine", (true, false)),
        },
        Figure {
            name: "optimum",
            caption: "Temperature of least error of ST-GS by number of categories, a line for each batch size; and 1/(n - 1), the \
                      temperature of Maddison et al. below which a relaxed variable has no mode inside the simplex.",
            panels: optima(view, Family::StraightThroughGumbelSoftmax),
            axes: axes("categories n", "temperature", (true, true)),
        },
        Figure {
            name: "optimum-relaxed",
            caption: "The same of Gumbel-Softmax.",
            panels: optima(view, Family::GumbelSoftmax),
            axes: axes("categories n", "temperature", (true, true)),
        },
        Figure {
            name: "bound",
            caption: "Exact ELBO of the trained discrete model on test images by the temperature that it was trained at; mean over \
                      seeds, ± 2 standard errors.",
            panels: each_arity(|arity| trained(view, arity, &Family::TRAINED, |g| g.test_elbo)),
            axes: axes("temperature", "ELBO, nats", (true, false)),
        },
        Figure {
            name: "gap",
            caption: "Integrality gap: what was trained less the exact ELBO of the discrete model, on test images.",
            panels: each_arity(|arity| {
                trained(view, arity, &[Family::GumbelSoftmax, Family::Concrete], |g| g.gap)
            }),
            axes: axes("temperature", "objective - ELBO, nats", (true, false)),
        },
        Figure {
            name: "schedules",
            caption: "Schedules side by side: ELBO on test images less that of the best fixed temperature of the same estimator \
                      (chosen on validation images), by number of categories.",
            panels: race(view),
            axes: axes("categories n", "nats", (true, false)),
        },
    ];
    figures
        .retain(|figure| figure.panels.iter().any(|p| p.lines.iter().any(|l| l.points.len() > 1)));
    figures
}

fn each_arity(lines: impl Fn(Arity) -> Vec<Line>) -> Vec<Panel> {
    let panel = |arity: Arity| Panel { title: arity.to_string(), lines: lines(arity) };
    ARITIES.into_iter().map(panel).filter(|panel| !panel.lines.is_empty()).collect()
}

fn errors(view: &View<'_>, at: (Arity, u64), y: impl Fn(&Point) -> f64) -> Vec<Line> {
    let line = |family: Family| Line {
        name: family.name().to_owned(),
        points: points(view.gradients, view.identity, at, family, "encoder")
            .iter()
            .map(|point| (point.temperature, y(point)))
            .collect(),
        band: vec![],
    };
    Family::MEASURED.into_iter().map(line).filter(|line| !line.points.is_empty()).collect()
}

fn optima(view: &View<'_>, family: Family) -> Vec<Panel> {
    let panel = |step: u64| {
        let line = |examples: f64| Line {
            name: format!("batch {examples}"),
            points: ARITIES
                .into_iter()
                .filter_map(|arity| {
                    let points =
                        points(view.gradients, view.identity, (arity, step), family, "encoder");
                    let found = optimum(&points, examples)?;
                    Some((arity.categories as f64, found.temperature.value))
                })
                .collect(),
            band: vec![],
        };
        let rule = Line {
            name: "1/(n - 1)".to_owned(),
            points: ARITIES
                .map(|arity| (arity.categories as f64, 1. / (arity.categories as f64 - 1.)))
                .to_vec(),
            band: vec![],
        };
        let lines: Vec<Line> = BATCHES.into_iter().map(line).collect();
        let measured = lines.iter().any(|line| !line.points.is_empty());
        let lines = if measured { lines.into_iter().chain([rule]).collect() } else { vec![] };
        Panel { title: format!("after {step} steps"), lines }
    };
    view.checkpoints.into_iter().map(panel).filter(|panel| !panel.lines.is_empty()).collect()
}

fn trained(
    view: &View<'_>,
    arity: Arity,
    families: &[Family],
    y: impl Fn(&Group) -> crate::analysis::Estimate,
) -> Vec<Line> {
    let groups = groups(view.training, view.identity, arity);
    let line = |family: &Family| {
        let fixed = fixed(&groups, *family);
        let placed = fixed.iter().filter_map(|group| Some((group.temperature()?, y(group))));
        let (points, band) =
            placed.map(|(t, y)| ((t, y.value), 2. * y.error)).unzip::<_, _, Vec<_>, Vec<_>>();
        // One seed has no error.
        let band = if band.iter().all(|half| half.is_finite()) { band } else { vec![] };
        Line { name: family.name().to_owned(), points, band }
    };
    families.iter().map(line).filter(|line| !line.points.is_empty()).collect()
}

fn race(view: &View<'_>) -> Vec<Panel> {
    let by_arity: Vec<_> = ARITIES
        .into_iter()
        .map(|arity| (arity, groups(view.training, view.identity, arity)))
        .collect();
    let panel = |family: Family| {
        let mut rules: Vec<&str> = by_arity
            .iter()
            .flat_map(|(_, groups)| groups)
            .filter(|group| group.estimator == family.name() && group.temperature().is_none())
            .map(|group| group.rule.as_str())
            .collect();
        rules.sort_unstable();
        rules.dedup();
        let line = |rule: &str| Line {
            name: rule.to_owned(),
            points: by_arity
                .iter()
                .filter_map(|(arity, groups)| {
                    let best = best(&fixed(groups, family))?.test_elbo.value;
                    let of_rule =
                        |group: &&Group| group.estimator == family.name() && group.rule == rule;
                    let own = groups.iter().find(of_rule)?.test_elbo.value;
                    Some((arity.categories as f64, own - best))
                })
                .collect(),
            band: vec![],
        };
        Panel {
            title: family.name().to_owned(),
            lines: rules.into_iter().map(line).filter(|line| !line.points.is_empty()).collect(),
        }
    };
    Family::TRAINED.into_iter().map(panel).filter(|panel| !panel.lines.is_empty()).collect()
}
