//! Bounds of the validation set in the course of each run: what learning curves are drawn from.
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use gumbel_metrics::Mean;
use serde_json::Value;

const HEAD: &str = "cell,seed,step,valid_bound";

/// Validation bounds in nats per image, by cell, seed and step.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Curves(BTreeMap<(String, u64), Vec<(u64, f64)>>);

impl Curves {
    /// Those of a file; none where there is no file yet.
    pub(crate) fn open(file: &Path) -> Result<Self> {
        let mut curves = Self::default();
        if !file.exists() {
            return Ok(curves);
        }
        let text =
            fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        for line in text.lines().skip(1) {
            let [cell, seed, step, bound] = line.split(',').collect::<Vec<_>>()[..] else {
                bail!("{} has another line than `{HEAD}`: {line}", file.display())
            };
            let key = (cell.to_owned(), seed.parse()?);
            curves.0.entry(key).or_default().push((step.parse()?, bound.parse()?));
        }
        Ok(curves)
    }

    /// Takes the curve of a run from its metrics.
    pub(crate) fn add(&mut self, cell: &str, seed: u64, metrics: &str) {
        let mut points = BTreeMap::new();
        for line in metrics.lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            let bound = line["bound"].as_f64().or_else(|| line["elbo"].as_f64());
            if let (Some("valid"), Some(step), Some(bound)) =
                (line["split"].as_str(), line["step"].as_u64(), bound)
            {
                points.insert(step, bound);
            }
        }
        self.0.insert((cell.to_owned(), seed), points.into_iter().collect());
    }

    /// The mean over seeds of a cell, where all its seeds have a point: step and negative bound.
    pub(crate) fn of(&self, cell: &str) -> Vec<(f64, f64)> {
        let runs: Vec<_> = self.0.iter().filter(|((name, _), _)| name == cell).collect();
        let mut means: BTreeMap<u64, Mean> = BTreeMap::new();
        for (_, points) in &runs {
            for (step, bound) in *points {
                means.entry(*step).or_default().push(-bound);
            }
        }
        let whole = means.into_iter().filter(|(_, mean)| mean.count() == runs.len() as u64);
        whole.map(|(step, mean)| (step as f64, mean.mean())).collect()
    }

    /// The file's text.
    pub(crate) fn csv(&self) -> String {
        let mut text = format!("{HEAD}\n");
        for ((cell, seed), points) in &self.0 {
            for (step, bound) in points {
                let _ = writeln!(text, "{cell},{seed},{step},{bound:.4}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_read_from_metrics_and_kept() {
        let line = |split: &str, step: u64, bound: f64| {
            format!("{{\"step\":{step},\"split\":\"{split}\",\"bound\":{bound}}}\n")
        };
        let mut curves = Curves::default();
        let one = [line("train", 5, -9.), line("valid", 5, -4.), line("valid", 9, -2.)].concat();
        curves.add("a/b", 1, &one);
        curves.add("a/b", 2, &line("valid", 5, -6.).replace("bound", "elbo"));
        assert_eq!(curves.of("a/b"), [(5., 5.)]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.csv");
        assert_eq!(Curves::open(&file).unwrap(), Curves::default());
        fs::write(&file, curves.csv()).unwrap();
        assert_eq!(Curves::open(&file).unwrap(), curves);
        fs::write(&file, "a\nb\n").unwrap();
        assert!(Curves::open(&file).unwrap_err().to_string().contains("another line"));
    }
}
