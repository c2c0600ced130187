//! A run as it goes on: what its files say, again and again. It only reads, so that it can neither slow nor break the run.
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use gumbel_experiments::say;
use gumbel_report::Record;

/// Moves to the upper left corner and clears what is below.
const AGAIN: &str = "\x1b[H\x1b[J";

/// Shows the run until it has ended: in place on a terminal, a line for each change elsewhere.
pub(crate) fn watch(directory: &Path, every: f64) -> Result<()> {
    anyhow::ensure!(!every.is_nan(), "--every is no number; give seconds");
    let pause = Duration::from_secs_f64(every.clamp(0.05, 3600.));
    let terminal = std::io::stdout().is_terminal();
    let mut seen = None;
    loop {
        let record = Record::read(directory)?;
        let now = (record.steps(), record.points.len(), record.status.clone());
        if seen.as_ref() != Some(&now) {
            if terminal {
                let mut out = std::io::stdout().lock();
                let _ = write!(out, "{AGAIN}{}", screen(&record)).and_then(|()| out.flush());
            } else {
                say(&line(&record));
            }
            seen = Some(now);
        }
        if record.status != "running" {
            return Ok(());
        }
        std::thread::sleep(pause);
    }
}

/// Steps done and wanted.
fn progress(record: &Record) -> (u64, u64) {
    let total = record.config.get("train.steps").and_then(|steps| steps.parse().ok());
    (record.steps(), total.unwrap_or(0))
}

fn line(record: &Record) -> String {
    let (done, total) = progress(record);
    format!("{} step {done}/{total} {}", record.status, crate::numbers(record))
}

fn screen(record: &Record) -> String {
    let (done, total) = progress(record);
    let share = if total > 0 { (done as f64 / total as f64).min(1.) } else { 0. };
    let filled = (40. * share).round() as usize;
    let mut text = format!(
        "{} {}\n{}  [{}{}] {done}/{total}  {:.0} %\n\n",
        record.experiment,
        record.name(),
        record.status,
        "█".repeat(filled),
        "░".repeat(40 - filled),
        100. * share
    );
    for split in ["train", "valid", "test"] {
        for metric in record.metrics(split) {
            let curve = record.curve(split, &metric);
            let Some((step, last)) = curve.last() else { continue };
            let _ = writeln!(
                text,
                "{split:5} {metric:28.28} {last:12.4} {} {step}",
                sparkline(&curve, 40)
            );
        }
    }
    text + "\nCtrl-C ends the watching, not the run\n"
}

/// A curve as wide as so many letters, each the mean of its share of the points.
pub(crate) fn sparkline(curve: &[(f64, f64)], width: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let width = width.min(curve.len());
    let means: Vec<f64> = (0..width)
        .map(|i| {
            let part = &curve[i * curve.len() / width..(i + 1) * curve.len() / width];
            part.iter().map(|(_, y)| y).sum::<f64>() / part.len() as f64
        })
        .collect();
    let low = means.iter().copied().fold(f64::INFINITY, f64::min);
    let high = means.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let bar = |y: &f64| {
        let share = if high > low { (y - low) / (high - low) } else { 0. };
        BARS[((share * 7.).round() as usize).min(7)]
    };
    means.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_goes_from_low_to_high() {
        let curve: Vec<(f64, f64)> = (0..80).map(|i| (f64::from(i), f64::from(i))).collect();
        assert_eq!(sparkline(&curve, 8), "▁▂▃▄▅▆▇█");
        assert_eq!(sparkline(&curve[..1], 8), "▁");
        assert_eq!(sparkline(&[], 8), "");
    }
}
