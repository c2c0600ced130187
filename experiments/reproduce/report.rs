//! The table as a page.
use std::fmt::Write;

use anyhow::Result;
use gumbel_experiments::Budget;
use gumbel_metrics::Mean;

use crate::figure::Figure;
use crate::results::{Numbers, Outcome, Results, Row};
use crate::table::{Cell, Experiment, Picture, Score, Table};

/// The table in Markdown: published and measured, cell by cell.
pub(crate) fn markdown(
    name: &str,
    table: &Table,
    budget: Budget,
    results: &Results,
) -> Result<String> {
    let mut text = format!("# {}\n\nPublished: {}.\n\n", table.title, table.source);
    let (spent, full) = (table.budget(budget)?, table.budget(Budget::Full)?);
    let reduced = match (spent.steps < full.steps, spent.seeds < full.seeds) {
        (false, false) => "not reduced".to_owned(),
        (steps, _) => format!(
            "REDUCED, {} of {} steps{}, {} of {} seeds",
            spent.steps,
            full.steps,
            if steps { "" } else { " (all)" },
            spent.seeds,
            full.seeds
        ),
    };
    writeln!(
        text,
        "Budget `{budget}`: {reduced}. Made by `just reproduce {name} --budget {budget}`; every run is a line of [{name}.csv]({name}.csv), with steps, configuration and commit.\n"
    )?;
    let observation = table.experiment.observation();
    let (objective, columns, columns_rule) = if table.experiment == Experiment::Lm {
        ("ELBO: bound of one sample, or the likelihood where there is none.", "ELBO |", "--:|")
    } else {
        (
            "The objective is what was trained, on the test set; it is a bound of what its neighbour says.",
            "objective | a bound of |",
            "--:|---|",
        )
    };
    let score = match table.score {
        Score::Elbo => "one sample",
        Score::Bound => "many samples (column K)",
    };
    writeln!(
        text,
        "Negative bounds of the discrete model in nats per {observation}, {score}; smaller is better. Mean over seeds ± standard \
         error of that mean. {objective} Gap: ours less published.\n"
    )?;
    for note in &table.notes {
        writeln!(text, "- {note}")?;
    }
    if table.cells.iter().any(|cell| results.of(&cell.name()).any(|row| results.is_earlier(row))) {
        writeln!(
            text,
            "- Earlier settings: the run was before the settings of its cell became those that are described here, and is of those in \
             `experiments/reproduce/tables` at its commit; the command runs it again."
        )?;
    }
    let (head, rule) = match &table.share {
        Some(share) => (format!(" published {share} | **{share}** |"), "--:|--:|"),
        None => (String::new(), ""),
    };
    writeln!(
        text,
        "\n| | | published test | **test** | gap | published train | train | {columns} K | seeds | \
         steps | minutes |{head}\n|---|---|--:|--:|--:|--:|--:|{columns_rule}--:|--:|--:|--:|{rule}"
    )?;
    for cell in &table.cells {
        let share = if table.share.is_some() { shares(cell, results) } else { String::new() };
        writeln!(text, "{}{share}", line(table, cell, results))?;
    }
    Ok(text)
}

/// The figure's place in the page.
pub(crate) fn figure(name: &str, table: &Table) -> String {
    let shows = match table.figure {
        Figure::Curves => {
            "Learning curves: negative bound of the discrete model on the validation set, mean over seeds"
        }
        Figure::Temperature => {
            "The objective that is trained and the bound of the discrete model, by temperature"
        }
    };
    format!("\n![{shows}]({name}.svg)\n\n{shows}.\n")
}

/// A picture's place in the page.
pub(crate) fn picture(Picture { cell, shows, .. }: &Picture, file: &str) -> String {
    format!("\n![{shows}]({file})\n\n{shows} ({cell}, seed 1).\n")
}

/// Published and measured share, as two more columns.
fn shares(cell: &Cell, results: &Results) -> String {
    let mut mean = Mean::new();
    let name = cell.name();
    let shares = results.of(&name).filter_map(|row| row.test?.accuracy);
    shares.for_each(|share| mean.push(100. * share));
    let published =
        cell.accuracy.map_or_else(String::new, |share| format!("{:.1} %", 100. * share));
    let measured = match mean.count() {
        0 => String::new(),
        _ => format!("**{} %**", with_error(&mean)),
    };
    format!(" {published} | {measured} |")
}

