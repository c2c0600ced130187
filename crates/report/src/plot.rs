//! Small multiples as SVG: lines with bands, read on white and on black.
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::ticks::Ticked;
use crate::{Error, Result};

/// Width and height of a panel.
const PANEL: (u32, u32) = (330, 240);
/// Panels beside each other.
const ACROSS: usize = 3;
/// Grey that is read on white and on black.
const INK: RGBColor = RGBColor(128, 128, 128);
/// Colours of lines (six of Okabe and Ito, and two more), told apart by the colour-blind, on white and on black.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(213, 94, 0),
    RGBColor(86, 180, 233),
    RGBColor(160, 140, 40),
    RGBColor(136, 110, 220),
];
/// Lines of more points have no dots.
const DOTS: usize = 60;

/// A line of a panel.
#[derive(Clone, Debug, Default)]
pub struct Line {
    /// What it is called; no name, no legend.
    pub name: String,
    /// Its points; what is not a number, or has no logarithm where one is taken, has no place.
    pub points: Vec<(f64, f64)>,
    /// Half the height of a band around each point; empty for none.
    pub band: Vec<f64>,
}

impl Line {
    /// Whether it is more than a level.
    pub(crate) fn changes(&self) -> bool {
        self.points.iter().any(|(_, y)| *y != self.points[0].1)
    }
}

/// Lines on the same axes.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What stands above it.
    pub title: String,
    /// What is drawn.
    pub lines: Vec<Line>,
}

/// How the axes of all panels are labelled, and whether they are logarithmic.
#[derive(Clone, Debug)]
pub struct Axes {
    /// The horizontal one.
    pub x: String,
    /// The vertical one.
    pub y: String,
    /// Whether `x` is on a logarithmic axis.
    pub log_x: bool,
    /// Whether `y` is on a logarithmic axis.
    pub log_y: bool,
}

/// Panels side by side, three to a row, as an SVG; lines of one name have one colour, and several panels one legend.
///
/// # Errors
/// If there is no panel, or drawing fails.
pub fn svg(panels: &[Panel], axes: &Axes) -> Result<String> {
    if panels.is_empty() {
        return Err(Error::Figure("there is nothing to draw".to_owned()));
    }
    // One panel alone is drawn larger.
    let scale = if panels.len() == 1 { 2 } else { 1 };
    draw(panels, axes, scale).map_err(|error| Error::Figure(error.to_string()))
}

/// Every panel as an SVG of its own, for a page that lays them out.
///
/// # Errors
/// If drawing fails.
pub fn svg_of_each(panels: &[Panel], axes: &Axes) -> Result<Vec<String>> {
    let one = |panel: &Panel| draw(std::slice::from_ref(panel), axes, 1);
    panels
        .iter()
        .map(|panel| one(panel).map_err(|error| Error::Figure(error.to_string())))
        .collect()
}

type Drawing<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn draw(panels: &[Panel], axes: &Axes, scale: u32) -> Drawing<String> {
    // Each name once, in the order of the panels: its place is its colour.
    let mut names: Vec<&str> = Vec::new();
    for line in panels.iter().flat_map(|panel| &panel.lines) {
        if !names.contains(&line.name.as_str()) {
            names.push(&line.name);
        }
    }
    let apart = panels.len() > 1 && names.iter().any(|name| !name.is_empty());
    let cells = panels.len() + usize::from(apart);
    let across = cells.min(ACROSS);
    let down = cells.div_ceil(across);
    let size = (PANEL.0 * across as u32 * scale, PANEL.1 * down as u32 * scale);
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        let areas = root.split_evenly((down, across));
        for (panel, area) in panels.iter().zip(&areas) {
            draw_panel(panel, axes, (&names, apart), area)?;
        }
        if let Some(area) = areas.get(panels.len()).filter(|_| apart) {
            draw_legend(&names, area)?;
        }
        root.present()?;
    }
    Ok(text)
}

fn colour_of(name: &str, names: &[&str]) -> RGBColor {
    let place = names.iter().position(|other| *other == name).unwrap_or(0);
    COLOURS[place % COLOURS.len()]
}

fn style(size: i32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

/// The names of lines and their colours, from the top.
fn draw_legend(names: &[&str], area: &DrawingArea<SVGBackend<'_>, Shift>) -> Drawing<()> {
    for (place, name) in names.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
        let y = 36 + 16 * place as i32;
        let colour = colour_of(name, names).stroke_width(2);
        area.draw(&PathElement::new([(24, y), (44, y)], colour))?;
        area.draw(&Text::new(*name, (52, y - 6), style(11)))?;
    }
    Ok(())
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Ticked, Ticked>>;

fn draw_panel(
    panel: &Panel,
    axes: &Axes,
    (names, apart): (&[&str], bool),
    area: &DrawingArea<SVGBackend<'_>, Shift>,
) -> Drawing<()> {
    let points: Vec<Vec<(f64, f64)>> =
        panel.lines.iter().map(|line| placed(line.points.iter().copied(), axes)).collect();
    let (x, y) = ranges(&panel.lines, &points, axes);
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, style(14))
        .margin(8)
        .x_label_area_size(34)
        .y_label_area_size(48)
        .build_cartesian_2d(Ticked::new(x, 5, axes.log_x), Ticked::new(y, 6, axes.log_y))?;
    mesh(&mut chart, axes)?;
    let corner = legend(&points, y);
    for (line, points) in panel.lines.iter().zip(points).filter(|(_, points)| !points.is_empty()) {
        draw_line(&mut chart, (line, points), axes, (colour_of(&line.name, names), apart))?;
    }
    if !apart {
        chart.configure_series_labels().position(corner).label_font(style(11)).draw()?;
    }
    Ok(())
}

