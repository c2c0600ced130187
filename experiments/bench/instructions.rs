//! How many instructions each operation takes: a measure that does not depend on what else the machine does.
//!
//! Valgrind runs this program once for each operation, on one thread, and counts the instructions of one pass. The
//! counts are compared with those of a file.
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::operations::{Flops, Operation, Prepared, matching};
use crate::say;

/// Relative difference from the file that is still taken for the same.
const TOLERANCE: f64 = 0.05;

/// The first word of the line of the file that names the vector unit.
const UNIT: &str = "vector-unit";

/// One pass of the operation of that title, for Valgrind to count.
pub(crate) fn pass(title: &str) -> Result<()> {
    // Valgrind collects on the thread that enters the counted function: let it be the only one.
    rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global()?;
    gumbel_kernels::threads::configure(1);
    let exact = |operation: &Operation| operation.title() == title;
    let operation = matching(title).into_iter().find(exact);
    let operation = operation.with_context(|| format!("there is no operation `{title}`"))?;
    let prepared = Prepared::new(&operation)?;
    counted_pass(&prepared, &operation)?;
    say(gumbel_kernels::vector_unit());
    Ok(())
}

/// Valgrind finds it by this name.
#[inline(never)]
fn counted_pass(prepared: &Prepared, operation: &Operation) -> candle_core::Result<()> {
    std::hint::black_box(prepared).run(operation.fused)
}

/// Counts the instructions of every operation; writes them to `file`, or compares them with it.
///
/// # Errors
/// If a count differs by more than 5 %, an operation is new or gone, or Valgrind fails. Without Valgrind, or with
/// another vector unit than that of the file, it says so and compares nothing.
pub(crate) fn check(file: &Path, update: bool) -> Result<()> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        say("skipped: valgrind is not installed");
        return Ok(());
    }
    let text = if update { String::new() } else { read(file)? };
    let (mut unit, mut counts) = (String::new(), BTreeMap::new());
    for operation in matching("").into_iter().filter(countable) {
        let count;
        (unit, count) = count_instructions(&operation.title())?;
        say(&format!("{count:>12} {}", operation.title()));
        if !update && !text.contains(&format!("{UNIT} {unit}\n")) {
            say(&format!("skipped: {} is not for the vector unit {unit}", file.display()));
            return Ok(());
        }
        counts.insert(operation.title(), count);
    }
    if update {
        let text = format(&unit, &counts)?;
        return fs::write(file, text).with_context(|| format!("writing {}", file.display()));
    }
    let complaints = differences(&parse(&text)?, &counts);
    ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
    say("every count is within 5 % of the file");
    Ok(())
}

/// Valgrind computes a fused multiply-add in software: minutes where there are many.
fn countable(operation: &Operation) -> bool {
    !matches!(operation.flops, Flops::Total(flops) if flops > 1e10)
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))
}

/// The vector unit under Valgrind, and the instructions of one pass.
fn count_instructions(title: &str) -> Result<(String, u64)> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(["--collect-atstart=no", "--toggle-collect=*counted_pass*"])
        .arg(std::env::current_exe()?)
        .args(["--count", title])
        .output()?;
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{title}: {stdout}{stderr}");
    let collected = stderr.lines().find_map(|line| line.split_once("Collected :"));
    let count = collected.and_then(|(_, count)| count.trim().parse().ok());
    match count {
        None | Some(0) => bail!("{title}: valgrind counted nothing:\n{stderr}"),
        Some(count) => Ok((stdout.trim().to_owned(), count)),
    }
}

fn format(unit: &str, counts: &BTreeMap<String, u64>) -> Result<String> {
    let mut text = String::from(
        "# Instructions of one pass of each operation on one thread, counted by valgrind.\n\
         # Made by `just instructions --update`; compared within 5 % by `just instructions`.\n",
    );
    writeln!(text, "{UNIT} {unit}")?;
    for (title, count) in counts {
        writeln!(text, "{count:>12} {title}")?;
    }
    Ok(text)
}

fn parse(text: &str) -> Result<BTreeMap<String, u64>> {
    let entries = text.lines().filter(|line| !line.starts_with('#') && !line.starts_with(UNIT));
    entries
        .map(|line| {
            let (count, title) = line.trim().split_once(' ').unwrap_or((line, ""));
            let count = count.parse().with_context(|| format!("no count in the line `{line}`"))?;
            Ok((title.to_owned(), count))
        })
        .collect()
}

/// What differs between the counts of the file and those of this program, in words.
fn differences(file: &BTreeMap<String, u64>, counts: &BTreeMap<String, u64>) -> Vec<String> {
    let gone = file.keys().filter(|title| !counts.contains_key(*title));
    let gone = gone.map(|title| format!("{title}: in the file, and no operation any more"));
    let changed = counts.iter().filter_map(|(title, count)| {
        let Some(before) = file.get(title) else {
            return Some(format!("{title}: not in the file"));
        };
        let change = *count as f64 / *before as f64 - 1.;
        (change.abs() > TOLERANCE).then(|| {
            format!("{title}: {count} instructions, {before} before ({:+.1} %)", 100. * change)
        })
    });
    gone.chain(changed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(entries: &[(&str, u64)]) -> BTreeMap<String, u64> {
        entries.iter().map(|(title, count)| ((*title).to_owned(), *count)).collect()
    }

    #[test]
    fn a_file_of_counts_reads_back() -> Result<()> {
        let counts = counts(&[("gumbel_softmax soft 3000x10", 123_456), ("linear", 7)]);
        assert_eq!(parse(&format("avx2", &counts)?)?, counts);
        assert!(parse("many linear").is_err());
        Ok(())
    }

    #[test]
    fn only_differences_above_five_per_cent_are_complaints() {
        let file = counts(&[("a", 1000), ("b", 1000), ("c", 1000), ("gone", 1)]);
        let now = counts(&[("a", 1049), ("b", 1051), ("c", 900), ("new", 1)]);
        let complaints = differences(&file, &now);
        for (complaint, part) in complaints.iter().zip(["gone", "b: 1051", "c: 900", "new"]) {
            assert!(complaint.contains(part), "{complaint}");
        }
        assert_eq!(complaints.len(), 4, "{complaints:?}");
    }
}
