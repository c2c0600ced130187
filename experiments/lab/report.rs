//! The tables, as text to read and as numbers.
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use gumbel::lab::{Estimate, Measurement};
use gumbel_experiments::say;
use gumbel_training::Environment;

use crate::estimators::Entry;

/// Collects rows, and shows them as they come.
#[derive(Debug)]
pub(crate) struct Report {
    text: String,
    csv: String,
    /// Claims of unbiasedness that the measurement contradicts.
    pub(crate) refuted: usize,
}

impl Report {
    pub(crate) fn new(seed: u64, threads: usize) -> Self {
        let environment = Environment::current(seed, threads);
        let mut report = Self {
            text: String::new(),
            refuted: 0,
            csv: "problem,estimator,settings,replicates,bias,bias_error,variance,variance_error,\
                  mean_squared_error,cosine,cosine_of_mean,cosine_of_mean_error,exact_norm,microseconds\n"
                .to_owned(),
        };
        report.line("# Bias and variance of every estimator");
        report.line("");
        report.line(&format!(
            "Made by `just lab` ({}), seed {seed}, double precision, {threads} threads. Standard errors after ±. How \
             to read it: [experiments/lab](../../experiments/lab/README.md).",
            environment.summary()
        ));
        report
    }

    fn line(&mut self, line: &str) {
        say(line);
        self.text.push_str(line);
        self.text.push('\n');
    }

    pub(crate) fn problem(&mut self, title: &str, text: &str, replicates: usize) {
        self.line(&format!("\n## {title}\n\n{text} {replicates} replicates.\n"));
        self.line(
            "| estimator | settings | runs | unbiased | relative bias | relative variance | MSE / ‖g‖² | cosine | \
             cosine of mean | µs |",
        );
        self.line("|---|---|---|---|---|---|---|---|---|---|");
    }

    pub(crate) fn row(
        &mut self,
        problem: &str,
        entry: &Entry,
        outcome: &Result<(bool, Measurement)>,
    ) -> Result<()> {
        let (name, settings) = (entry.name, entry.summary());
        match outcome {
            Ok((unbiased, m)) => {
                let g = m.exact_norm();
                let relative = |e: Estimate, by: f64| {
                    format!("{} ± {}", digits(e.value / by), digits(e.error / by))
                };
                // What is claimed, and whether the measurement agrees.
                self.refuted += usize::from(*unbiased && m.check_unbiased(4.5).is_err());
                let verdict = match (unbiased, m.check_unbiased(4.5).is_ok()) {
                    (true, true) => "yes",
                    (true, false) => "**claimed, refuted**",
                    (false, true) => "no (not seen here)",
                    (false, false) => "no",
                };
                self.line(&format!(
                    "| {name} | {settings} | {} | {verdict} | {} | {} | {} | {:.3} | {} | {:.2} |",
                    entry.runs,
                    relative(m.bias, g),
                    relative(m.variance, g * g),
                    digits(m.mean_squared_error.value / (g * g)),
                    m.cosine.value,
                    cosine(m.cosine_of_mean),
                    m.seconds * 1e6
                ));
                self.csv_row(problem, entry, m)
            }
            Err(error) => {
                let message = error.to_string();
                let short = message.lines().next().unwrap_or_default();
                self.line(&format!(
                    "| {name} | {settings} | {} | refused: {short} | | | | | | |",
                    entry.runs
                ));
                Ok(())
            }
        }
    }

    pub(crate) fn csv_row(&mut self, problem: &str, entry: &Entry, m: &Measurement) -> Result<()> {
        writeln!(
            self.csv,
            "\"{problem}\",\"{}\",\"{}\",{},{:e},{:e},{:e},{:e},{:e},{:e},{:e},{:e},{:e},{:e}",
            entry.name,
            entry.settings.replace('\n', "; ").replace('"', "'"),
            m.replicates,
            m.bias.value,
            m.bias.error,
            m.variance.value,
            m.variance.error,
            m.mean_squared_error.value,
            m.cosine.value,
            m.cosine_of_mean.value,
            m.cosine_of_mean.error,
            m.exact_norm(),
            m.seconds * 1e6
        )?;
        Ok(())
    }

    pub(crate) fn sweep(&mut self, title: &str, temperatures: &[f64], replicates: usize) {
        self.line(&format!(
            "\n## {title}: temperatures\n\nRelative bias / relative variance, {replicates} replicates.\n"
        ));
        let heads: String = temperatures.iter().map(|t| format!(" τ = {t} |")).collect();
        self.line(&format!("| estimator |{heads}"));
        self.line(&format!("|---|{}", "---|".repeat(temperatures.len())));
    }

    pub(crate) fn sweep_row(&mut self, name: &str, cells: &[Measurement]) {
        let cell = |m: &Measurement| {
            let g = m.exact_norm();
            format!(" {} / {} |", digits(m.bias.value / g), digits(m.variance.value / (g * g)))
        };
        let cells: String = cells.iter().map(cell).collect();
        self.line(&format!("| {name} |{cells}"));
    }

    pub(crate) fn write(&self, directory: &Path) -> Result<()> {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        for (name, content) in [("estimators.md", &self.text), ("estimators.csv", &self.csv)] {
            let path = directory.join(name);
            std::fs::write(&path, content)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

/// A cosine, where noise does not hide it.
fn cosine(x: Estimate) -> String {
    if x.value.is_nan() || x.error.is_nan() || x.error > 0.5 {
        return "hidden by noise".to_owned();
    }
    format!("{:.3} ± {:.3}", x.value, x.error)
}

/// Three significant digits.
fn digits(x: f64) -> String {
    match x.abs() {
        0. => "0".to_owned(),
        size if size < 1e-9 => "< 1e-9".to_owned(),
        size if !(1e-3..1e4).contains(&size) => format!("{x:.1e}"),
        size if size < 0.1 => format!("{x:.4}"),
        size if size < 10. => format!("{x:.2}"),
        _ => format!("{x:.0}"),
    }
}
