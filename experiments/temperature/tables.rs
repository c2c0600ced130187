//! The tables of a study's page, each a section; nothing where there is nothing to say.
use std::fmt::Write as _;

use gumbel::lab::Estimate;

use crate::bounds::{Fixed, Group};
use crate::errors::{End, Point, averaged_for, best_direction, exponent, optimum};
use crate::figures::BATCHES;
use crate::study::{ARITIES, Family};
use crate::view::View;

/// A heading, a text and a table; nothing without rows.
fn section(title: &str, text: &str, heads: &[&str], rows: &str) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let (heads, rule) = (heads.join(" | "), "---|".repeat(heads.len()));
    format!("\n{title}\n\n{text}| {heads} |\n|{rule}\n{rows}")
}

/// Where the error is least.
pub(crate) fn gradients(view: &View<'_>) -> String {
    let mut text = String::new();
    for family in Family::MEASURED {
        let mut rows = String::new();
        for arity in ARITIES {
            for step in view.checkpoints {
                let points = view.points((arity, step), family);
                if points.is_empty() {
                    continue;
                }
                let cells = BATCHES.map(|examples| optimal(&points, examples)).join(" | ");
                let _ = writeln!(rows, "| {arity} | {step} | {cells} |");
            }
        }
        let batches = BATCHES.map(|batch| format!("B = {batch}"));
        let heads: Vec<&str> =
            ["n×N", "step"].into_iter().chain(batches.iter().map(String::as_str)).collect();
        text.push_str(&section(&format!("### {}", family.name()), "", &heads, &rows));
    }
    if text.is_empty() {
        return text;
    }
    format!(
        "\n## Where the gradient's error is least\n\n\
         The temperature of least `‖bias‖² + variance / B`, with the noise of B images and the bias of the measured batch, and in \
         brackets that error over `‖g‖²`. `<` and `>`: at the end of the grid, so it may be beyond. The ± takes errors at \
         all temperatures for one, as they were measured under common noise.\n{text}"
    )
}

/// The optimal temperature with its error, and the relative error there.
fn optimal(points: &[Point], examples: f64) -> String {
    let Some(found) = optimum(points, examples) else { return String::new() };
    let Estimate { value, error } = found.temperature;
    let least = points.iter().map(|p| p.relative_error(examples)).fold(f64::INFINITY, f64::min);
    let at = match found.end {
        None => format!("{value:.2} ± {error:.2}"),
        end => format!("{}{value:.2}", End::mark(end)),
    };
    format!("{at} ({})", digits(least))
}

/// The laws of bias and variance at low temperatures.
pub(crate) fn laws(view: &View<'_>) -> String {
    let mut rows = String::new();
    for family in Family::MEASURED {
        for arity in ARITIES {
            let points = view.points((arity, view.tenth()), family);
            let cold = |most: f64| points.iter().filter(move |p| p.temperature <= most);
            if cold(0.2).count() < 3 {
                continue;
            }
            let shown = |e: Estimate| format!("{:.2} ± {:.2}", e.value, e.error);
            let variance = exponent(cold(0.2).map(|p| (p.temperature, p.variance)));
            let seen = || cold(0.4).filter(|p| p.has_bias()).map(|p| (p.temperature, p.bias));
            let bias = match seen().count() {
                0..=2 => "not seen".to_owned(),
                _ => shown(exponent(seen())),
            };
            let least = points.iter().min_by(|a, b| a.bias.value.total_cmp(&b.bias.value));
            let least = least.map_or(String::new(), |point| {
                let Estimate { value, error } = point.relative_bias();
                format!("{} ± {} at {}", digits(value), digits(error), point.temperature)
            });
            let name = family.name();
            let _ = writeln!(rows, "| {name} | {arity} | {} | {bias} | {least} |", shown(variance));
        }
    }
    section(
        "## Laws at low temperatures",
        "Exponents of power laws in the temperature, after a tenth of the training, fitted with each point weighted by its error: the variance's up to 0.2 (-1 is expected of \
         Gumbel-Softmax and ST-GS, and between that and 0 of Gumbel-Rao, of which 16 draws leave a sixteenth of what grows), the \
         bias's up to 0.4 where it is more than two standard errors. The least of several noisy biases is rather too small.\n\n",
        &[
            "estimator",
            "n×N",
            "exponent of the variance",
            "exponent of the bias",
            "least relative bias",
        ],
        &rows,
    )
}

/// The best fixed temperatures and how wide the windows are.
pub(crate) fn fixed(view: &View<'_>) -> String {
    let mut rows = String::new();
    for family in Family::TRAINED {
        for arity in ARITIES {
            let groups = view.groups(arity);
            let Some(fixed) = Fixed::of(&groups, family) else { continue };
            let best = fixed.best();
            let [(low, cold), (high, hot)] = fixed.window(0.5);
            let _ = writeln!(
                rows,
                "| {} | {arity} | {}{} | {} | {} | {}{low:.2} to {}{high:.2} (×{:.1}) | {} | {} | {:.2} |",
                family.name(),
                End::mark(fixed.best_temperature().1),
                best.rule,
                pm(best.mean(|n| n.test_elbo)),
                pm(best.mean(|n| n.test_log_likelihood)),
                End::mark(cold),
                End::mark(hot),
                high / low,
                pm(best.mean(|n| n.test_objective - n.test_elbo)),
                of_seeds(best),
                best.mean(|n| n.milliseconds).value,
            );
        }
    }
    section(
        "## The best fixed temperature",
        "Test numbers in nats per image. Window: the temperatures whose ELBO on validation images is within 0.5 nats of the best; `<` \
         and `>` where the grid ends before. Integrality gap: the objective less the ELBO, on test images.\n\n",
        &[
            "estimator",
            "n×N",
            "best τ",
            "ELBO",
            "log-likelihood",
            "window",
            "integrality gap",
            "seeds",
            "ms per step",
        ],
        &rows,
    )
}

