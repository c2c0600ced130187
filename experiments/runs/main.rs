//! Runs by their directories: `just runs list | show | compare | export | watch`.
mod watch;

use std::cell::RefCell;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use gumbel_experiments::{say, told, write_and_say};
use gumbel_hub::Hub;
use gumbel_report::{Comparison, Interval, Record, card, find_runs, run_page};

/// List, show, compare, export and watch runs.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:\n  runs list\n  runs show runs/vae/20261127-120000-vae-s1-abcdef --html report.html\n  \
                  runs compare runs/vae --split test\n  runs watch runs/vae/20261127-120000-vae-s1-abcdef"
)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Every run below some directories: status, steps, last numbers
    List {
        /// Directories of runs, or of experiments, or of all
        #[arg(default_value = "runs")]
        places: Vec<PathBuf>,
    },
    /// What a run was and what came of it
    Show {
        /// The directory of a run
        run: PathBuf,
        /// Write the page of the run to a file
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
    /// Runs beside each other: one row for those that differ in nothing but the seed
    Compare {
        /// Directories of runs, or of experiments
        #[arg(default_value = "runs")]
        places: Vec<PathBuf>,
        /// Whose numbers: train, valid or test
        #[arg(long, default_value = "valid")]
        split: String,
        /// The page to write
        #[arg(long, value_name = "FILE", default_value = "compare.html")]
        html: PathBuf,
        /// The table to write
        #[arg(long, value_name = "FILE", default_value = "compare.csv")]
        csv: PathBuf,
    },
    /// The model of a run as a folder to give away: parameters, configuration, card
    Export {
        /// The directory of a run
        run: PathBuf,
        /// The folder to make
        folder: PathBuf,
    },
    /// A model from a hub (HF_ENDPOINT, HF_TOKEN) as such a folder, for --config and --init
    #[command(visible_alias = "import")]
    Pull {
        /// owner/name, or owner/name@revision
        repository: String,
        /// The folder to make
        folder: PathBuf,
    },
    /// Such a folder into a repository on a hub, private unless it is there already
    Push {
        /// The folder that `export` made
        folder: PathBuf,
        /// owner/name, or owner/name@branch
        repository: String,
        /// For all to see, where the repository is made
        #[arg(long)]
        public: bool,
    },
    /// A run as it goes on, in a terminal of its own
    Watch {
        /// The directory of a run
        run: PathBuf,
        /// Seconds between two looks
        #[arg(long, default_value_t = 1.)]
        every: f64,
    },
}

fn main() -> ExitCode {
    match run(&Args::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {}", told(&error));
            let of_report = error.downcast_ref().map(gumbel_report::Error::exit_code);
            let of_training = error.downcast_ref().map(gumbel_training::Error::exit_code);
            let of_hub = error.downcast_ref().map(gumbel_hub::Error::exit_code);
            let code = of_report.or(of_training).or(of_hub).unwrap_or(74);
            ExitCode::from(code)
        }
    }
}

fn run(command: &Command) -> Result<()> {
    match command {
        Command::List { places } => list(places),
        Command::Show { run, html } => show(run, html.as_deref()),
        Command::Compare { places, split, html, csv } => compare(places, split, [html, csv]),
        Command::Export { run, folder } => {
            let record = Record::read(run)?;
            gumbel_training::export(run, folder, |steps| card(&record, steps))?;
            say(&format!("in {}", folder.display()));
            Ok(())
        }
        Command::Pull { repository, folder } => pull(repository, folder),
        Command::Push { folder, repository, public } => push(folder, repository, *public),
        Command::Watch { run, every } => watch::watch(run, *every),
    }
}

fn pull(repository: &str, folder: &Path) -> Result<()> {
    let current = RefCell::new(String::new());
    let progress = |name: &str, _, total: Option<u64>| {
        if *current.borrow() != name {
            name.clone_into(&mut current.borrow_mut());
            let bytes = total.map_or_else(String::new, |total| format!(", {total} bytes"));
            say(&format!("fetching {name}{bytes}"));
        }
    };
    Hub::from_env().pull(&repository.parse()?, folder, &progress)?;
    let folder = folder.display();
    say(&format!("in {folder}; go on with --config {folder}/config.toml --init {folder}"));
    Ok(())
}

