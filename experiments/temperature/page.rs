//! The page of a study: tables, figures, and sentences that carry their numbers.
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use gumbel_datasets::Dataset;
use gumbel_experiments::say;
use gumbel_report::svg;

use crate::analysis::{
    Estimate, Group, Point, at, averaged_for, best, best_temperature, exponent, fixed, groups,
    optimum, points, window,
};
use crate::figures::{self, BATCHES};
use crate::record::Table;
use crate::study::{ARITIES, Budget, Family};
use crate::train::Setting;
use crate::work::Store;

/// What a page is made of.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) gradients: &'a Table,
    pub(crate) training: &'a Table,
    pub(crate) identity: &'a str,
    pub(crate) checkpoints: [u64; 4],
}

/// Writes `temperature.md` and its figures.
pub(crate) fn write(
    folder: &Path,
    store: &Store,
    budget: Budget,
    setting: Setting<'_>,
    environment: &str,
) -> Result<()> {
    let view = View {
        gradients: &store.gradients,
        training: &store.training,
        identity: store.identity(),
        checkpoints: setting.sizes.checkpoints(),
    };
    let mut text = head(budget, setting, environment);
    text.push_str(&gradients(&view));
    text.push_str(&laws(&view));
    text.push_str(&training(&view));
    text.push_str(&least_error(&view));
    text.push_str(&schedules(&view));
    text.push_str("\n## Figures\n");
    for figure in figures::all(&view) {
        let name = format!("temperature-{}.svg", figure.name);
        save(&folder.join(&name), &svg(&figure.panels, &figure.axes)?)?;
        let _ = write!(text, "\n![{}]({name})\n\n{}\n", figure.name, figure.caption);
    }
    let page = folder.join("temperature.md");
    save(&page, &text)?;
    say(&format!("the result is in {}", page.display()));
    Ok(())
}

