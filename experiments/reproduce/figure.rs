//! Small multiples as SVG: a panel per row of the table, a line per column.
use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use serde::Deserialize;

use crate::curves::Curves;
use crate::results::{Numbers, Outcome, Results};
use crate::table::Table;

/// Width and height of a panel.
const PANEL: (u32, u32) = (330, 240);
/// Panels beside each other.
const ACROSS: usize = 3;
/// Grey that is read on white and on black.
const INK: RGBColor = RGBColor(128, 128, 128);
/// Colours of lines (Okabe and Ito), told apart by the colour-blind, on white and on black.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(213, 94, 0),
    RGBColor(86, 180, 233),
    RGBColor(160, 140, 40),
];

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

struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

struct Panel {
    title: String,
    lines: Vec<Line>,
}

/// How axes are labelled, and whether both are logarithmic.
struct Axes {
    x: &'static str,
    y: String,
    logarithmic: bool,
}

/// The figure of a table; none while there is nothing to draw.
pub(crate) fn draw(table: &Table, results: &Results, curves: &Curves) -> Result<Option<String>> {
    let (panels, axes) = match table.figure {
        Figure::Curves => (
            learning_curves(table, curves),
            Axes { x: "step", y: curves_label(curves), logarithmic: false },
        ),
        Figure::Temperature => (
            by_temperature(table, results),
            Axes { x: "temperature", y: "test, nats".to_owned(), logarithmic: true },
        ),
    };
    if panels.is_empty() {
        return Ok(None);
    }
    svg(&panels, &axes).map(Some).map_err(|error| anyhow!("drawing a figure: {error}"))
}

fn curves_label(curves: &Curves) -> String {
    format!("validation, nats (K = {})", curves.samples().unwrap_or(1))
}

fn learning_curves(table: &Table, curves: &Curves) -> Vec<Panel> {
    let panels = table.rows().into_iter().map(|row| {
        let cells = table.cells.iter().filter(|cell| cell.row == row);
        let lines =
            cells.map(|cell| Line { name: cell.column.clone(), points: curves.of(&cell.name()) });
        Panel { title: row.to_owned(), lines: lines.collect() }
    });
    panels.filter(|panel| panel.lines.iter().any(|line| line.points.len() > 1)).collect()
}

fn by_temperature(table: &Table, results: &Results) -> Vec<Panel> {
    let line = |name: &str, number: fn(Numbers) -> f64| {
        let points = table.cells.iter().filter_map(|cell| {
            let name = cell.name();
            let done = results.of(&name).filter(|row| row.outcome == Outcome::Done);
            let numbers: Vec<f64> = done.filter_map(|row| Some(-number(row.test?))).collect();
            let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
            Some((cell.row.parse::<f64>().ok()?, mean)).filter(|_| !numbers.is_empty())
        });
        Line { name: name.to_owned(), points: points.collect() }
    };
    let lines = vec![
        line("relaxed (trained)", |numbers| numbers.objective),
        line("discrete", |numbers| numbers.elbo),
    ];
    let panel = Panel { title: table.title.clone(), lines };
    if panel.lines[0].points.len() > 1 { vec![panel] } else { vec![] }
}

type Drawing<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn svg(panels: &[Panel], axes: &Axes) -> Drawing<String> {
    let across = panels.len().min(ACROSS);
    let down = panels.len().div_ceil(across);
    // One panel alone is drawn larger.
    let scale = if panels.len() == 1 { 2 } else { 1 };
    let size = (PANEL.0 * across as u32 * scale, PANEL.1 * down as u32 * scale);
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        for (panel, area) in panels.iter().zip(root.split_evenly((down, across))) {
            draw_panel(panel, axes, &area)?;
        }
        root.present()?;
    }
    Ok(text)
}

fn draw_panel(
    panel: &Panel,
    axes: &Axes,
    area: &DrawingArea<SVGBackend<'_>, Shift>,
) -> Drawing<()> {
    let scaled = |x: f64| if axes.logarithmic { x.log10() } else { x };
    // What is not a number, or has no logarithm, has no place.
    let placed = |line: &Line| {
        let points = line.points.iter().map(|(x, y)| (scaled(*x), scaled(*y)));
        points.filter(|(x, y)| x.is_finite() && y.is_finite()).collect()
    };
    let points: Vec<Vec<(f64, f64)>> = panel.lines.iter().map(placed).collect();
    let (x, y) = (
        extent(points.iter().flatten().map(|p| p.0)),
        extent(points.iter().flatten().map(|p| p.1)),
    );
    let label = |value: &f64| match (axes.logarithmic, value.abs() >= 1e4) {
        (true, _) => number(10f64.powf(*value)),
        (false, true) => format!("{}k", number(value / 1000.)),
        (false, false) => number(*value),
    };
    let style = |size: i32| ("sans-serif", size).into_font().color(&INK);
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, style(14))
        .margin(8)
        .x_label_area_size(34)
        .y_label_area_size(48)
        .build_cartesian_2d(x.0..x.1, y.0..y.1)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(INK.mix(0.25))
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .label_style(style(11))
        .x_labels(5)
        .y_labels(6)
        .x_desc(axes.x)
        .y_desc(&axes.y)
        .x_label_formatter(&label)
        .y_label_formatter(&label)
        .draw()?;
    for (index, (line, points)) in panel.lines.iter().zip(points).enumerate() {
        if points.is_empty() {
            continue;
        }
        let colour = COLOURS[index % COLOURS.len()];
        let dots =
            points.iter().map(|point| Circle::new(*point, 2, colour.filled())).collect::<Vec<_>>();
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 12, y)], colour.stroke_width(2)));
        chart.draw_series(dots)?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .label_font(style(11))
        .draw()?;
    Ok(())
}

/// Least and largest, with a little room.
fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .filter(|x| x.is_finite())
        .fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(x), high.max(x)));
    let room = (0.05 * (high - low)).max(1e-3);
    if low <= high { (low - room, high + room) } else { (0., 1.) }
}

/// Four digits, and no more zeros than needed.
fn number(x: f64) -> String {
    let digits = (3 - x.abs().max(1e-9).log10().floor() as i32).clamp(0, 4) as usize;
    let text = format!("{x:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
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

    #[test]
    fn numbers_are_short() {
        for (x, text) in [
            (60., "60"),
            (0.25, "0.25"),
            (101.52, "101.5"),
            (0.666_67, "0.6667"),
            (0., "0"),
            (-2., "-2"),
        ] {
            assert_eq!(number(x), text);
        }
    }
}
