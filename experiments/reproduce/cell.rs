//! One cell under one seed: its run, and what came out of it.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use gumbel_training::Run;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::results::{Numbers, Outcome, Row};
use crate::table::{Cell, Experiment, Spending, plain};

/// Where a table is computed.
#[derive(Debug)]
pub(crate) struct Place {
    experiment: &'static str,
    program: PathBuf,
    table: String,
    config: PathBuf,
    out: PathBuf,
    data_dir: Option<PathBuf>,
}

/// A cell under a seed.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) cell: String,
    pub(crate) seed: u64,
    pub(crate) steps: u64,
    /// First digits of the SHA-256 of the resolved configuration.
    pub(crate) fingerprint: String,
    /// The resolved configuration.
    config: String,
    set: Vec<String>,
}

/// How far a job is.
#[derive(Debug)]
pub(crate) enum State {
    Done(PathBuf),
    Begun(PathBuf),
    Missing,
}

impl Place {
    pub(crate) fn new(
        experiment: Experiment,
        (table, config): (&str, &str),
        out: &Path,
        data_dir: Option<PathBuf>,
    ) -> Result<Self> {
        let experiment = experiment.name();
        let file = format!("{experiment}{}", std::env::consts::EXE_SUFFIX);
        let program = std::env::current_exe()?.with_file_name(file);
        ensure!(
            program.is_file(),
            "{} is not there; build it with `cargo build --release --locked --bin {experiment}`",
            program.display()
        );
        fs::create_dir_all(out).with_context(|| format!("creating {}", out.display()))?;
        let file = out.join(format!("{table}.toml"));
        fs::write(&file, config).with_context(|| format!("writing {}", file.display()))?;
        Ok(Self {
            experiment,
            program,
            table: table.to_owned(),
            config: file,
            out: out.to_owned(),
            data_dir,
        })
    }

    /// The cell under a seed, with the configuration that the program makes of it.
    pub(crate) fn job(&self, cell: &Cell, budget: &Spending, seed: u64) -> Result<Job> {
        let set: Vec<String> = cell.set.iter().chain(&budget.set).cloned().collect();
        let mut job = Job {
            cell: cell.name(),
            seed,
            steps: budget.steps,
            fingerprint: String::new(),
            config: String::new(),
            set,
        };
        let output = self.fresh(&job).arg("--print-config").stderr(Stdio::piped()).output()?;
        let message = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {message}", job.cell);
        job.config = String::from_utf8(output.stdout)?;
        let digest = Sha256::digest(&job.config);
        job.fingerprint = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Ok(job)
    }

    fn fresh(&self, job: &Job) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(&self.config).arg("--out").arg(&self.out);
        command.args(["--name", &self.run_name(job)]);
        command.args(job.set.iter().flat_map(|set| ["--set", set]));
        command.args(["--seed", &job.seed.to_string(), "--steps", &job.steps.to_string()]);
        command
    }

    /// The name of the run: `table-row-column`, as plain words, no longer than a name may be. Runs of cells that share the
    /// beginning differ in their configuration.
    fn run_name(&self, job: &Job) -> String {
        plain(&format!("{}-{}", self.table, job.cell)).chars().take(Run::LONGEST_NAME).collect()
    }

    /// The command that starts a job, or goes on with it.
    pub(crate) fn command(&self, job: &Job, state: &State, threads: usize) -> Command {
        let mut command = self.fresh(job);
        if let State::Begun(directory) = state {
            command = Command::new(&self.program);
            command.arg("--resume").arg(directory);
        }
        if let Some(data_dir) = &self.data_dir {
            command.arg("--data-dir").arg(data_dir);
        }
        command.args(["--quiet", "--threads", &threads.to_string()]).stdout(Stdio::null());
        command
    }

    /// Looks for the run of a job: one of its name, seed and configuration.
    pub(crate) fn state(&self, job: &Job) -> Result<State> {
        let parent = self.out.join(self.experiment);
        let stem = format!("-{}-s{}-", self.run_name(job), job.seed);
        let mut state = State::Missing;
        let Ok(entries) = fs::read_dir(&parent) else { return Ok(state) };
        for entry in entries {
            let path = entry.with_context(|| format!("reading {}", parent.display()))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // 15 characters of date and time before, 6 digits after.
            let ours = name.len() == 15 + stem.len() + 6
                && name.get(15..).is_some_and(|rest| rest.starts_with(&stem));
            let text = |file: &str| fs::read_to_string(path.join(file)).unwrap_or_default();
            if !ours || text("config.toml") != job.config {
                continue;
            }
            if text("STATUS") == "done\n" && path.join("summary.json").is_file() {
                return Ok(State::Done(path));
            }
            if !text("STATUS").starts_with("failed") {
                state = State::Begun(path);
            }
        }
        Ok(state)
    }
}