/// Where a point stands: by its logarithms, on axes that have them.
fn place((x, y): (f64, f64), axes: &Axes) -> (f64, f64) {
    let along = |value: f64, log: bool| if log { value.log10() } else { value };
    (along(x, axes.log_x), along(y, axes.log_y))
}

/// Where points stand; what is not a number, or has no logarithm, has no place.
fn placed(points: impl Iterator<Item = (f64, f64)>, axes: &Axes) -> Vec<(f64, f64)> {
    points.map(|point| place(point, axes)).filter(|(x, y)| x.is_finite() && y.is_finite()).collect()
}

/// The ranges of `x` and `y` that show all points and their bands.
fn ranges(lines: &[Line], points: &[Vec<(f64, f64)>], axes: &Axes) -> ((f64, f64), (f64, f64)) {
    let edges = lines.iter().flat_map(ends).map(|y| place((1., y), axes).1);
    let (x, y) = (points.iter().flatten().map(|p| p.0), points.iter().flatten().map(|p| p.1));
    (extent(x), extent(edges.chain(y)))
}

/// Draws the axes, their labels and the lines behind them.
fn mesh(chart: &mut Chart<'_, '_>, axes: &Axes) -> Drawing<()> {
    let plain = |value: f64| match value.abs() >= 1e4 {
        true => format!("{}k", number(value / 1000.)),
        false => number(value),
    };
    let label = |value: f64, log: bool| plain(if log { 10f64.powf(value) } else { value });
    let x_label = |value: &f64| label(*value, axes.log_x);
    let y_label = |value: &f64| label(*value, axes.log_y);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(INK.mix(0.25))
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .label_style(style(11))
        .x_labels(5)
        .y_labels(6)
        .x_desc(&axes.x)
        .y_desc(&axes.y)
        .x_label_formatter(&x_label)
        .y_label_formatter(&y_label)
        .draw()?;
    Ok(())
}

/// Draws a line with its band and its dots; names it, unless the legend stands apart.
fn draw_line(
    chart: &mut Chart<'_, '_>,
    (line, points): (&Line, Vec<(f64, f64)>),
    axes: &Axes,
    (colour, apart): (RGBColor, bool),
) -> Drawing<()> {
    if line.band.len() == line.points.len() {
        let edge = |sign: f64| {
            let edge = move |((x, y), half): (&(f64, f64), &f64)| (*x, y + sign * half);
            line.points.iter().zip(&line.band).map(edge)
        };
        let around = placed(edge(1.).chain(edge(-1.).rev()), axes);
        chart.draw_series([Polygon::new(around, colour.mix(0.2))])?;
    }
    let dots = if points.len() > DOTS { &[] } else { &points[..] };
    let dots: Vec<_> = dots.iter().map(|point| Circle::new(*point, 2, colour.filled())).collect();
    let series = chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
    if !line.name.is_empty() && !apart {
        series
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 12, y)], colour.stroke_width(2)));
    }
    chart.draw_series(dots)?;
    Ok(())
}

/// The right corner in which fewer lines end.
fn legend(lines: &[Vec<(f64, f64)>], (low, high): (f64, f64)) -> SeriesLabelPosition {
    let last = lines.iter().filter_map(|points| points.last());
    match 2 * last.clone().filter(|(_, y)| *y > (low + high) / 2.).count() > last.count() {
        true => SeriesLabelPosition::LowerRight,
        false => SeriesLabelPosition::UpperRight,
    }
}

/// The lower and upper edges of the band of a line.
fn ends(line: &Line) -> impl Iterator<Item = f64> {
    let of = |((_, y), half): (&(f64, f64), &f64)| [y - half, y + half];
    line.points.iter().zip(&line.band).flat_map(of)
}

/// Least and largest, with a little room.
fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .filter(|x| x.is_finite())
        .fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(x), high.max(x)));
    let room = (0.05 * (high - low)).max(1e-3);
    if low <= high { (low - room, high + room) } else { (0., 1.) }
}

/// Four digits, and no more zeros than needed; one digit of what is very small.
fn number(x: f64) -> String {
    if x != 0. && x.abs() < 1e-3 {
        return format!("{x:.0e}");
    }
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

    #[test]
    fn lines_have_dots_bands_and_names() {
        let line = Line {
            name: "posterior".to_owned(),
            points: vec![(1., 2.), (2., 3.), (3., f64::NAN), (4., 1.)],
            band: vec![0.5, 0.1, 0.1, 2.],
        };
        let panel = Panel { title: "a < b".to_owned(), lines: vec![line] };
        let axes = Axes { x: "step".to_owned(), y: "nats".to_owned(), log_x: false, log_y: false };
        let text = svg(&[panel.clone(), panel], &axes).unwrap();
        assert_eq!((text.matches("<circle").count(), text.matches("<polygon").count()), (6, 2));
        assert!(text.contains("posterior") && text.contains("a &lt; b") && !text.contains("NaN"));
        assert!(svg(&[], &axes).is_err());
        let line = Line { points: vec![(1., 0.01), (2., 100.), (3., 0.)], ..Line::default() };
        let panel = Panel { title: String::new(), lines: vec![line] };
        let axes = Axes { log_y: true, ..axes };
        let text = svg(&[panel], &axes).unwrap();
        // A number without a logarithm has no place.
        assert_eq!(text.matches("<circle").count(), 2);
        assert!(text.contains("100") && !text.contains("NaN") && !text.contains("inf"), "{text}");
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
            (2e-5, "2e-5"),
        ] {
            assert_eq!(number(x), text);
        }
    }
}
