//! What came out, run by run: a file that is kept, and says for each cell and seed whether it is done.
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use gumbel_experiments::write_whole;

/// Averages over a split, nats per image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Numbers {
    /// Samples of the bound.
    pub(crate) samples: u64,
    /// Of the discrete model.
    pub(crate) bound: f64,
    /// Of the discrete model, one sample.
    pub(crate) elbo: f64,
    /// The training objective.
    pub(crate) objective: f64,
    /// Share of images whose class is found, where that is asked for.
    pub(crate) accuracy: Option<f64>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// The loss or a parameter was not finite any more.
    Diverged,
}

/// A run that has ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) cell: String,
    pub(crate) seed: u64,
    pub(crate) steps: u64,
    /// Of the configuration.
    pub(crate) fingerprint: String,
    pub(crate) outcome: Outcome,
    pub(crate) test: Option<Numbers>,
    pub(crate) train: Option<Numbers>,
    /// What the objective is a bound of.
    pub(crate) bounds: String,
    pub(crate) seconds: f64,
    pub(crate) commit: String,
}

const HEAD: &str = "cell,seed,steps,config,outcome,test_samples,test_bound,test_elbo,test_objective,test_accuracy,\
                    train_samples,train_bound,train_elbo,train_objective,train_accuracy,objective_bounds,seconds,commit";

/// The runs that have ended, in a file of comma-separated values.
#[derive(Debug)]
pub(crate) struct Results {
    file: PathBuf,
    rows: Vec<Row>,
    /// Cells and seeds whose run was under a configuration that the table has no more.
    earlier: BTreeSet<(String, u64)>,
}

impl Results {
    /// Those of the file, or none where there is no file yet.
    pub(crate) fn open(file: &Path) -> Result<Self> {
        let text = if file.exists() {
            fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?
        } else {
            HEAD.to_owned()
        };
        let mut lines = text.lines();
        if lines.next() != Some(HEAD) {
            bail!("{} has other columns; move it away", file.display())
        }
        let rows = lines.map(Row::parse).collect::<Result<_>>();
        let rows = rows.with_context(|| file.display().to_string())?;
        Ok(Self { file: file.to_owned(), rows, earlier: BTreeSet::new() })
    }

    /// Finds the runs of earlier configurations; `fingerprint` is that of a cell under a seed now, of a cell that there is.
    pub(crate) fn compare(
        &mut self,
        mut fingerprint: impl FnMut(&str, u64) -> Result<Option<String>>,
    ) -> Result<()> {
        for row in &self.rows {
            let now = fingerprint(&row.cell, row.seed)?;
            if now.is_some_and(|now| now != row.fingerprint) {
                self.earlier.insert((row.cell.clone(), row.seed));
            }
        }
        Ok(())
    }

    /// Whether a run is one of an earlier configuration.
    pub(crate) fn is_earlier(&self, row: &Row) -> bool {
        self.earlier.contains(&(row.cell.clone(), row.seed))
    }

    /// How a run ended: a cell under a seed and a configuration.
    pub(crate) fn outcome(&self, cell: &str, seed: u64, fingerprint: &str) -> Option<Outcome> {
        let of =
            |row: &&Row| (&*row.cell, row.seed, &*row.fingerprint) == (cell, seed, fingerprint);
        self.rows.iter().find(of).map(|row| row.outcome)
    }

    /// Adds a run, in place of one of the same cell and seed under another configuration.
    pub(crate) fn add(&mut self, row: Row) {
        self.rows.retain(|other| (&other.cell, other.seed) != (&row.cell, row.seed));
        self.earlier.remove(&(row.cell.clone(), row.seed));
        self.rows.push(row);
        self.rows.sort_by(|a, b| (&a.cell, a.seed).cmp(&(&b.cell, b.seed)));
    }

    /// The runs of a cell that count: those of its present settings, or those of earlier ones while there are no others.
    pub(crate) fn of(&self, cell: &str) -> Vec<&Row> {
        let rows = || self.rows.iter().filter(|row| row.cell == cell);
        let present: Vec<&Row> = rows().filter(|row| !self.is_earlier(row)).collect();
        if present.is_empty() { rows().collect() } else { present }
    }

