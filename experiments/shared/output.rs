//! Standard output: what a script reads from the program.
use std::io::{ErrorKind, Write, stdout};
use std::path::Path;

use anyhow::Context;
use gumbel_training::{Error, Result, Run, world};
use serde::Serialize;

/// Writes the result of a run, `summary.json`, and gives it back; where there is none, says that nothing was left to do.
///
/// Nothing in a process that only helps another one.
pub fn write_summary<'a, S: Serialize>(run: &Run, summary: Option<&'a S>) -> Result<Option<&'a S>> {
    if !run.leads() {
        return Ok(None);
    }
    match summary {
        None => print(&format!("nothing was left to do: {}\n", run.directory().display()))?,
        Some(summary) => {
            let json =
                serde_json::to_vec_pretty(summary).map_err(|error| Error::caller(70, error))?;
            run.write_file("summary.json", &json)?;
        }
    }
    Ok(summary)
}

/// Writes the course of a run, `course.svg`, and its page, `report.html`, with `more` sections (title and HTML) of the experiment's own.
pub fn write_report(run: &Run, more: &[(&str, String)]) -> Result<()> {
    let failed = |error: gumbel_report::Error| Error::caller(error.exit_code(), error);
    let mut record = gumbel_report::Record::read(run.directory()).map_err(failed)?;
    // The run says so itself when its last file, which is this page, is there.
    "done".clone_into(&mut record.status);
    let page = gumbel_report::run_page(&record, more).map_err(failed)?;
    if let Some(svg) = gumbel_report::course(&record).map_err(failed)? {
        run.write_file("course.svg", svg.as_bytes())?;
    }
    run.write_file("report.html", page.as_bytes()).map(drop)
}

/// What stands before a result on data that the program made, so that nobody takes it for another.
#[must_use]
pub fn mark(synthetic: bool) -> &'static str {
    if synthetic { "SYNTHETIC " } else { "" }
}

/// Prints the result of a run and where it is: its last lines.
pub fn print_result(run: &Run, result: &str) -> Result<()> {
    let directory = run.directory().display();
    print(&format!(
        "{result}\n\
         in {directory}: report.html, samples/, metrics.jsonl, summary.json; go on with --resume {directory} --steps N\n"
    ))
}

/// A line to standard output. Where no one reads any more there is nothing to say.
pub fn say(line: &str) {
    let _ = writeln!(stdout(), "{line}");
}

/// Writes a file, and says where it is.
pub fn write_and_say(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    say(&format!("in {}", path.display()));
    Ok(())
}

/// Writes a text into a file, whole or not at all.
pub fn write_whole(file: &Path, text: &str) -> anyhow::Result<()> {
    whole_or_none(file, |fresh| Ok(std::fs::write(fresh, text)?))
}

/// A file as `write` leaves it under another name, or what was there before.
pub fn whole_or_none(
    file: &Path,
    write: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let fresh = file.with_added_extension("tmp");
    write(&fresh)
        .and_then(|()| Ok(std::fs::rename(&fresh, file)?))
        .with_context(|| format!("writing {}", file.display()))
}

/// An error and what led to it, each thing said once.
#[must_use]
pub fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            text = if text.is_empty() { cause } else { format!("{text}: {cause}") };
        }
    }
    text
}

/// Prints `text`, where several processes train together only from the first. A reader that has gone away is no error; a full disk is.
pub fn print(text: &str) -> Result<()> {
    if world().rank() > 0 {
        return Ok(());
    }
    let mut out = stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Error::caller(74, format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
