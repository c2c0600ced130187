//! Runs beside each other: grouped by configuration without the seed, with means and intervals over seeds.
use std::collections::BTreeMap;

use crate::record::distinct;
use crate::{Axes, Interval, Line, Page, Panel, Record, Result, mean_and_interval};

/// Keys of a configuration that do not make it another one.
const NOT_COMPARED: [&str; 1] = ["seed"];

/// Runs of one configuration.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Group {
    /// A letter, or more of them, to call it by in figures.
    pub letter: String,
    /// What tells it from the other groups: `key: value`, in the order of the keys.
    pub name: String,
    /// Its values of the keys by which groups differ.
    pub differs: BTreeMap<String, String>,
    /// Its runs, one for each seed.
    pub runs: Vec<Record>,
}

impl Group {
    /// The metric of each run that has it, at its last step on a split, over seeds.
    #[must_use]
    pub fn last(&self, split: &str, metric: &str) -> Option<Interval> {
        let numbers: Vec<f64> =
            self.runs.iter().filter_map(|run| run.last(split, metric)).collect();
        mean_and_interval(&numbers)
    }

    /// Means over seeds with their 95 % band, at every step that all runs have which have the metric at all.
    #[must_use]
    pub fn curve(&self, split: &str, metric: &str) -> Line {
        let curves: Vec<Vec<(f64, f64)>> = self
            .runs
            .iter()
            .map(|run| run.curve(split, metric))
            .filter(|curve| !curve.is_empty())
            .collect();
        let mut line = Line { name: self.letter.clone(), ..Line::default() };
        let Some(first) = curves.first() else { return line };
        for (step, _) in first {
            let at =
                |curve: &Vec<(f64, f64)>| curve.iter().find(|(x, _)| x == step).map(|(_, y)| *y);
            let numbers: Vec<f64> = curves.iter().filter_map(at).collect();
            match mean_and_interval(&numbers) {
                Some(interval) if numbers.len() == curves.len() => {
                    line.points.push((*step, interval.mean));
                    line.band.push(interval.half_width.unwrap_or(0.));
                }
                _ => {}
            }
        }
        line
    }
}

/// Runs beside each other.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Groups, in the order of their names.
    pub groups: Vec<Group>,
    /// Keys by which they differ.
    pub keys: Vec<String>,
    /// Runs that were left out, as another of their configuration has the same seed: they would count as one more draw and are none.
    pub repeated: usize,
}

impl Comparison {
    /// Groups runs by experiment and configuration without the seed. Of several with one seed it takes the last that is done, or the last.
    #[must_use]
    pub fn new(runs: Vec<Record>) -> Self {
        let mut groups: BTreeMap<Vec<(String, String)>, Vec<Record>> = BTreeMap::new();
        let mut repeated = 0;
        for run in runs {
            let kept = run.config.iter().filter(|(key, _)| !NOT_COMPARED.contains(&key.as_str()));
            let mut identity: Vec<(String, String)> =
                kept.map(|(key, value)| (key.clone(), value.clone())).collect();
            identity.push(("experiment".to_owned(), run.experiment.clone()));
            identity.sort();
            let group = groups.entry(identity).or_default();
            let same = |other: &&mut Record| {
                let seed = run.config.get("seed");
                seed.is_some() && other.config.get("seed") == seed
            };
            match group.iter_mut().find(same) {
                None => group.push(run),
                Some(other) => {
                    repeated += 1;
                    if run.status == "done" || other.status != "done" {
                        *other = run;
                    }
                }
            }
        }
        let mut values: BTreeMap<&str, Vec<Option<&str>>> = BTreeMap::new();
        for (i, identity) in groups.keys().enumerate() {
            for (key, value) in identity {
                let of_key = values.entry(key).or_default();
                of_key.resize(i, None);
                of_key.push(Some(value));
            }
        }
        let differs = |(_, of_key): &(&&str, &Vec<Option<&str>>)| {
            of_key.len() < groups.len() || of_key.iter().any(|value| *value != of_key[0])
        };
        let keys: Vec<String> =
            values.iter().filter(differs).map(|(key, _)| (*key).to_owned()).collect();
        let groups = groups.into_iter().enumerate().map(|(number, (identity, runs))| {
            let differs: BTreeMap<String, String> =
                identity.into_iter().filter(|(key, _)| keys.contains(key)).collect();
            let parts = differs.iter().map(|(key, value)| format!("{key}: {value}"));
            let name = parts.collect::<Vec<_>>().join(", ");
            Group { letter: letter(number), name, differs, runs }
        });
        Self { groups: groups.collect(), keys: keys.clone(), repeated }
    }

