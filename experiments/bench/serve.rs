//! The line protocol by which programs in different languages are compared.
//!
//! A line of JSON when the program is ready; then for each line `<workload> <seconds>` that it reads, a line
//! `{"w": …, "ms": [… of each step], "loss": …}`, or `{"w": …, "error": …}`.
use std::collections::BTreeMap;
use std::io::BufRead;
use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::Device;
use gumbel_training::Precision;
use serde_json::{Value, json};

use crate::say;
use crate::workloads::{Workload, by_name};

/// A workload runs at least so often, however short the time.
const LEAST_STEPS: usize = 5;

/// What a new workload runs for before it is timed, in seconds.
const WARM_UP: f64 = 0.5;

/// Times of the steps in milliseconds, and the last loss.
#[derive(Debug)]
pub(crate) struct Times {
    pub(crate) ms: Vec<f64>,
    loss: f64,
}

/// What the workloads are run on and in.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) device: Device,
    pub(crate) precision: Precision,
}

impl Setting {
    fn repeat(&self, workload: &mut dyn Workload, seconds: f64) -> Result<Times> {
        let mut times = Times { ms: Vec::new(), loss: 0. };
        let start = Instant::now();
        while times.ms.len() < LEAST_STEPS || start.elapsed().as_secs_f64() < seconds {
            let begin = Instant::now();
            times.loss = self.precision.compute(|| workload.step())?;
            self.device.synchronize()?;
            times.ms.push(begin.elapsed().as_secs_f64() * 1e3);
        }
        Ok(times)
    }
}

/// The workloads that were asked for, warm.
pub(crate) struct Server {
    setting: Setting,
    warm: BTreeMap<String, Box<dyn Workload>>,
}

impl Server {
    pub(crate) fn new(setting: Setting) -> Self {
        Self { setting, warm: BTreeMap::new() }
    }

    /// Runs a workload for so many seconds.
    pub(crate) fn run(&mut self, name: &str, seconds: f64) -> Result<Times> {
        if !self.warm.contains_key(name) {
            let mut workload = by_name(name, &self.setting.device)?;
            self.setting.repeat(&mut *workload, WARM_UP)?;
            self.warm.insert(name.to_owned(), workload);
        }
        let workload = self.warm.get_mut(name).context("the workload was just made")?;
        self.setting.repeat(&mut **workload, seconds)
    }

    /// The answer to one line.
    fn answer(&mut self, line: &str) -> Value {
        let name = line.split_whitespace().next().unwrap_or_default();
        match request(line).and_then(|(name, seconds)| self.run(name, seconds)) {
            Ok(times) => json!({ "w": name, "ms": times.ms, "loss": times.loss }),
            Err(error) => json!({ "w": name, "error": format!("{error:#}") }),
        }
    }
}

fn request(line: &str) -> Result<(&str, f64)> {
    let mut words = line.split_whitespace();
    let (Some(name), Some(seconds), None) = (words.next(), words.next(), words.next()) else {
        anyhow::bail!("a request is `<workload> <seconds>`, got `{line}`")
    };
    let seconds =
        seconds.parse().with_context(|| format!("seconds are a number, got {seconds}"))?;
    Ok((name, seconds))
}

/// Answers requests until the input ends.
pub(crate) fn serve(setting: Setting, threads: usize, input: impl BufRead) -> Result<()> {
    let on = setting.device.location();
    let mut server = Server::new(setting);
    let version = env!("CARGO_PKG_VERSION");
    let ready =
        format!("gumbel {version}, {on:?}, {}, {threads} threads", gumbel_kernels::vector_unit());
    say(&json!({ "ready": ready }).to_string());
    for line in input.lines() {
        say(&server.answer(&line?).to_string());
    }
    Ok(())
}

/// Runs one workload and says its median, least and largest time.
pub(crate) fn once(setting: Setting, name: &str, seconds: f64) -> Result<()> {
    let Times { mut ms, loss } = Server::new(setting).run(name, seconds)?;
    ms.sort_by(f64::total_cmp);
    let (n, at) = (ms.len(), |i: usize| ms.get(i).copied());
    let line = json!({
        "w": name, "n": n, "median": at(n / 2), "min": at(0), "max": at(n.saturating_sub(1)), "loss": loss
    });
    say(&line.to_string());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        Server::new(Setting { device: Device::Cpu, precision: Precision::Single })
    }

    #[test]
    fn a_request_is_answered_with_times_and_loss() {
        let answer = server().answer("W3c 0");
        assert_eq!((&answer["w"], &answer["loss"]), (&json!("W3c"), &json!(0.)));
        let times = answer["ms"].as_array().unwrap();
        assert!(times.len() == LEAST_STEPS && times.iter().all(|ms| ms.as_f64().unwrap() > 0.));
    }

    #[test]
    fn a_request_that_cannot_be_met_is_answered_with_an_error() {
        for (line, part) in [("W9 1", "`W9`"), ("W1", "<workload> <seconds>"), ("W1 x", "got x")] {
            let answer = server().answer(line);
            assert!(answer["error"].as_str().unwrap().contains(part), "{answer}");
            assert!(answer.get("ms").is_none());
        }
    }
}
