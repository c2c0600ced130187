//! Small multiples as SVG: a panel per row of the table, a line per column.
use anyhow::Result;
use gumbel_report::{Axes, Line, Panel, svg};
use serde::Deserialize;

use crate::curves::Curves;
use crate::results::{Numbers, Outcome, Results};
use crate::table::{Experiment, Table};

/// What is drawn of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Figure {
    /// Validation bounds by step.
    #[default]
    Curves,
    /// Test numbers by temperature, which rows are named after: trained objective and discrete bound.
    Temperature,
}

/// The figure of a table; none while there is nothing to draw.
pub(crate) fn draw(table: &Table, results: &Results, curves: &Curves) -> Result<Option<String>> {
    let (panels, axes) = match table.figure {
        Figure::Curves => (
            learning_curves(table, curves),
            Axes {
                x: "step".to_owned(),
                y: curves_label(table, curves),
                log_x: false,
                log_y: false,
            },
        ),
        Figure::Temperature => (
            by_temperature(table, results),
            Axes {
                x: "temperature".to_owned(),
                y: "test, nats".to_owned(),
                log_x: true,
                log_y: true,
            },
        ),
    };
    if panels.is_empty() {
        return Ok(None);
    }
    Ok(Some(svg(&panels, &axes)?))
}

fn curves_label(table: &Table, curves: &Curves) -> String {
    match (table.experiment, curves.samples().unwrap_or(1)) {
        (Experiment::Lm, _) => "validation, nats".to_owned(),
        (_, samples) => format!("validation, nats (K = {samples})"),
    }
}

fn learning_curves(table: &Table, curves: &Curves) -> Vec<Panel> {
    let panels = table.rows().into_iter().map(|row| {
        let cells = table.cells.iter().filter(|cell| cell.row == row);
        let lines = cells.map(|cell| Line {
            name: cell.column.clone(),
            points: curves.of(&cell.name()),
            band: vec![],
        });
        Panel { title: row.to_owned(), lines: lines.collect() }
    });
    panels.filter(|panel| panel.lines.iter().any(|line| line.points.len() > 1)).collect()
}

fn by_temperature(table: &Table, results: &Results) -> Vec<Panel> {
    let line = |name: &str, number: fn(Numbers) -> f64| {
        let points = table.cells.iter().filter_map(|cell| {
            let name = cell.name();
            let rows = results.of(&name).into_iter();
            let done = rows.filter(|row| row.outcome == Outcome::Done);
            let numbers: Vec<f64> = done.filter_map(|row| Some(-number(row.test?))).collect();
            let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
            Some((cell.row.parse::<f64>().ok()?, mean)).filter(|_| !numbers.is_empty())
        });
        Line { name: name.to_owned(), points: points.collect(), band: vec![] }
    };
    let lines = vec![
        line("relaxed (trained)", |numbers| numbers.objective),
        line("discrete", |numbers| numbers.elbo),
    ];
    let panel = Panel { title: table.title.clone(), lines };
    if panel.lines[0].points.len() > 1 { vec![panel] } else { vec![] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::find;

    #[test]
    fn nothing_done_is_nothing_drawn_and_a_curve_is_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let results = Results::open(&folder.path().join("t.csv")).unwrap();
        let (table, _) = find("jang-vae").unwrap();
        let mut curves = Curves::default();
        assert_eq!(draw(&table, &results, &curves).unwrap(), None);
        let metrics = [1, 2, 3]
            .map(|step| format!("{{\"step\":{step},\"split\":\"valid\",\"bound\":-{step}.5}}\n"));
        curves.add("categorical/DARN", 1, "f", &metrics.concat());
        let svg = draw(&table, &results, &curves).unwrap().unwrap();
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(
            svg.contains("DARN") && !svg.contains("Bernoulli") && !svg.contains("NaN"),
            "{svg}"
        );
    }
}
