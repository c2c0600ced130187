//! The page of a run.
use serde_json::Value;

use crate::record::distinct;
use crate::{Axes, Line, Page, Panel, Record, Result, svg};

/// Metrics that are drawn, at most.
const DRAWN: usize = 12;
/// Splits, in the order of their colours.
const SPLITS: [&str; 3] = ["train", "valid", "test"];

/// The page of a run: result, course, pictures, `more` sections (title and HTML) of the experiment's own, configuration,
/// environment, and how to go on and to repeat it.
///
/// # Errors
/// If a picture cannot be read or a figure not be drawn.
pub fn run_page(run: &Record, more: &[(&str, String)]) -> Result<String> {
    let mut page = Page::new(&format!("{} {}", run.experiment, run.name()));
    page.section("Result", &result(run));
    let panels = panels(run);
    if !panels.is_empty() {
        page.section("Course of training", &Page::panels(&panels, &axes())?);
    }
    let pictures = run.pictures()?;
    if !pictures.is_empty() {
        let mut body = String::new();
        for path in &pictures {
            let shows = path.file_stem().unwrap_or_default().to_string_lossy().replace('-', " ");
            body += &Page::picture(path, &shows)?;
        }
        page.section("Pictures", &body);
    }
    for (title, html) in more {
        page.section(title, html);
    }
    page.listing("Configuration", &run.config_text);
    page.section("Where it ran", &Page::pairs(environment(&run.environment)));
    page.listing("To go on and to repeat it", &again(run));
    if !run.citations.is_empty() {
        page.listing("To be cited", &run.citations);
    }
    Ok(page.finish())
}

/// The course of training as one figure, an SVG; none where nothing has changed yet.
///
/// # Errors
/// If it cannot be drawn.
pub fn course(run: &Record) -> Result<Option<String>> {
    let panels = panels(run);
    if panels.is_empty() { Ok(None) } else { svg(&panels, &axes()).map(Some) }
}

fn axes() -> Axes {
    Axes { x: "step".to_owned(), y: String::new(), log_x: false, log_y: false }
}

fn result(run: &Record) -> String {
    let mut rows = vec![("status", run.status.clone()), ("steps", run.steps().to_string())];
    if let Value::Object(summary) = &run.summary {
        let told = summary.iter().filter(|(name, value)| *name != "steps" && !value.is_null());
        rows.extend(told.map(|(name, value)| (name.as_str(), plain(value))));
    }
    Page::pairs(rows)
}

/// A value without the marks of JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(x) if x.fract() != 0. => format!("{x:.4}"),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

/// A panel for each metric that changes, a line for each split.
fn panels(run: &Record) -> Vec<Panel> {
    let metrics = distinct(SPLITS.iter().flat_map(|split| run.metrics(split)));
    let panel = |metric: String| {
        // A split without a line keeps its colour.
        let line = |split: &str| Line {
            name: split.to_owned(),
            points: Some(run.curve(split, &metric))
                .filter(|curve| curve.len() > 1)
                .unwrap_or_default(),
            band: vec![],
        };
        let lines = SPLITS.map(line).to_vec();
        lines.iter().any(Line::changes).then_some(Panel { title: metric, lines })
    };
    let mut panels: Vec<Panel> = metrics.into_iter().filter_map(panel).collect();
    panels.truncate(DRAWN);
    panels
}

/// Names and values; a table within is one value.
fn environment(value: &Value) -> Vec<(&str, String)> {
    let Value::Object(object) = value else { return Vec::new() };
    let text = |value: &Value| match value {
        Value::Object(inner) => {
            let parts: Vec<String> =
                inner.iter().map(|(name, value)| format!("{name}: {}", plain(value))).collect();
            parts.join("; ")
        }
        Value::Array(items) if items.iter().all(Value::is_string) => {
            items.iter().map(plain).collect::<Vec<_>>().join(" ")
        }
        other => plain(other),
    };
    object.iter().map(|(name, value)| (name.as_str(), text(value))).collect()
}

fn again(run: &Record) -> String {
    let (experiment, directory) = (&run.experiment, run.directory.display());
    format!(
        "just run-{experiment} --resume {directory}\n\
         just run-{experiment} --config {directory}/config.toml\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::made_up;

    #[test]
    fn a_page_has_everything_and_nothing_from_elsewhere() {
        let root = tempfile::tempdir().unwrap();
        let directory = made_up(root.path(), "a<b", "seed = 1\nname = \"<x>\"\n", -100.);
        std::fs::write(directory.join("samples/step-000000200-prior.png"), b"png").unwrap();
        let run = Record::read(&directory).unwrap();
        let text = run_page(&run, &[("Codes", "<table></table>".to_owned())]).unwrap();
        for part in [
            "vae a&lt;b",
            "mnist &lt;&amp;&gt;",
            "<svg role=\"img\" aria-label",
            "data:image/png;base64,cG5n",
            "alt=\"step 000000200 prior\"",
            "<h2>Codes</h2><table></table>",
            "name = &quot;&lt;x&gt;&quot;",
            "vae --seed 1",
            "commit: abc",
            "<div class=\"wide\" tabindex=\"0\">",
            "--resume",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(!text.contains("fill=\"#808080\""), "grey letters in a page");
        for part in ["http:", "https:", "<x>", "NaN"] {
            assert!(!text.replace("http://www.w3.org/2000/svg", "").contains(part), "{part}");
        }
    }
}