    /// Names of metrics of a split that some run has.
    #[must_use]
    pub fn metrics(&self, split: &str) -> Vec<String> {
        let runs = self.groups.iter().flat_map(|group| &group.runs);
        distinct(runs.flat_map(|run| run.metrics(split)))
    }

    /// A row for each group: the keys by which it differs, seeds, and each metric with its standard error and 95 % interval.
    #[must_use]
    pub fn csv(&self, split: &str) -> String {
        let metrics = self.metrics(split);
        let mut heads: Vec<String> = self.keys.clone();
        heads.push("runs".to_owned());
        for metric in &metrics {
            heads.extend(
                ["mean", "standard_error", "interval_95"].map(|part| format!("{metric}.{part}")),
            );
        }
        let mut text = csv_line(&heads);
        for group in &self.groups {
            let value = |key: &String| group.differs.get(key).cloned().unwrap_or_default();
            let mut cells: Vec<String> = self.keys.iter().map(value).collect();
            cells.push(group.runs.len().to_string());
            for metric in &metrics {
                let number = |x: Option<f64>| x.map_or_else(String::new, |x| x.to_string());
                let interval = group.last(split, metric);
                cells.push(number(interval.map(|i| i.mean)));
                cells.push(number(interval.and_then(|i| i.standard_error)));
                cells.push(number(interval.and_then(|i| i.half_width)));
            }
            text += &csv_line(&cells);
        }
        text
    }

    /// A page with the table of [`Comparison::csv`], sorted by a click, and curves with bands.
    ///
    /// # Errors
    /// If a figure cannot be drawn.
    pub fn page(&self, split: &str) -> Result<String> {
        let metrics = self.metrics(split);
        let runs: usize = self.groups.iter().map(|group| group.runs.len()).sum();
        let mut page = Page::new(&format!("{runs} runs, {} configurations", self.groups.len()));
        page.add(
            "<p class=\"note\">Runs that differ in nothing but the seed are one row. Mean ± half the 95 % confidence interval \
             of the mean (Student's t) over seeds; a band is the same. A click on a head sorts.</p>",
        );
        if self.repeated > 0 {
            page.add(&format!(
                "<p class=\"note\">Left out: {} with the seed of another run of the same configuration.</p>",
                self.repeated
            ));
        }
        let mut heads = vec!["line".to_owned()];
        heads.extend(self.keys.iter().cloned());
        heads.push("runs".to_owned());
        heads.extend(metrics.iter().cloned());
        let rows: Vec<_> =
            self.groups.iter().map(|group| self.row(group, split, &metrics)).collect();
        let table = page.sortable(&heads, &rows);
        page.section(&format!("Last numbers, {split}"), &table);
        // The test set is looked at once: the course is that of validation.
        let split = if split == "test" { "valid" } else { split };
        let metrics = self.metrics(split);
        let panel = |metric: &String| {
            let lines: Vec<Line> =
                self.groups.iter().map(|group| group.curve(split, metric)).collect();
            let drawn = lines.iter().any(Line::changes);
            drawn.then(|| Panel { title: metric.clone(), lines })
        };
        let panels: Vec<Panel> = metrics.iter().filter_map(panel).collect();
        if !panels.is_empty() {
            let axes = Axes { x: "step".to_owned(), y: String::new(), log_x: false, log_y: false };
            page.section(&format!("Course, {split}"), &Page::panels(&panels, &axes)?);
        }
        Ok(page.finish())
    }

    fn row(&self, group: &Group, split: &str, metrics: &[String]) -> Vec<(String, Option<f64>)> {
        let of_key = |key: &String| {
            let value = group.differs.get(key).cloned().unwrap_or_default();
            let number = value.parse().ok();
            (value, number)
        };
        let mut cells = vec![(group.letter.clone(), None)];
        cells.extend(self.keys.iter().map(of_key));
        cells.push((group.runs.len().to_string(), Some(group.runs.len() as f64)));
        for metric in metrics {
            cells.push(match group.last(split, metric) {
                None => (String::new(), None),
                Some(Interval { mean, half_width: None, .. }) => (format!("{mean:.3}"), Some(mean)),
                Some(Interval { mean, half_width: Some(half), .. }) => {
                    (format!("{mean:.3} ± {half:.3}"), Some(mean))
                }
            });
        }
        cells
    }
}

