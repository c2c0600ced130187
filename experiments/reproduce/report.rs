//! The table as a page.
use std::fmt::Write;

use anyhow::Result;
use gumbel_experiments::Budget;
use gumbel_metrics::Mean;

use crate::curves::Curves;
use crate::figure::Figure;
use crate::results::{Numbers, Outcome, Results, Row};
use crate::table::{Cell, Experiment, Picture, Score, Spending, Table};

/// The table in Markdown: published and measured, cell by cell.
pub(crate) fn markdown(
    (name, file): (&str, &str),
    table: &Table,
    budget: Budget,
    results: &Results,
) -> Result<String> {
    let mut text = format!("# {}\n\nPublished: {}.\n\n", table.title, table.source);
    let spent = spent(table, table.budget(budget)?, table.budget(Budget::Full)?, results);
    writeln!(
        text,
        "Budget `{budget}`: {spent}. Made by `just reproduce {name} --budget {budget}`; every run is a line of [{file}.csv]({file}.csv), \
         with steps, a fingerprint of its configuration, and commit (`+`: with changes that were not committed).\n"
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
         error of that mean. {objective} Gap: ours less published.{}\n",
        train_samples(table, results)
    )?;
    for note in &table.notes {
        writeln!(text, "- {note}")?;
    }
    let mut counted = table.cells.iter().flat_map(|cell| results.of(&cell.name()));
    if counted.any(|row| results.is_earlier(row)) {
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

/// What was spent, of the full budget; a run that diverged was spent as well.
fn spent(table: &Table, budget: &Spending, full: &Spending, results: &Results) -> String {
    let cells = table.cells.iter().map(|cell| results.of(&cell.name()));
    let cells: Vec<_> = cells.filter(|rows| !rows.is_empty()).collect();
    if cells.is_empty() {
        return "nothing has run yet".to_owned();
    }
    let steps: Vec<u64> = cells.iter().flatten().map(|row| row.steps).collect();
    let seeds: Vec<u64> = cells.iter().map(|rows| rows.len() as u64).collect();
    let whole = cells.len() == table.cells.len()
        && steps.iter().all(|steps| *steps >= full.steps)
        && seeds.iter().all(|seeds| *seeds >= full.seeds)
        && budget.set == full.set;
    if whole {
        return "not reduced".to_owned();
    }
    let own = budget.set.iter().filter(|set| !full.set.contains(set));
    let settings: String = own.map(|set| format!(", `{set}`")).collect();
    format!(
        "REDUCED, {} of {} cells, {} of {} steps, {} of {} seeds{settings}",
        cells.len(),
        table.cells.len(),
        range(&steps),
        full.steps,
        range(&seeds),
        full.seeds
    )
}

/// A sentence on bounds of the training set that are of other numbers of samples than those of the test set.
fn train_samples(table: &Table, results: &Results) -> String {
    let rows: Vec<&Row> = table.cells.iter().flat_map(|cell| done(cell, results)).collect();
    let of = |part: fn(&Row) -> Option<Numbers>| -> Vec<u64> {
        rows.iter().filter_map(|row| Some(part(row)?.samples)).collect()
    };
    let (test, train) = (range(&of(|row| row.test)), range(&of(|row| row.train)));
    if table.score == Score::Elbo || train.is_empty() || train == test {
        return String::new();
    }
    format!(" Column train: {train} samples, not K; with fewer samples the number is greater.")
}

/// The runs of a cell that count and ended with numbers.
fn done<'a>(cell: &Cell, results: &'a Results) -> Vec<&'a Row> {
    results.of(&cell.name()).into_iter().filter(|row| row.outcome == Outcome::Done).collect()
}

/// Least and greatest, or the one if they are the same.
fn range(values: &[u64]) -> String {
    match (values.iter().min(), values.iter().max()) {
        (Some(a), Some(b)) if a == b => a.to_string(),
        (Some(a), Some(b)) => format!("{a}–{b}"),
        _ => String::new(),
    }
}

