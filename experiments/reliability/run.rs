//! A run as it lies in its directory: what is looked at after something was done to its program.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use gumbel_training::checkpoint::Checkpoint;
use sha2::{Digest, Sha256};

/// The complete lines of `metrics.jsonl`.
pub(crate) fn lines(run: &Path) -> Vec<String> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    let complete = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
    complete.lines().map(str::to_owned).collect()
}

/// The last step that a run has written down.
pub(crate) fn last_step(run: &Path) -> u64 {
    lines(run).last().and_then(|line| step_of(line)).unwrap_or(0)
}

/// The step of a line of `metrics.jsonl`.
pub(crate) fn step_of(line: &str) -> Option<u64> {
    line.strip_prefix("{\"step\":")?.split(',').next()?.parse().ok()
}

/// Steps of the checkpoints that are there, in order.
pub(crate) fn steps_of_checkpoints(run: &Path) -> Vec<u64> {
    let names = names(&run.join("checkpoints"));
    let step = |name: &String| name.strip_prefix("step-")?.parse().ok();
    let mut steps: Vec<u64> = names.iter().filter_map(step).collect();
    steps.sort_unstable();
    steps
}

/// The newest checkpoint; a complaint for each that is not whole.
pub(crate) fn look_at_checkpoints(run: &Path) -> (Option<u64>, Vec<String>) {
    let steps = steps_of_checkpoints(run);
    let torn = steps.iter().filter_map(|step| {
        let directory = run.join("checkpoints").join(format!("step-{step}"));
        Checkpoint::load(&directory).err().map(|error| format!("torn: {error}"))
    });
    (steps.last().copied(), torn.collect())
}

/// Cuts the newest checkpoint short, as a program would leave it that writes in place.
pub(crate) fn tear_newest_checkpoint(run: &Path) -> Result<()> {
    if let Some(step) = steps_of_checkpoints(run).last() {
        let model = run.join(format!("checkpoints/step-{step}/model.safetensors"));
        let bytes = fs::read(&model)?;
        fs::write(&model, bytes.get(..bytes.len() / 2).unwrap_or_default())?;
    }
    Ok(())
}

/// Names in a directory, sorted; none where there is no directory.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// The first line of `STATUS`.
pub(crate) fn status(run: &Path) -> String {
    fs::read_to_string(run.join("STATUS")).unwrap_or_default().trim_end().to_owned()
}

/// SHA-256 of every file that must not depend on how a run got to step `last`.
pub(crate) fn science(run: &Path, last: u64) -> Result<BTreeMap<String, String>> {
    let mut files: Vec<String> =
        ["metrics.jsonl", "summary.json", "citations.bib"].map(str::to_owned).into();
    for folder in ["samples".to_owned(), format!("checkpoints/step-{last}")] {
        files.extend(names(&run.join(&folder)).iter().map(|name| format!("{folder}/{name}")));
    }
    ensure!(files.len() > 6, "{} has too few files: {files:?}", run.display());
    files
        .into_iter()
        .map(|name| {
            let bytes = fs::read(run.join(&name)).with_context(|| format!("reading {name}"))?;
            Ok((name, Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()))
        })
        .collect()
}

/// Names of files that differ, or are in one of the two only.
pub(crate) fn differences(
    a: &BTreeMap<String, String>,
    b: &BTreeMap<String, String>,
) -> Vec<String> {
    let all: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    all.into_iter().filter(|name| a.get(*name) != b.get(*name)).cloned().collect()
}

/// Copies a directory with everything in it.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