/// Values separated by commas, with a line break; one that has a comma, a quote or a line break in it is quoted.
#[must_use]
pub fn csv_line(cells: &[String]) -> String {
    let quoted = |text: &String| match text.contains([',', '"', '\n']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.clone(),
    };
    cells.iter().map(quoted).collect::<Vec<_>>().join(",") + "\n"
}

/// `A` to `Z`, then `AA` and so on.
fn letter(number: usize) -> String {
    let last = char::from(b'A' + (number % 26) as u8);
    match number / 26 {
        0 => last.to_string(),
        more => letter(more - 1) + &last.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::made_up;

    fn comparison() -> (tempfile::TempDir, Comparison) {
        let root = tempfile::tempdir().unwrap();
        let mut runs = Vec::new();
        for (i, (seed, tau, bound)) in
            [(1, 0.5, -100.), (2, 0.5, -102.), (1, 1.0, -90.)].into_iter().enumerate()
        {
            let config =
                format!("seed = {seed}\n[estimator]\ntemperature = {tau:?}\nname = \"gs, soft\"\n");
            let directory = made_up(root.path(), &i.to_string(), &config, bound);
            runs.push(Record::read(&directory).unwrap());
        }
        (root, Comparison::new(runs))
    }

    #[test]
    fn seeds_are_one_row_and_only_what_differs_is_said() {
        let (_root, all) = comparison();
        assert_eq!(all.keys, ["estimator.temperature"]);
        let names: Vec<&str> = all.groups.iter().map(|group| group.name.as_str()).collect();
        assert_eq!(names, ["estimator.temperature: 0.5", "estimator.temperature: 1.0"]);
        let bound = all.groups[0].last("valid", "bound").unwrap();
        assert_eq!((bound.count, bound.mean), (2, -101.));
        assert!((bound.half_width.unwrap() - 12.706).abs() < 1e-9);
        let line = all.groups[0].curve("valid", "bound");
        assert_eq!(line.points, [(100., -121.), (200., -101.)]);
        let csv = all.csv("valid");
        assert!(
            csv.starts_with("estimator.temperature,runs,bound.mean,bound.standard_error"),
            "{csv}"
        );
        assert!(csv.contains("\n1.0,1,-90,,,20,,\n"), "{csv}");
    }

    #[test]
    fn a_seed_that_ran_twice_counts_once() {
        let root = tempfile::tempdir().unwrap();
        let run = |name: &str, seed: u64, bound: f64, status: &str| {
            let directory = made_up(root.path(), name, &format!("seed = {seed}\n"), bound);
            std::fs::write(directory.join("STATUS"), status).unwrap();
            Record::read(&directory).unwrap()
        };
        let all = Comparison::new(vec![
            run("0", 1, -100., "done"),
            run("1", 1, -90., "done"),
            run("2", 1, -80., "interrupted"),
            run("3", 2, -70., "interrupted"),
        ]);
        let bound = all.groups[0].last("valid", "bound").unwrap();
        assert_eq!((all.groups.len(), all.repeated, bound.count, bound.mean), (1, 2, 2, -80.));
        assert!(all.page("valid").unwrap().contains("Left out: 2 with the seed"));
    }

    #[test]
    fn letters_go_on_after_z() {
        let letters = [0, 25, 26, 51, 52].map(letter);
        assert_eq!(letters, ["A", "Z", "AA", "AZ", "BA"]);
    }

    #[test]
    fn a_key_that_only_some_have_differs() {
        let root = tempfile::tempdir().unwrap();
        let runs =
            ["seed = 1\n", "seed = 1\nnew = 3\n"].into_iter().enumerate().map(|(i, config)| {
                Record::read(&made_up(root.path(), &i.to_string(), config, -1.)).unwrap()
            });
        let all = Comparison::new(runs.collect());
        assert_eq!((all.groups.len(), all.keys.clone()), (2, vec!["new".to_owned()]));
    }

    #[test]
    fn the_page_has_the_table_and_the_bands() {
        let (_root, all) = comparison();
        let text = all.page("valid").unwrap();
        for part in [
            "3 runs, 2 configurations",
            "-101.000 ± 12.706",
            "data-v=\"-90\"",
            "<polygon",
            "<script>",
        ] {
            assert!(text.contains(part), "{part}");
        }
        assert!(Comparison::new(vec![]).page("valid").is_ok());
    }
}
