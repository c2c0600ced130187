//! What came of a sweep, in one place.
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use gumbel_experiments::{say, write_and_say};
use gumbel_report::{Comparison, Record, csv_line, distinct};
use gumbel_sweep::{Job, State, Sweep};

/// Writes `runs.csv`, a line for each case; `groups.csv` and `compare.html`, seeds together.
pub(crate) fn collect(sweep: &Sweep, jobs: &[(Job, State)], out: &Path, split: &str) -> Result<()> {
    let mut records = Vec::new();
    for (_, state) in jobs {
        records.push(match state {
            State::Missing => None,
            State::Done(directory) | State::Begun(directory) => match Record::read(directory) {
                Ok(record) => Some(record),
                // A damaged run does not hide the others.
                Err(error) => {
                    say(&format!("left out: {error}"));
                    None
                }
            },
        });
    }
    let folder = out.join("sweeps").join(gumbel_sweep::plain(&sweep.name));
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    write_and_say(&folder.join("runs.csv"), &runs(sweep, &records, split))?;
    let done = |record: &Record| record.status == "done";
    let comparison = Comparison::new(records.into_iter().flatten().filter(done).collect());
    write_and_say(&folder.join("groups.csv"), &comparison.csv(split))?;
    write_and_say(&folder.join("compare.html"), &comparison.page(split)?)
}

/// A line for each case: what it is, how it stands, its last numbers.
fn runs(sweep: &Sweep, records: &[Option<Record>], split: &str) -> String {
    let metrics = distinct(records.iter().flatten().flat_map(|record| record.metrics(split)));
    let mut head = vec!["index".to_owned()];
    head.extend(sweep.keys.iter().cloned());
    head.extend(["seed", "status", "steps"].map(str::to_owned));
    head.extend(metrics.iter().cloned());
    head.push("directory".to_owned());
    let mut text = csv_line(&head);
    for (index, (case, record)) in sweep.cases.iter().zip(records).enumerate() {
        let mut line = vec![index.to_string()];
        line.extend(case.values.iter().cloned());
        line.push(case.seed.to_string());
        line.push(record.as_ref().map_or("not begun", |record| &record.status).to_owned());
        line.push(record.as_ref().map_or(0, Record::steps).to_string());
        for metric in &metrics {
            let last = record.as_ref().and_then(|record| record.last(split, metric));
            line.push(last.map_or_else(String::new, |number| number.to_string()));
        }
        line.push(record.as_ref().map_or_else(String::new, |r| r.directory.display().to_string()));
        text += &csv_line(&line);
    }
    text
}
