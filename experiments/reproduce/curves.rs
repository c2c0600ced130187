//! Bounds of the validation set in the course of each run: what learning curves are drawn from.
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use gumbel_metrics::Mean;
use serde_json::Value;

const HEAD: &str = "cell,seed,config,step,samples,valid_bound";

/// A run: cell, seed, and fingerprint of the configuration.
type Key = (String, u64, String);

/// A point of a curve.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    step: u64,
    samples: u64,
    bound: f64,
}

/// Validation bounds in nats per image, by run and step.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Curves(BTreeMap<Key, Vec<Point>>);

impl Curves {
    /// Those of a file; none where there is no file yet.
    pub(crate) fn open(file: &Path) -> Result<Self> {
        let mut curves = Self::default();
        if !file.exists() {
            return Ok(curves);
        }
        let text =
            fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        let mut lines = text.lines();
        if lines.next() != Some(HEAD) {
            bail!("{} has other columns; move it away", file.display())
        }
        for line in lines {
            let (key, point) =
                parse(line).with_context(|| format!("{}: in line {line:?}", file.display()))?;
            curves.0.entry(key).or_default().push(point);
        }
        Ok(curves)
    }

    /// Whether the curve of a run is there.
    pub(crate) fn has(&self, cell: &str, seed: u64, fingerprint: &str) -> bool {
        self.0.contains_key(&(cell.to_owned(), seed, fingerprint.to_owned()))
    }

    /// Takes the curve of a run from its metrics.
    pub(crate) fn add(&mut self, cell: &str, seed: u64, fingerprint: &str, metrics: &str) {
        let mut points = BTreeMap::new();
        for line in metrics.lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            let bound = line["bound"].as_f64().or_else(|| line["elbo"].as_f64());
            if let (Some("valid"), Some(step), Some(bound)) =
                (line["split"].as_str(), line["step"].as_u64(), bound)
            {
                let samples = line["samples"].as_f64().unwrap_or(1.) as u64;
                points.insert(step, Point { step, samples, bound });
            }
        }
        let key = (cell.to_owned(), seed, fingerprint.to_owned());
        self.0.insert(key, points.into_values().collect());
    }

    /// Drops the curves of runs that do not count any more.
    pub(crate) fn retain(&mut self, counts: impl Fn(&str, u64, &str) -> bool) {
        self.0.retain(|(cell, seed, fingerprint), _| counts(cell, *seed, fingerprint));
    }

    /// The mean over seeds of a cell, where all its seeds have a point: step and negative bound.
    pub(crate) fn of(&self, cell: &str) -> Vec<(f64, f64)> {
        let runs: Vec<_> = self.0.iter().filter(|((name, ..), _)| name == cell).collect();
        let mut means: BTreeMap<u64, Mean> = BTreeMap::new();
        for Point { step, bound, .. } in runs.iter().flat_map(|(_, points)| *points) {
            means.entry(*step).or_default().push(-bound);
        }
        let whole = means.into_iter().filter(|(_, mean)| mean.count() == runs.len() as u64);
        whole.map(|(step, mean)| (step as f64, mean.mean())).collect()
    }

    /// Samples per image of the bounds.
    pub(crate) fn samples(&self) -> Option<u64> {
        self.0.values().flatten().map(|point| point.samples).max()
    }

    /// The file's text.
    pub(crate) fn csv(&self) -> String {
        let mut text = format!("{HEAD}\n");
        for ((cell, seed, fingerprint), points) in &self.0 {
            for Point { step, samples, bound } in points {
                let _ = writeln!(text, "{cell},{seed},{fingerprint},{step},{samples},{bound:.4}");
            }
        }
        text
    }
}

fn parse(line: &str) -> Result<(Key, Point)> {
    let [cell, seed, fingerprint, step, samples, bound] = line.split(',').collect::<Vec<_>>()[..]
    else {
        bail!("there should be six values")
    };
    let key = (cell.to_owned(), seed.parse()?, fingerprint.to_owned());
    Ok((key, Point { step: step.parse()?, samples: samples.parse()?, bound: bound.parse()? }))
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
        curves.add("a/b", 1, "f", &one);
        curves.add("a/b", 2, "g", &line("valid", 5, -6.).replace("bound", "elbo"));
        assert_eq!(curves.of("a/b"), [(5., 5.)]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.csv");
        assert_eq!(Curves::open(&file).unwrap(), Curves::default());
        fs::write(&file, curves.csv()).unwrap();
        assert_eq!(Curves::open(&file).unwrap(), curves);
        fs::write(&file, format!("{HEAD}\na/b,1,f,x,1,-3\n")).unwrap();
        assert!(Curves::open(&file).unwrap_err().to_string().contains("a/b,1,f,x"));
        fs::write(&file, "a\nb\n").unwrap();
        assert!(Curves::open(&file).unwrap_err().to_string().contains("move it away"));
        curves.retain(|_, seed, _| seed == 2);
        assert_eq!((curves.has("a/b", 1, "f"), curves.has("a/b", 2, "g")), (false, true));
        assert_eq!(curves.samples(), Some(1));
    }
}
