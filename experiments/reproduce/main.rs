//! The papers' tables: `just reproduce <table>`, see README.md.
//!
//! Runs the cells of a table (rows × columns × seeds) as runs of `vae`, `predict`, `semi` or `lm`, skips what is done, goes on
//! with what was interrupted, and writes what came out beside what the paper prints.
mod cell;
mod curves;
mod figure;
mod record;
mod report;
mod results;
mod table;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use cell::Job;
use gumbel_experiments::{Budget, say, told};
use gumbel_sweep::{Event, Outcome, Place, Requests, State, work};
use record::Record;
use table::{TABLES, Table};

/// Run the cells of a published table and write the result beside it.
#[derive(Debug, Parser)]
#[command(name = "reproduce", version, after_help = EXAMPLES)]
struct Args {
    /// Which table; without it, the tables there are
    table: Option<String>,
    /// How much of the published computation to spend
    #[arg(long, value_enum, default_value_t = Budget::Cpu)]
    budget: Budget,
    /// Only the cell of this name, or if there is none, cells with this in their name
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Seeds 1 to N [default: those of the budget]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// Runs at a time; each has an equal share of the cores
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
    /// Where the data sets are looked for first; then GUMBEL_DATA_DIR, data/ and the user's cache
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Directory for the runs
    #[arg(long, value_name = "DIR", default_value = "runs/reproduce")]
    out: PathBuf,
    /// Directory for the result; those of the quick budget stay with the runs
    #[arg(long, value_name = "DIR", default_value = "docs/results")]
    results: PathBuf,
    /// Run nothing: say what is done and what is missing, and write the result again
    #[arg(long)]
    status: bool,
}

const EXAMPLES: &str = "\
Examples:
  reproduce                                   the tables there are
  reproduce reinmax --data-dir DIR --jobs 2
  reproduce reinmax --budget quick --only '8×4'
  reproduce reinmax --status

Exit codes: 0 done, 2 wrong option, 70 a run failed, 75 stopped on request; the same command goes on";

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {}", told(&error));
            let of_sweep = error.downcast_ref().map(gumbel_sweep::Error::exit_code);
            let unknown = error.is::<table::Unknown>().then_some(2);
            ExitCode::from(unknown.or(of_sweep).unwrap_or(70))
        }
    }
}

fn run(args: &Args) -> Result<u8> {
    let Some(name) = &args.table else {
        for (name, text, _) in TABLES {
            say(&format!("{name:<20} {}", Table::parse(text)?.title));
        }
        return Ok(0);
    };
    let (table, config) = table::find(name)?;
    let budget = table.budget(args.budget)?;
    let out = args.out.join(args.budget.to_string());
    let place = place(&table, (name, config), &out, args.data_dir.clone())?;
    let folder = if args.budget == Budget::Quick { &out } else { &args.results };
    let mut record = Record::open((name, &table), args.budget, folder)?;

    record.compare(|cell, seed| Job::new(&place, name, cell, budget, seed))?;

    let seeds = 1..=args.seeds.unwrap_or(budget.seeds);
    let cells = table.only(&args.only);
    // Seed by seed, so that the whole table is there early.
    let wanted = seeds.flat_map(|seed| cells.iter().map(move |cell| (*cell, seed)));
    let jobs: Vec<Job> = wanted
        .map(|(cell, seed)| Job::new(&place, name, cell, budget, seed))
        .collect::<Result<_>>()?;
    if jobs.is_empty() {
        return Err(table::Unknown::Cell(name.clone(), args.only.clone()).into());
    }

    let todo = to_do(&jobs, &place, &mut record)?;
    let mut outcome = Outcome { left: todo.len(), ..Outcome::default() };
    if args.status {
        todo.iter().for_each(|(job, state)| say_of(job, state));
    } else {
        let mut requests = Requests::listen()?;
        outcome = work(todo, args.jobs.into(), &place, &mut requests, &mut |event| {
            tell(&event, &jobs, &mut record)
        })?;
    }
    outcome.done = jobs.len() - outcome.left - outcome.failed;
    record.write()?;
    say(&format!("{outcome}; the result is in {}", record.page().display()));
    Ok(if args.status { 0 } else { outcome.code() })
}

/// The program of a table, with the configuration of its cells in a file.
fn place(
    table: &Table,
    (name, config): (&str, &str),
    out: &Path,
    data_dir: Option<PathBuf>,
) -> Result<Place> {
    fs::create_dir_all(out).with_context(|| format!("creating {}", out.display()))?;
    let file = out.join(format!("{name}.toml"));
    fs::write(&file, config).with_context(|| format!("writing {}", file.display()))?;
    let program = Path::new(table.experiment.name());
    Ok(Place::new(program, Some(file), Vec::new(), out, data_dir)?)
}

/// What has not ended; takes what runs that have ended left, where that is not in the record.
fn to_do(
    jobs: &[Job],
    place: &Place,
    record: &mut Record<'_>,
) -> Result<Vec<(gumbel_sweep::Job, State)>> {
    let mut todo = Vec::new();
    for job in jobs {
        if record.is_complete(job) {
            continue;
        }
        let state = place.state(&job.run)?;
        if let State::Done(directory) = &state {
            record.take(job, directory)?;
        } else if !record.has(job) {
            // Otherwise its numbers are there; the run that has its curve is not.
            todo.push((job.run.clone(), state));
        }
    }
    Ok(todo)
}

/// Says what happens, and takes what a run left.
fn tell(event: &Event<'_>, jobs: &[Job], record: &mut Record<'_>) -> Result<()> {
    match event {
        Event::Begins(job, state) => say_of(job, state),
        Event::Ended(run, ended) => {
            let same = |job: &&Job| (&job.run.label, job.run.seed) == (&run.label, run.seed);
            if let Some(job) = jobs.iter().find(same) {
                match &ended.done {
                    Some(directory) => record.take(job, directory)?,
                    None if ended.diverged() => record.diverged(job)?,
                    None => {}
                }
            }
            say(&format!("{} seed {}: {ended}", run.label, run.seed));
        }
    }
    Ok(())
}

fn say_of(job: &gumbel_sweep::Job, state: &State) {
    say(&format!("{} seed {}: {state}", job.label, job.seed));
}