/// The figure's place in the page.
pub(crate) fn figure(name: &str, table: &Table, results: &Results, curves: &Curves) -> String {
    let shows = match table.figure {
        Figure::Curves => {
            "Learning curves: negative bound of the discrete model on the validation set, mean over seeds"
        }
        Figure::Temperature => {
            "The objective that is trained and the bound of the discrete model, by temperature"
        }
    };
    let mut text = format!("\n![{shows}]({name}.svg)\n\n{shows}");
    if table.figure == Figure::Curves {
        let of = match (table.experiment, curves.samples().unwrap_or(1)) {
            (Experiment::Lm, _) => "the likelihood where it is exact, else one sample".to_owned(),
            (_, samples) => format!("K = {samples}"),
        };
        let _ = write!(text, ", {of}");
        let cells = || table.cells.iter().filter(|cell| !done(cell, results).is_empty());
        let drawn = cells().filter(|cell| !curves.of(&cell.name()).is_empty()).count();
        if drawn < cells().count() {
            let _ = write!(text, "; of {drawn} of the {} cells that ran", cells().count());
        }
    }
    text + ".\n"
}

/// A picture's place in the page.
pub(crate) fn picture(Picture { cell, shows, .. }: &Picture, file: &str) -> String {
    format!("\n![{shows}]({file})\n\n{shows} ({cell}, seed 1).\n")
}

/// Published and measured share, as two more columns.
fn shares(cell: &Cell, results: &Results) -> String {
    let mut mean = Mean::new();
    let name = cell.name();
    let shares = results.of(&name).into_iter().filter_map(|row| row.test?.accuracy);
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
    let (rows, done) = (results.of(&name), done(cell, results));
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
    let samples: Vec<u64> = match score {
        Score::Elbo => done.iter().map(|_| 1).collect(),
        Score::Bound => done.iter().filter_map(|row| Some(row.test?.samples)).collect(),
    };
    let diverged = rows.len() - done.len();
    let mut seeds = match (done.len(), diverged) {
        (0, 0) => "not run".to_owned(),
        (n, 0) => n.to_string(),
        (n, lost) => format!("{n}, and {lost} diverged"),
    };
    if rows.iter().any(|row| results.is_earlier(row)) {
        seeds += ", earlier settings";
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
        exact(range(&samples)),
        seeds,
        range(&done.iter().map(|row| row.steps).collect::<Vec<_>>()),
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
        let page = markdown(("reinmax", "reinmax"), &table, Budget::Quick, &results).unwrap();
        assert!(page.contains("Budget `quick`: nothing has run yet. "), "{page}");
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
        // Of earlier settings: marked, and left out once there is a run of the present ones.
        results.compare(|_, _| Ok(Some("other".to_owned()))).unwrap();
        let marked = line(&table, cell, &results);
        assert!(marked.contains("| 2, and 1 diverged, earlier settings |"), "{marked}");
        let page = markdown(("reinmax", "reinmax"), &table, Budget::Quick, &results).unwrap();
        assert!(page.contains("Earlier settings: "), "{page}");
        results.add(row(&name, 2, -140.));
        let again = line(&table, cell, &results);
        assert!(again.contains("| **140.00** |") && again.contains("| 1 | 10 |"), "{again}");
        let page = markdown(("reinmax", "reinmax"), &table, Budget::Quick, &results).unwrap();
        let spent = "REDUCED, 1 of 30 cells, 10 of 96000 steps, 1 of 10 seeds";
        assert!(page.contains(spent) && page.contains(&again), "{page}");
        // Few samples are a reduction, too, and said.
        let (few, cells) = (find("gumbel-rao").unwrap().0, |table: &Table| table.cells.len());
        for (cell, seed) in few.cells.iter().flat_map(|cell| (1..=10).map(move |seed| (cell, seed)))
        {
            results.add(Row { steps: 50_000, ..row(&cell.name(), seed, -90.) });
        }
        let page = markdown(("gumbel-rao", "x"), &few, Budget::Cpu, &results).unwrap();
        let all = format!("REDUCED, {0} of {0} cells, 50000 of 50000 steps", cells(&few));
        assert!(page.contains(&all) && page.contains("`evaluation.final_samples=1000`"), "{page}");
        let page = markdown(("gumbel-rao", "x"), &few, Budget::Full, &results).unwrap();
        assert!(page.contains("Budget `full`: not reduced"), "{page}");
        assert!(!page.contains("Earlier settings: "), "{page}");
    }
}
