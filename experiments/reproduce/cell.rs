//! One cell under one seed, and what came out of it.
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use gumbel_sweep::Place;
use serde_json::Value;

use crate::results::{Numbers, Outcome, Row};
use crate::table::{Cell, Spending};

/// A cell under a seed.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) run: gumbel_sweep::Job,
    pub(crate) steps: u64,
}

impl Job {
    /// The cell under a seed, with the configuration that the program makes of it.
    pub(crate) fn new(
        place: &Place,
        table: &str,
        cell: &Cell,
        budget: &Spending,
        seed: u64,
    ) -> Result<Self> {
        let steps = format!("train.steps={}", budget.steps);
        let set = cell.set.iter().chain(&budget.set).cloned().chain([steps]).collect();
        let name = format!("{table}-{}", cell.name());
        Ok(Self { run: place.job(&cell.name(), &name, set, seed)?, steps: budget.steps })
    }

    /// The numbers of a run that is done.
    pub(crate) fn collect(&self, directory: &Path) -> Result<Row> {
        let read = |file: &str| {
            let path = directory.join(file);
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        let summary: Value = serde_json::from_str(&read("summary.json")?)?;
        if summary["steps"] != self.steps {
            bail!(
                "{} ended after {} steps, not {}",
                directory.display(),
                summary["steps"],
                self.steps
            )
        }
        let (seconds, commit) = (seconds(&read("timing.jsonl")?), commits(directory)?);
        let train = &summary["train"];
        if not_finite(&summary) || (train.is_object() && not_finite(train)) {
            return Ok(Row { seconds, commit, ..self.diverged() });
        }
        Ok(Row {
            outcome: Outcome::Done,
            test: Some(numbers(&summary)?),
            train: if train.is_object() { Some(numbers(train)?) } else { None },
            bounds: summary["objective_bounds"].as_str().unwrap_or("nothing").to_owned(),
            seconds,
            commit,
            ..self.diverged()
        })
    }

    /// The row of a run that came to numbers that are not finite.
    pub(crate) fn diverged(&self) -> Row {
        Row {
            cell: self.run.label.clone(),
            seed: self.run.seed,
            steps: self.steps,
            fingerprint: self.run.fingerprint.clone(),
            outcome: Outcome::Diverged,
            test: None,
            train: None,
            bounds: String::new(),
            seconds: 0.,
            commit: String::new(),
        }
    }
}

/// Whether a number is not one: what is not finite is written as null, and what there is not is left out, but for the ELBO of a
/// language model that infers nothing.
fn not_finite(summary: &Value) -> bool {
    let null = |key: &str| summary.get(key).is_some_and(Value::is_null);
    match summary.get("perplexity") {
        Some(_) => null("bound"),
        None => ["bound", "elbo", "objective"].into_iter().any(null),
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

/// The commits of a run's sessions, each once, with `+` where something was not committed.
fn commits(directory: &Path) -> Result<String> {
    let later = (1..).map(|session| format!("env-resume-{session}.json"));
    let files = std::iter::once("env.json".to_owned()).chain(later);
    let mut commits: Vec<String> = Vec::new();
    for file in files.map(|name| directory.join(name)).take_while(|file| file.is_file()) {
        let text =
            fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let environment: Value = serde_json::from_str(&text)?;
        let commit = environment["git_commit"].as_str().unwrap_or("unknown");
        let changed = if environment["git_dirty"] == true { "+" } else { "" };
        let commit = format!("{}{changed}", commit.get(..10).unwrap_or(commit));
        if !commits.contains(&commit) {
            commits.push(commit);
        }
    }
    Ok(commits.join(" "))
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
    fn what_is_not_finite_is_told_from_what_there_is_not() {
        let of = |text: &str| not_finite(&serde_json::from_str(text).unwrap());
        assert!(!of("{\"bound\": -1.0, \"elbo\": -2.0, \"objective\": -2.0}"));
        assert!(!of("{\"accuracy\": 0.5, \"elbo\": -2.0, \"objective\": -2.0}"));
        assert!(of("{\"bound\": -1.0, \"elbo\": -2.0, \"objective\": null}"));
        // A language model without latents, and one that diverged.
        assert!(!of("{\"perplexity\": 3.0, \"bound\": -2.0, \"elbo\": null}"));
        assert!(of("{\"perplexity\": null, \"bound\": null, \"elbo\": {\"mean\": null}}"));
    }

    #[test]
    fn every_commit_that_a_session_had_is_named_once() {
        let run = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(run.path().join(name), text).unwrap();
        write("env.json", "{\"git_commit\": \"0123456789abc\", \"git_dirty\": false}");
        assert_eq!(commits(run.path()).unwrap(), "0123456789");
        write("env-resume-1.json", "{\"git_commit\": \"0123456789abc\", \"git_dirty\": false}");
        write("env-resume-2.json", "{\"git_commit\": \"b\", \"git_dirty\": true}");
        assert_eq!(commits(run.path()).unwrap(), "0123456789 b+");
    }

    #[test]
    fn sessions_add_up() {
        let line = |seconds: f64| format!("{{\"step\":1,\"seconds\":{seconds}}}\n");
        let timing: String = [1., 2.5, 0.5, 4., 1.].map(line).concat();
        assert_eq!(seconds(&timing), 2.5 + 4. + 1.);
        assert_eq!(seconds(""), 0.);
    }
}