fn save(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

fn head(budget: Budget, setting: Setting<'_>, environment: &str) -> String {
    let sizes = setting.sizes;
    let images = setting.data.train.images();
    let synthetic = if setting.data.is_synthetic() {
        " SYNTHETIC images: these numbers compare with nothing published."
    } else {
        ""
    };
    format!(
        "# The temperature: what it does to gradients and to trained models\n\n\
         Made by `just run-temperature --budget {budget}` ({environment}): {}, fixed binarisation, {} training images.{synthetic} \
         Categorical VAEs with 4,096 joint values of the latents (n×N: N variables of n categories), {} rectified units in \
         encoder and decoder, uniform prior, one sample, closed-form divergence (Concrete: densities), batch {}, Adam, learning \
         rate along a cosine from {} to a hundredth of it over {} steps. Gradients: {} estimates at each point, against the exact one \
         (all joint values summed), on one batch of {} training images and a model that the exact gradient has trained (seed 1); \
         what noise adds to a squared bias is taken off. Bounds: exact, all joint values summed, on all test images; temperatures \
         are chosen on validation images. ± is one standard error, over seeds where models are trained. Data: \
         [gradients](temperature-gradients.csv), [training](temperature-training.csv).\n",
        images.title(),
        setting.data.train.len(),
        sizes.hidden,
        sizes.batch,
        sizes.learning_rate,
        sizes.steps,
        sizes.replicates,
        sizes.batch,
    )
}

fn gradients(view: &View<'_>) -> String {
    let mut text = "\n## Where the gradient's error is least\n\n\
                    The temperature of least `‖bias‖² + variance / B` in the encoder, for batches of B images. `<` and `>`: at the end \
                    of the grid, so it may be beyond.\n"
        .to_owned();
    for family in Family::MEASURED {
        let mut rows = String::new();
        for arity in ARITIES {
            for step in view.checkpoints {
                let points =
                    points(view.gradients, view.identity, (arity, step), family, "encoder");
                if points.is_empty() {
                    continue;
                }
                let _ = write!(rows, "| {arity} | {step} |");
                for examples in BATCHES {
                    rows.push_str(&optimal(&points, examples));
                }
                rows.push('\n');
            }
        }
        if !rows.is_empty() {
            let heads: String = BATCHES.iter().map(|b| format!(" B = {b} |")).collect();
            let _ = write!(
                text,
                "\n### {}\n\n| n×N | step |{heads}\n|---|--:|{}\n{rows}",
                family.name(),
                "--:|".repeat(BATCHES.len())
            );
        }
    }
    text
}

/// A cell: the optimal temperature with its error, and the relative error there.
fn optimal(points: &[Point], examples: f64) -> String {
    let Some(found) = optimum(points, examples) else { return " |".to_owned() };
    let Estimate { value, error } = found.temperature;
    let least = points.iter().map(|p| p.relative_error(examples)).fold(f64::INFINITY, f64::min);
    let at = match (found.at_the_end, points.first()) {
        (true, Some(first)) if first.temperature >= value => format!("< {value}"),
        (true, _) => format!("> {value}"),
        (false, _) => format!("{value:.2} ± {error:.2}"),
    };
    format!(" {at} ({}) |", digits(least))
}

/// The laws of bias and variance at low temperatures.
fn laws(view: &View<'_>) -> String {
    let mut rows = String::new();
    let [_, _, step, _] = view.checkpoints;
    for family in Family::MEASURED {
        for arity in ARITIES {
            let points = points(view.gradients, view.identity, (arity, step), family, "encoder");
            let cold = |most: f64| points.iter().filter(move |p| p.temperature <= most);
            if cold(0.2).count() < 3 {
                continue;
            }
            let variance = exponent(cold(0.2).map(|p| (p.temperature, p.variance.value)));
            let seen = |p: &&Point| p.bias.value > 2. * p.bias.error;
            let bias: Vec<_> =
                cold(0.4).filter(seen).map(|p| (p.temperature, p.bias.value)).collect();
            let bias = match bias.len() {
                0..=2 => "not seen".to_owned(),
                _ => format!("{:.2}", exponent(bias.into_iter())),
            };
            let least = points.iter().min_by(|a, b| a.bias.value.total_cmp(&b.bias.value));
            let least = least.map_or(String::new(), |p| {
                let g = p.exact_norm;
                let (bias, error) = (digits(p.bias.value / g), digits(p.bias.error / g));
                format!("{bias} ± {error} at {}", p.temperature)
            });
            let _ = writeln!(
                rows,
                "| {} | {arity} | {variance:.2} | {bias} | {least} |",
                family.name()
            );
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "\n## Laws at low temperatures\n\n\
         Exponents of power laws in the temperature, in the encoder after {step} steps: the variance's up to 0.2 (expected of \
         Gumbel-Softmax and ST-GS: -1; of Gumbel-Rao, whose variance is bounded, towards 0), the bias's up to 0.4 where it is seen.\n\n\
         | estimator | n×N | exponent of the variance | exponent of the bias | least relative bias |\n|---|---|--:|--:|--:|\n{rows}"
    )
}

fn training(view: &View<'_>) -> String {
    let mut rows = String::new();
    for family in Family::TRAINED {
        for arity in ARITIES {
            let groups = groups(view.training, view.identity, arity);
            let fixed = fixed(&groups, family);
            let (Some(best), Some((low, high))) = (best(&fixed), window(&fixed, 0.5)) else {
                continue;
            };
            let _ = writeln!(
                rows,
                "| {} | {arity} | {} | {} | {} | {low:.2} to {high:.2} (×{:.1}) | {} | {:.2} |",
                family.name(),
                best.rule,
                pm(best.test_elbo),
                pm(best.test_log_likelihood),
                high / low,
                pm(best.gap),
                best.milliseconds,
            );
        }
    }
    let mut others = String::new();
    for arity in ARITIES {
        let plain = |group: &&Group| group.rule.is_empty();
        for group in groups(view.training, view.identity, arity).iter().filter(plain) {
            let _ = writeln!(
                others,
                "| {} | {arity} | {} | {} | {} | {:.2} |",
                group.estimator,
                pm(group.test_elbo),
                pm(group.test_log_likelihood),
                group.seeds,
                group.milliseconds
            );
        }
    }
    let mut text = String::new();
    if !rows.is_empty() {
        let _ = write!(
            text,
            "\n## The best fixed temperature\n\n\
             Test numbers in nats per image. Window: the temperatures whose ELBO on validation images is within 0.5 nats of the best. \
             Integrality gap: the objective less the ELBO.\n\n\
             | estimator | n×N | best τ | ELBO | log-likelihood | window | integrality gap | ms per step |\n\
             |---|---|--:|--:|--:|--:|--:|--:|\n{rows}"
        );
    }
    if !others.is_empty() {
        let _ = write!(
            text,
            "\n## Without a temperature\n\n\
             | learner | n×N | ELBO | log-likelihood | seeds | ms per step |\n|---|---|--:|--:|--:|--:|\n{others}"
        );
    }
    text
}

/// Numbers of gradients that an optimizer may be taken to average.
const AVERAGED: [f64; 4] = [1., 10., 100., 1000.];

/// What the temperature of the least gradient error costs in the bound.
fn least_error(view: &View<'_>) -> String {
    let [_, _, step, _] = view.checkpoints;
    let mut rows = String::new();
    for family in Family::TRAINED {
        for arity in ARITIES {
            let points = points(view.gradients, view.identity, (arity, step), family, "encoder");
            let groups = groups(view.training, view.identity, arity);
            let fixed = fixed(&groups, family);
            let (Some(best), Some((value, at_the_end))) = (best(&fixed), best_temperature(&fixed))
            else {
                continue;
            };
            let Some(batch) = points.first().map(|point| point.batch) else { continue };
            let end = if at_the_end { " (end of the grid)" } else { "" };
            let times = averaged_for(&points, value);
            let times = times.map_or("none".to_owned(), |times| format!("{times:.0}"));
            let _ = write!(rows, "| {} | {arity} | {value:.2}{end} | {times} |", family.name());
            for averaged in AVERAGED {
                let cell = optimum(&points, averaged * batch).and_then(|found| {
                    let found = found.temperature.value;
                    Some(format!("{:.2} at {found:.2}", best.valid_elbo.value - at(&fixed, found)?))
                });
                let _ = write!(rows, " {} |", cell.unwrap_or_default());
            }
            rows.push('\n');
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let heads: String = AVERAGED.iter().map(|m| format!(" m = {m} |")).collect();
    format!(
        "\n## Does the temperature of least gradient error train the best model?\n\n\
         The error of a single gradient is least at a high temperature, that of the mean of m gradients at a lower one. Matching m: \
         where it is least at the temperature that trains the best model. Then, for m, what the temperature of least error (in the \
         encoder, after a tenth of the training) loses in ELBO on validation images against the best fixed one, in nats.\n\n\
         | estimator | n×N | best τ | matching m |{heads}\n|---|---|--:|--:|{}\n{rows}",
        "--:|".repeat(AVERAGED.len())
    )
}

fn schedules(view: &View<'_>) -> String {
    let mut rows = String::new();
    for family in Family::TRAINED {
        for arity in ARITIES {
            let groups = groups(view.training, view.identity, arity);
            let Some(best) = best(&fixed(&groups, family)).cloned() else { continue };
            let moving = groups
                .iter()
                .filter(|group| group.estimator == family.name() && group.temperature().is_none());
            for group in moving {
                let difference = Estimate {
                    value: group.test_elbo.value - best.test_elbo.value,
                    error: group.test_elbo.error.hypot(best.test_elbo.error),
                };
                let _ = writeln!(
                    rows,
                    "| {} | {arity} | {} | {} | {} | {} | {} |",
                    family.name(),
                    group.rule,
                    pm(group.test_elbo),
                    signed(difference),
                    pm(group.last_temperature),
                    group.seeds
                );
            }
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "\n## Schedules side by side\n\n\
         ELBO on test images, and what it is above that of the best fixed temperature, which was chosen on validation images.\n\n\
         | estimator | n×N | temperature | ELBO | above the best fixed | at the end | seeds |\n|---|---|---|--:|--:|--:|--:|\n{rows}"
    )
}

fn pm(x: Estimate) -> String {
    match (x.value.is_finite(), x.error.is_finite()) {
        (false, _) => String::new(),
        (true, false) => format!("{:.2}", x.value),
        (true, true) => format!("{:.2} ± {:.2}", x.value, x.error),
    }
}

fn signed(x: Estimate) -> String {
    let sign = if x.value >= 0. { "+" } else { "" };
    format!("{sign}{}", pm(x))
}

/// Two significant digits.
fn digits(x: f64) -> String {
    match x.abs() {
        size if size >= 10. => format!("{x:.0}"),
        size if size >= 1. => format!("{x:.1}"),
        size if size >= 0.1 => format!("{x:.2}"),
        size if size >= 0.01 => format!("{x:.3}"),
        0. => "0".to_owned(),
        _ => format!("{x:.0e}"),
    }
}