fn line(table: &Table, cell: &Cell, results: &Results) -> String {
    let score = table.score;
    let name = cell.name();
    let rows: Vec<&Row> = results.of(&name).collect();
    let done: Vec<&Row> = rows.iter().copied().filter(|row| row.outcome == Outcome::Done).collect();
    let of = |part: fn(&Row) -> Option<Numbers>, number: &dyn Fn(Numbers) -> f64| {
        let mut mean = Mean::new();
        done.iter().filter_map(|row| part(row)).for_each(|numbers| mean.push(-number(numbers)));
        mean
    };
    let number = |numbers: Numbers| match score {
        Score::Elbo => numbers.elbo,
        Score::Bound => numbers.bound,
    };
    let (test, train) = (of(|row| row.test, &number), of(|row| row.train, &number));
    let objective = of(|row| row.test, &|numbers| numbers.objective);
    let gap = match (cell.test, test.count()) {
        (Some(published), 1..) => format!("{:+.2}", test.mean() - published),
        _ => String::new(),
    };
    // Of a likelihood that is summed over the latents no samples are taken.
    let exact = |text: String| if text == "0" { "exact".to_owned() } else { text };
    let range = |values: Vec<u64>| match (values.iter().min(), values.iter().max()) {
        (Some(a), Some(b)) if a == b => a.to_string(),
        (Some(a), Some(b)) => format!("{a}–{b}"),
        _ => String::new(),
    };
    let samples = match score {
        Score::Elbo => done.iter().map(|_| 1).collect(),
        Score::Bound => done.iter().filter_map(|row| Some(row.test?.samples)).collect(),
    };
    let diverged = rows.len() - done.len();
    let mut seeds = match (done.len(), diverged) {
        (0, 0) => "not run".to_owned(),
        (n, 0) => n.to_string(),
        (n, lost) => format!("{n}, and {lost} diverged"),
    };
    match rows.iter().filter(|row| results.is_earlier(row)).count() {
        0 => {}
        all if all == rows.len() => seeds += ", earlier settings",
        some => seeds += &format!(", {some} of them of earlier settings"),
    }
    let minutes: f64 =
        done.iter().map(|row| row.seconds / 60.).sum::<f64>() / done.len().max(1) as f64;
    let published =
        |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.2}"));
    let bounds = done.first().map_or_else(String::new, |row| row.bounds.clone());
    let bounds = (table.experiment != Experiment::Lm).then_some(bounds);
    let before = [
        cell.row.clone(),
        cell.column.clone(),
        published(cell.test),
        if test.count() > 0 { format!("**{}**", with_error(&test)) } else { String::new() },
        gap,
        published(cell.train),
        with_error(&train),
        with_error(&objective),
    ];
    let after = [
        exact(range(samples)),
        seeds,
        range(done.iter().map(|row| row.steps).collect()),
        if done.is_empty() { String::new() } else { format!("{minutes:.0}") },
    ];
    before
        .into_iter()
        .chain(bounds)
        .chain(after)
        .fold("|".to_owned(), |line, cell| format!("{line} {cell} |"))
}

/// Mean ± standard error; of one value there is none.
fn with_error(mean: &Mean) -> String {
    match mean.count() {
        0 => String::new(),
        1 => format!("{:.2}", mean.mean()),
        _ => format!("{:.2} ± {:.2}", mean.mean(), mean.standard_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::row;
    use crate::table::find;

    #[test]
    fn a_line_says_what_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let mut results = Results::open(&folder.path().join("t.csv")).unwrap();
        let (table, _) = find("reinmax").unwrap();
        let cell = &table.cells[0];
        let name = cell.name();
        assert!(line(&table, cell, &results).contains("not run"));
        results.add(row(&name, 1, -130.));
        results.add(row(&name, 2, -132.));
        results.add(Row { outcome: Outcome::Diverged, test: None, ..row(&name, 3, 0.) });
        let text = line(&table, cell, &results);
        let gap = format!("| {:+.2} |", 131. - cell.test.unwrap());
        for part in [
            "| **131.00 ± 1.00** |",
            &gap,
            "| 129.00 ± 1.00 |",
            "| 2, and 1 diverged |",
            "| nothing |",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert_eq!(text.matches('|').count(), 14);
        let now = |seed| if seed == 2 { "other" } else { "abc" }.to_owned();
        results.compare(|_, seed| Ok(Some(now(seed)))).unwrap();
        let marked = line(&table, cell, &results);
        assert!(
            marked.contains("| 2, and 1 diverged, 1 of them of earlier settings |"),
            "{marked}"
        );
        let page = markdown("reinmax", &table, Budget::Quick, &results).unwrap();
        assert!(page.contains("Earlier settings: "), "{page}");
        results.add(row(&name, 2, -132.));
        assert_eq!(line(&table, cell, &results), text, "run again");
        let page = markdown("reinmax", &table, Budget::Quick, &results).unwrap();
        assert!(page.contains("REDUCED") && page.contains(&text), "{page}");
    }
}