impl Job {
    /// The numbers of a run that is done.
    pub(crate) fn collect(&self, directory: &Path) -> Result<Row> {
        let read = |file: &str| {
            let path = directory.join(file);
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        let summary: Value = serde_json::from_str(&read("summary.json")?)?;
        let environment: Value = serde_json::from_str(&read("env.json")?)?;
        let commit = environment["git_commit"].as_str().unwrap_or("unknown");
        let changed = if environment["git_dirty"] == true { "+" } else { "" };
        if summary["steps"] != self.steps {
            bail!(
                "{} ended after {} steps, not {}",
                directory.display(),
                summary["steps"],
                self.steps
            )
        }
        Ok(Row {
            outcome: Outcome::Done,
            test: Some(numbers(&summary)?),
            train: if summary["train"].is_object() {
                Some(numbers(&summary["train"])?)
            } else {
                None
            },
            bounds: summary["objective_bounds"].as_str().unwrap_or("nothing").to_owned(),
            seconds: seconds(&read("timing.jsonl")?),
            commit: format!("{}{changed}", commit.get(..10).unwrap_or(commit)),
            ..self.diverged()
        })
    }

    /// The row of a run that came to numbers that are not finite.
    pub(crate) fn diverged(&self) -> Row {
        Row {
            cell: self.cell.clone(),
            seed: self.seed,
            steps: self.steps,
            fingerprint: self.fingerprint.clone(),
            outcome: Outcome::Diverged,
            test: None,
            train: None,
            bounds: String::new(),
            seconds: 0.,
            commit: String::new(),
        }
    }
}

/// Those of a language model: no samples where the likelihood is exact.
fn language(summary: &Value) -> Result<Numbers> {
    let bound = summary["bound"].as_f64().context("no `bound` in the summary")?;
    let elbo = summary["elbo"]["mean"].as_f64().unwrap_or(bound);
    Ok(Numbers {
        samples: summary["samples"].as_u64().unwrap_or(0),
        bound,
        elbo,
        objective: elbo,
        accuracy: summary["codes"]["normalised_mutual_information"].as_f64(),
    })
}

fn numbers(summary: &Value) -> Result<Numbers> {
    let number =
        |key: &str| summary[key].as_f64().with_context(|| format!("no `{key}` in the summary"));
    if summary["perplexity"].is_number() {
        return language(summary);
    }
    let accuracy = summary["accuracy"].as_f64();
    // A classifier is judged by its accuracy and the bound of one sample.
    let (samples, bound) = match accuracy {
        Some(_) => (1., number("elbo")?),
        None => (number("samples")?, number("bound")?),
    };
    Ok(Numbers {
        samples: samples as u64,
        bound,
        elbo: number("elbo")?,
        objective: number("objective")?,
        accuracy,
    })
}

/// Time of all sessions of a run; each counts from its own start.
fn seconds(timing: &str) -> f64 {
    let (mut before, mut latest) = (0., 0.);
    for line in timing.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        let now = line["seconds"].as_f64().unwrap_or(latest);
        if now < latest {
            before += latest;
        }
        latest = now;
    }
    before + latest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_add_up() {
        let line = |seconds: f64| format!("{{\"step\":1,\"seconds\":{seconds}}}\n");
        let timing: String = [1., 2.5, 0.5, 4., 1.].map(line).concat();
        assert_eq!(seconds(&timing), 2.5 + 4. + 1.);
        assert_eq!(seconds(""), 0.);
    }
}
