//! The reliability scorecard: `just reliability`, see README.md.
//!
//! Every row is a promise and a figure; a row does to the programs what the world does to them, and counts.
mod checks;
mod faults;
mod input;
mod kills;
mod numbers;
mod resources;
mod run;
mod scorecard;
mod shield;
mod signals;
mod world;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use gumbel_experiments::{say, told, write_whole};
use gumbel_training::Environment;
use peak_alloc::PeakAlloc;

use scorecard::{Outcome, Row, markdown};
use world::World;

/// Counts, so that readers can be asked how much they took.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Do to the programs what the world does to them, and say which promises they keep.
#[derive(Debug, Parser)]
#[command(name = "reliability", version, after_help = EXAMPLES)]
struct Args {
    /// Only rows with this in their name, or with this number
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Small amounts, in about a minute: what the tests of the project do
    #[arg(long)]
    quick: bool,
    /// Damage what each row looks at, to see that every row can fail
    #[arg(long)]
    sabotage: bool,
    /// Write the scorecard into this file; rows that are not measured stay as they are there
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// Write what the programs say of wrong options into this file, as row 15 expects it
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  reliability --quick
  reliability --only kills
  reliability --only 12
  reliability --page docs/results/reliability.md

Exit codes: 0 every figure is reached or its row left out, 2 wrong option, 70 a figure is missed";

#[rustfmt::skip]
const ROWS: [Row; 19] = [
    Row { number: 1, property: "atomic checkpoints", wanted: "1,000 kills at random moments: none torn, no step lost", measure: kills::atomic_checkpoints },
    Row { number: 2, property: "exact resume", wanted: "VAE, language model, every estimator: equal in every byte", measure: kills::exact_resume },
    Row { number: 3, property: "input/output errors", wanted: "at least 500 faults: the newest checkpoint is whole, and the run goes on", measure: faults::injected_errors },
    Row { number: 4, property: "full disk", wanted: "exit 74, path and free space said; goes on when there is space", measure: faults::full_disk },
    Row { number: 5, property: "hostile input", wanted: "10,000 mutations of each format: no panic, at most 4 × file + 64 MiB, file and reason said", measure: input::hostile_input },
    Row { number: 6, property: "sizes before memory", wanted: "files that lie about their size: refused within 1 s and 256 MiB", measure: input::bombs_do_not_go_off },
    Row { number: 7, property: "no way out", wanted: "20 names that lead elsewhere: no file outside", measure: input::no_way_out },
    Row { number: 8, property: "not finite", wanted: "exit 77, the first bad tensor named, the last good checkpoint kept", measure: numbers::not_finite },
    Row { number: 9, property: "determinism", wanted: "1, 2, 3, 7 threads, two processes, debug and release: equal in every byte", measure: numbers::same_everywhere },
    Row { number: 10, property: "signals", wanted: "100 at random moments: a checkpoint and exit 75 within 2 s; 130 for the second interrupt", measure: signals::asked_to_stop },
    Row { number: 11, property: "one writer", wanted: "100 races: exactly one goes on, the other ends with 75", measure: signals::one_writer },
    Row { number: 12, property: "little memory", wanted: "with 1.2 of the need done, with 0.8 a message about the batch; no checkpoint torn", measure: resources::little_memory },
    Row { number: 13, property: "network", wanted: "a hub with 13 faults: never a wrong file, never a token elsewhere", measure: checks::network },
    Row { number: 14, property: "concurrent downloads", wanted: "one download, all succeed", measure: checks::concurrent_downloads },
    Row { number: 15, property: "wrong configurations", wanted: "200: exit 2, key, value and what is allowed", measure: input::wrong_configurations },
    Row { number: 16, property: "gradient estimators", wanted: "against enumeration and their laws", measure: checks::estimators },
    Row { number: 17, property: "unsafe code", wanted: "in one crate, 0 undefined behaviour under Miri", measure: checks::unsafe_code },
    Row { number: 18, property: "mutation score", wanted: "at least 85 % of mistakes in readers and checkpoints noticed", measure: checks::mutation_score },
    Row { number: 19, property: "soak", wanted: "20 minutes of train, kill, resume: memory + 1 % at most, open files + 0", measure: resources::soak },
];

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(70),
        Err(error) => {
            say(&format!("error: {}", told(&error)));
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<bool> {
    let wanted =
        |row: &&Row| row.property.contains(&args.only) || row.number.to_string() == args.only;
    let rows: Vec<&Row> = ROWS.iter().filter(wanted).collect();
    anyhow::ensure!(!rows.is_empty(), "no row has `{}` in its name", args.only);
    let world = World::new(args.quick, args.sabotage, args.record.clone())?;
    let summary = Environment::current(1, 1).summary();
    let commit = summary.split(' ').nth(1).unwrap_or("unknown").trim_end_matches(',');
    let (mut table, mut missed) = (BTreeMap::new(), 0);
    for row in rows {
        let start = Instant::now();
        let outcome = row.outcome(&world);
        missed += usize::from(matches!(outcome, Outcome::Missed(_)));
        let seconds = start.elapsed().as_secs_f64();
        say(&format!(
            "{:>2} {:<22} {outcome:<8} {} ({seconds:.1} s)",
            row.number,
            row.property,
            outcome.figure()
        ));
        table.insert(row.number, format!("{} {commit} |", markdown(row, &outcome)));
    }
    if let Some(page) = &args.page {
        let old = std::fs::read_to_string(page).unwrap_or_default();
        write_whole(page, &text(args, &summary, &old, &table))?;
    }
    say(&format!("{missed} of {} rows miss their figure", table.len()));
    Ok(missed == 0)
}

/// The page: rows that were measured now, and of the others what the page had.
fn text(args: &Args, summary: &str, old: &str, measured: &BTreeMap<usize, String>) -> String {
    let how = if args.quick { " --quick" } else { "" };
    let old = old.lines().filter_map(|line| Some((number_of(line)?, line.to_owned())));
    let rows: BTreeMap<usize, String> = old.chain(measured.clone()).collect();
    let missing = (1..=ROWS.len()).filter(|number| !rows.contains_key(number));
    let missing = missing.map(|number| number.to_string()).collect::<Vec<_>>().join(", ");
    let missing =
        if missing.is_empty() { missing } else { format!("\nNot measured: {missing}.\n") };
    let rows: Vec<String> = rows.into_values().collect();
    format!(
        "# The reliability scorecard\n\nMade by `just reliability{how}`, row by row ({summary}). What each row does is in \
         [experiments/reliability](../../experiments/reliability/README.md), what is promised in [reliability.md](../reliability.md).\n\n\
         | | property | figure to reach | measured | | commit |\n|---|---|---|---|---|---|\n{}\n{missing}",
        rows.join("\n")
    )
}

/// The number at the start of a row of the table.
fn number_of(line: &str) -> Option<usize> {
    line.strip_prefix("| ")?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_measured_again_takes_the_place_of_the_old_one() {
        let args = Args::parse_from(["reliability"]);
        let old =
            text(&args, "here", "", &[(1, "| 1 | a |".into()), (12, "| 12 | b |".into())].into());
        let new =
            text(&args, "here", &old, &[(2, "| 2 | c |".into()), (12, "| 12 | d |".into())].into());
        assert!(
            new.contains("|---|\n| 1 | a |\n| 2 | c |\n| 12 | d |\n\nNot measured: 3, 4,"),
            "{new}"
        );
    }

    #[test]
    fn rows_are_numbered_as_they_stand() {
        assert!(ROWS.iter().enumerate().all(|(index, row)| row.number == index + 1));
    }
}