/// Numbers of gradients that an optimizer may be taken to average.
const AVERAGED: [f64; 4] = [1., 10., 100., 1000.];

/// Gradients that the first moment of Adam averages: `(1 + β₁) / (1 - β₁)`.
const FIRST_MOMENT: f64 = 19.;

/// What the temperature of the least gradient error costs in the bound.
pub(crate) fn least_error(view: &View<'_>) -> String {
    let mut rows = String::new();
    for family in Family::TRAINED {
        for arity in ARITIES {
            let points = view.points((arity, view.tenth()), family);
            let groups = view.groups(arity);
            let (Some(fixed), Some(first)) = (Fixed::of(&groups, family), points.first()) else {
                continue;
            };
            let (best, end) = fixed.best_temperature();
            let matching = averaged_for(&points, best)
                .map_or(String::new(), |(times, end)| format!("{}{times:.0}", End::mark(end)));
            let lost = |at: f64, end: Option<End>| {
                let loss = fixed.loss_at(at).map_or("?".to_owned(), |loss| format!("{loss:.2}"));
                format!("{loss} at {}{at:.2}", End::mark(end))
            };
            let cells = AVERAGED.map(|averaged| {
                let found = optimum(&points, averaged * first.batch);
                found.map_or(String::new(), |found| lost(found.temperature.value, found.end))
            });
            let direction = best_direction(&points, FIRST_MOMENT);
            let direction = direction.map_or(String::new(), |(at, end)| lost(at, end));
            let (name, mark) = (family.name(), End::mark(end));
            let cells = cells.join(" | ");
            let _ = writeln!(
                rows,
                "| {name} | {arity} | {mark}{best:.2} | {matching} | {cells} | {direction} |"
            );
        }
    }
    let averaged = AVERAGED.map(|m| format!("m = {m}"));
    let heads: Vec<&str> = ["estimator", "n×N", "best τ", "matching m"]
        .into_iter()
        .chain(averaged.iter().map(String::as_str))
        .chain(["direction"])
        .collect();
    section(
        "## Does the temperature of least gradient error train the best model?",
        "The error of a single gradient is least at a high temperature, that of the mean of m gradients at a lower one. Matching m: \
         where it is least at the temperature that trains the best model (of at most 1000: beyond, noise would decide). Then, for m, \
         what the temperature of least error (in the encoder, after a tenth of the training) loses in ELBO on validation images \
         against the best fixed one, in nats; `?` outside the temperatures that models are trained at. Direction: the same for the \
         temperature at which the mean of 19 gradients, as many as the first moment of Adam averages, has the greatest cosine with the \
         exact one; Adam has no use for their length.\n\n",
        &heads,
        &rows,
    )
}

/// Schedules against the best fixed temperature.
pub(crate) fn schedules(view: &View<'_>) -> String {
    let mut rows = String::new();
    for family in Family::TRAINED {
        for arity in ARITIES {
            let groups = view.groups(arity);
            let Some(fixed) = Fixed::of(&groups, family) else { continue };
            let moving = groups
                .iter()
                .filter(|group| group.estimator == family.name() && group.temperature().is_none());
            for group in moving {
                let above = group.above(fixed.best());
                let sign = if above.value >= 0. { "+" } else { "" };
                let _ = writeln!(
                    rows,
                    "| {} | {arity} | {} | {} | {sign}{} | {} | {} |",
                    family.name(),
                    group.rule,
                    pm(group.mean(|n| n.test_elbo)),
                    pm(above),
                    pm(group.mean(|n| n.last_temperature)),
                    of_seeds(group)
                );
            }
        }
    }
    section(
        "## Schedules side by side",
        "ELBO on test images, and what it is above that of the best fixed temperature, which was chosen on validation images: seed \
         by seed, over the seeds of both.\n\n",
        &["estimator", "n×N", "temperature", "ELBO", "above the best fixed", "at the end", "seeds"],
        &rows,
    )
}

/// Learners that no temperature is chosen for.
pub(crate) fn others(view: &View<'_>) -> String {
    let mut rows = String::new();
    for arity in ARITIES {
        for group in view.groups(arity).iter().filter(|group| group.rule.is_empty()) {
            let _ = writeln!(
                rows,
                "| {} | {arity} | {} | {} | {} | {:.2} |",
                group.estimator,
                pm(group.mean(|n| n.test_elbo)),
                pm(group.mean(|n| n.test_log_likelihood)),
                of_seeds(group),
                group.mean(|n| n.milliseconds).value
            );
        }
    }
    section(
        "## Without a temperature to choose",
        "REBAR is unbiased at every temperature, and moves its own to the least variance.\n\n",
        &["learner", "n×N", "ELBO", "log-likelihood", "seeds", "ms per step"],
        &rows,
    )
}

fn of_seeds(group: &Group) -> String {
    match group.diverged {
        0 => group.seeds.len().to_string(),
        diverged => format!("{}, {diverged} diverged", group.seeds.len()),
    }
}

fn pm(x: Estimate) -> String {
    match (x.value.is_finite(), x.error.is_finite()) {
        (false, _) => String::new(),
        (true, false) => format!("{:.2}", x.value),
        (true, true) => format!("{:.2} ± {:.2}", x.value, x.error),
    }
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
