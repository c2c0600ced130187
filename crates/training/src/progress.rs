//! How far a run is, for a person: a bar on a terminal, a line per interval elsewhere.
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// The bar that is on the screen.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Runs `write`, which writes to standard error, with the bar out of its way.
pub(crate) fn above_bar<R>(write: impl FnOnce() -> R) -> R {
    let bar = BAR.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Writes one line to standard error. Nobody may be there to read it, which is no error.
pub(crate) fn say(line: &str) {
    above_bar(|| {
        let _ = writeln!(io::stderr(), "{line}");
    });
}

/// The progress of a run from step `first` to step `total`.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
    first: u64,
    total: u64,
    examples_per_step: usize,
    started: Instant,
}

/// How fast a run is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pace {
    /// Seconds since this process started to train.
    pub(crate) seconds: f64,
    /// Examples per second since then.
    pub(crate) examples_per_second: f64,
    left: f64,
}

impl Progress {
    /// Starts at step `first`.
    pub(crate) fn start(quiet: bool, first: u64, total: u64, examples_per_step: usize) -> Self {
        let plain = std::env::var_os("CI").is_some_and(|v| !v.is_empty());
        let bar = (!quiet && !plain && io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new(total).with_position(first);
            let template = "{bar:16} {pos}/{len} {percent}% eta {eta} {wide_msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.reset_eta();
            bar
        });
        BAR.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&bar);
        Self { bar, quiet, first, total, examples_per_step, started: Instant::now() }
    }

    /// After each step.
    pub(crate) fn advance(&self, step: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(step);
        }
    }

    /// Shows the numbers of an interval that ends with `step` steps done.
    pub(crate) fn interval(&self, step: u64, numbers: &[(&str, f64)]) -> Pace {
        let elapsed = self.started.elapsed().as_secs_f64();
        let pace = pace(elapsed, self.first, step, self.total, self.examples_per_step);
        let line = line(step, self.total, numbers, pace);
        tracing::debug!("{line}");
        match &self.bar {
            Some(bar) => {
                let speed = short(pace.examples_per_second);
                bar.set_message(format!("| {speed} ex/s | {}", listed(numbers)));
            }
            None if !self.quiet => say(&line),
            None => {}
        }
        pace
    }

    /// Takes the bar away and says how it ended.
    pub(crate) fn finish(&self, line: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        BAR.lock().unwrap_or_else(PoisonError::into_inner).take();
        if !self.quiet {
            let elapsed = duration(self.started.elapsed().as_secs_f64());
            say(&format!("{line} (this session: {elapsed})"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            BAR.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }
}

fn pace(seconds: f64, first: u64, step: u64, total: u64, examples_per_step: usize) -> Pace {
    let done = step.saturating_sub(first) as f64;
    let per_second = done / seconds.max(1e-9);
    Pace {
        seconds,
        examples_per_second: per_second * examples_per_step as f64,
        left: total.saturating_sub(step) as f64 / per_second.max(1e-9),
    }
}

/// `step 1200/20000  6.0% | elbo -103.21 | tau 0.66 | 41.2k ex/s | eta 3m10s`
fn line(step: u64, total: u64, numbers: &[(&str, f64)], pace: Pace) -> String {
    let percent = 100. * step as f64 / total.max(1) as f64;
    format!(
        "step {step}/{total} {percent:4.1}% | {}{} ex/s | eta {}",
        listed(numbers),
        short(pace.examples_per_second),
        duration(pace.left)
    )
}

fn listed(numbers: &[(&str, f64)]) -> String {
    numbers.iter().map(|(name, value)| format!("{name} {} | ", significant(*value))).collect()
}

/// Five significant digits without trailing zeros; very large and very small numbers as 1.23e-7.
pub(crate) fn significant(x: f64) -> String {
    if x == 0. || !x.is_finite() {
        return format!("{x}");
    }
    let magnitude = x.abs().log10().floor();
    if !(-4. ..7.).contains(&magnitude) {
        return format!("{x:.3e}");
    }
    let decimals = (4. - magnitude).max(0.) as usize;
    let text = format!("{x:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// Three or four digits with a unit prefix: `41.2k`.
fn short(x: f64) -> String {
    match x {
        x if x >= 1e6 => format!("{:.1}M", x / 1e6),
        x if x >= 1e3 => format!("{:.1}k", x / 1e3),
        x if x >= 100. => format!("{x:.0}"),
        x => format!("{x:.1}"),
    }
}

/// `3m10s`, the two largest units.
pub(crate) fn duration(seconds: f64) -> String {
    // `as` saturates, so that a hopeless estimate is a large one.
    let s = Duration::from_secs(seconds.round() as u64).as_secs();
    match (s / 86_400, s / 3600 % 24, s / 60 % 60, s % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m{s:02}s"),
        (0, h, m, _) => format!("{h}h{m:02}m"),
        (d, h, _, _) => format!("{d}d{h:02}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_step_share_numbers_speed_and_time_left() {
        let pace = pace(12., 200, 1200, 20_000, 494);
        let numbers = [("elbo", -103.2099), ("tau", 0.66)];
        assert_eq!(
            line(1200, 20_000, &numbers, pace),
            "step 1200/20000  6.0% | elbo -103.21 | tau 0.66 | 41.2k ex/s | eta 3m46s"
        );
        assert_eq!(pace.seconds, 12.);
    }

    #[test]
    fn numbers_are_short_and_keep_five_digits() {
        for (x, text) in [
            (0., "0"),
            (-103.2099, "-103.21"),
            (0.5, "0.5"),
            (1., "1"),
            (100., "100"),
            (123_456.7, "123457"),
            (0.001_234_567, "0.0012346"),
            (1.5e-7, "1.500e-7"),
            (9.999_99e9, "1.000e10"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(significant(x), text);
        }
        assert_eq!([999., 12.34, 2.5e6, 41_200.].map(short), ["999", "12.3", "2.5M", "41.2k"]);
    }

    #[test]
    fn durations_have_two_units_and_never_overflow() {
        for (seconds, text) in [
            (0.4, "0s"),
            (59.6, "1m00s"),
            (190., "3m10s"),
            (3_725., "1h02m"),
            (90_000., "1d01h"),
            (f64::NAN, "0s"),
            (-5., "0s"),
        ] {
            assert_eq!(duration(seconds), text);
        }
        assert!(duration(f64::INFINITY).contains('d'));
        assert!(line(0, 0, &[], pace(0., 0, 0, 0, 0)).starts_with("step 0/0  0.0%"));
    }
}