    /// Writes the file.
    pub(crate) fn save(&self) -> Result<()> {
        if let Some(folder) = self.file.parent() {
            fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        let lines: Vec<String> = self.rows.iter().map(Row::to_string).collect();
        let text = format!("{HEAD}\n{}\n", lines.join("\n"));
        write_whole(&self.file, &(text.trim_end().to_owned() + "\n"))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = |numbers: Option<Numbers>| match numbers {
            Some(Numbers { samples, bound, elbo, objective, accuracy }) => {
                let accuracy = accuracy.map_or_else(String::new, |share| format!("{share:.4}"));
                format!("{samples},{bound:.4},{elbo:.4},{objective:.4},{accuracy}")
            }
            None => ",,,,".to_owned(),
        };
        let outcome = match self.outcome {
            Outcome::Done => "done",
            Outcome::Diverged => "diverged",
        };
        let Self { cell, seed, steps, fingerprint, test, train, bounds, seconds, commit, .. } =
            self;
        let (test, train) = (numbers(*test), numbers(*train));
        write!(
            f,
            "{cell},{seed},{steps},{fingerprint},{outcome},{test},{train},{bounds},{seconds:.0},{commit}"
        )
    }
}

impl Row {
    fn parse(line: &str) -> Result<Self> {
        let fields: Vec<&str> = line.split(',').collect();
        let [cell, seed, steps, config, outcome, rest @ ..] = &fields[..] else {
            bail!("a short line: {line}")
        };
        let [t0, t1, t2, t3, t4, r0, r1, r2, r3, r4, bounds, seconds, commit] = rest else {
            bail!("a line with {} fields: {line}", fields.len())
        };
        let numbers =
            |[samples, bound, elbo, objective, accuracy]: [&str; 5]| -> Result<Option<Numbers>> {
                if samples.is_empty() {
                    return Ok(None);
                }
                Ok(Some(Numbers {
                    samples: samples.parse()?,
                    bound: bound.parse()?,
                    elbo: elbo.parse()?,
                    objective: objective.parse()?,
                    accuracy: if accuracy.is_empty() { None } else { Some(accuracy.parse()?) },
                }))
            };
        Ok(Self {
            cell: (*cell).to_owned(),
            seed: seed.parse()?,
            steps: steps.parse()?,
            fingerprint: (*config).to_owned(),
            outcome: match *outcome {
                "done" => Outcome::Done,
                "diverged" => Outcome::Diverged,
                other => bail!("no outcome is called `{other}`"),
            },
            test: numbers([t0, t1, t2, t3, t4])?,
            train: numbers([r0, r1, r2, r3, r4])?,
            bounds: (*bounds).to_owned(),
            seconds: seconds.parse()?,
            commit: (*commit).to_owned(),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn row(cell: &str, seed: u64, elbo: f64) -> Row {
        Row {
            cell: cell.into(),
            seed,
            steps: 10,
            fingerprint: "abc".into(),
            outcome: Outcome::Done,
            test: Some(Numbers {
                samples: 5,
                bound: elbo + 1.,
                elbo,
                objective: elbo + 2.,
                accuracy: (seed == 1).then_some(0.5),
            }),
            train: None,
            bounds: "nothing".into(),
            seconds: 60.,
            commit: "0123456789".into(),
        }
    }

    #[test]
    fn what_is_saved_is_there_the_next_time() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("results").join("t.csv");
        let mut results = Results::open(&file).unwrap();
        results.add(row("b/x", 1, -3.25));
        results.add(row("a/x", 2, -1.));
        results.add(Row { test: None, outcome: Outcome::Diverged, ..row("a/x", 2, 0.) });
        results.save().unwrap();
        let again = Results::open(&file).unwrap();
        assert_eq!(again.rows, results.rows);
        assert_eq!(again.rows.iter().map(|r| r.cell.as_str()).collect::<Vec<_>>(), ["a/x", "b/x"]);
        assert_eq!(again.of("a/x")[0].outcome, Outcome::Diverged);
        fs::write(&file, "something else\n").unwrap();
        assert!(Results::open(&file).unwrap_err().to_string().contains("move it away"));
    }
}