#[cfg(feature = "hub")]
fn push(folder: &Path, repository: &str, public: bool) -> Result<()> {
    let hub = Hub::from_env();
    let visibility =
        if public { gumbel_hub::Visibility::Public } else { gumbel_hub::Visibility::Private };
    hub.push(&repository.parse()?, folder, visibility)?;
    say(&format!("{repository} on {} has what is in {}", hub.host(), folder.display()));
    Ok(())
}

#[cfg(not(feature = "hub"))]
fn push(_: &Path, _: &str, _: bool) -> Result<()> {
    Err(gumbel_training::Error::Usage(
        "this build cannot push; build it with `cargo build --release --locked --features hub --bin runs`".into(),
    )
    .into())
}

/// A broken run is said and left out, so that it does not hide the others.
fn records(places: &[PathBuf]) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for directory in find_runs(places)? {
        match Record::read(&directory) {
            Ok(record) => records.push(record),
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "left out: {error}");
            }
        }
    }
    Ok(records)
}

/// The last numbers of the most telling split that a run has.
fn numbers(record: &Record) -> String {
    let split =
        ["test", "valid", "train"].into_iter().find(|split| !record.metrics(split).is_empty());
    let Some(split) = split else { return String::new() };
    let number = |name: String| Some(format!("{name} {:.3}", record.last(split, &name)?));
    let all: Vec<String> = record.metrics(split).into_iter().filter_map(number).collect();
    format!("{split}: {}", all.join(", "))
}

fn list(places: &[PathBuf]) -> Result<()> {
    for record in records(places)? {
        let (status, steps) = (record.status.split(':').next().unwrap_or_default(), record.steps());
        say(&format!("{status:11} {steps:>8}  {}", record.directory.display()));
        let numbers = numbers(&record);
        if !numbers.is_empty() {
            say(&format!("{:21} {numbers}", ""));
        }
    }
    Ok(())
}

fn show(directory: &Path, html: Option<&Path>) -> Result<()> {
    let record = Record::read(directory)?;
    say(&format!(
        "{} {}\nstatus {}, {} steps",
        record.experiment,
        record.name(),
        record.status,
        record.steps()
    ));
    for split in ["train", "valid", "test"] {
        for metric in record.metrics(split) {
            let curve = record.curve(split, &metric);
            if let (Some((_, first)), Some((step, last))) = (curve.first(), curve.last()) {
                let course = watch::sparkline(&curve, 30);
                say(&format!(
                    "  {split:5} {metric:32} {first:12.4} → {last:12.4} at step {step:<8} {course}"
                ));
            }
        }
    }
    if let Some(path) = html {
        write_and_say(path, &run_page(&record, &[])?)?;
    }
    Ok(())
}

fn compare(places: &[PathBuf], split: &str, [html, csv]: [&Path; 2]) -> Result<()> {
    let comparison = Comparison::new(records(places)?);
    let metrics = comparison.metrics(split);
    for group in &comparison.groups {
        let name = if group.name.is_empty() { "all" } else { &group.name };
        let runs = match group.runs.len() {
            1 => "1 run".to_owned(),
            more => format!("{more} runs"),
        };
        say(&format!("{}  {name} ({runs})", group.letter));
        for metric in &metrics {
            let Some(Interval { mean, half_width, .. }) = group.last(split, metric) else {
                continue;
            };
            let half = half_width.map_or_else(String::new, |half| format!(" ± {half:.4}"));
            say(&format!("  {metric:32} {mean:12.4}{half}"));
        }
    }
    if comparison.repeated > 0 {
        say(&format!(
            "left out: {} with the seed of another run of the same configuration",
            comparison.repeated
        ));
    }
    write_and_say(html, &comparison.page(split)?)?;
    write_and_say(csv, &comparison.csv(split))
}
