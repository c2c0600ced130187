//! Data sets by name: what there is, whether it is right, and how to get it. `just data`.
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gumbel_datasets::{DatasetName, Error, Places, Set, Split, load};
use gumbel_experiments::{places, say};

/// List, check and fetch the data sets that are read from files.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:\n  data list\n  data fetch mnist\n  data verify mnist omniglot"
)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// Where data sets are looked for first
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Every set: where it is, or how it can be had
    List,
    /// Check size and SHA-256 of every file
    Verify {
        /// Names of sets; without them, all that are here
        sets: Vec<String>,
    },
    /// Fetch what is missing to the user's cache, and check it
    Fetch {
        /// Names of sets
        #[arg(required = true)]
        sets: Vec<String>,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    gumbel_training::logging::init(false, false);
    let outcome = match &args.command {
        Command::List => list(&Places::from_env(args.data_dir.clone())),
        Command::Verify { sets } => verify(sets, &Places::from_env(args.data_dir.clone())),
        Command::Fetch { sets } => fetch(sets, &places(args.data_dir.clone())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// The sets of these names, in the order of the names.
fn named(names: &[String]) -> Result<Vec<Set>, Error> {
    let all = Set::all();
    let of = |name: &String| {
        let known = || all.iter().map(|set| set.name).collect::<Vec<_>>().join(", ");
        let unknown =
            || Error::Argument(format!("there is no set `{name}`; there are {}", known()));
        all.iter().find(|set| set.name == name).cloned().ok_or_else(unknown)
    };
    names.iter().map(of).collect()
}

/// Megabytes of 10⁶ bytes.
fn megabytes(set: &Set) -> f64 {
    set.files.iter().map(|file| file.bytes).sum::<u64>() as f64 / 1e6
}

fn list(places: &Places) -> Result<(), Error> {
    for set in Set::all() {
        let place = match set.find(places) {
            Ok(folder) => folder.display().to_string(),
            Err(Error::Missing { .. }) => match set.find_parquet(places) {
                Some(folder) => folder.display().to_string(),
                None if set.mirrors.is_empty() => {
                    "not here, and made from others: see data/README.md".into()
                }
                None => format!("not here; `data fetch {}`", set.name),
            },
            Err(error) => return Err(error),
        };
        let kind = if set.images { "images" } else { "text" };
        say(&format!(
            "{:16} {kind:6} {:6.1} MB  {:32} {place}",
            set.name,
            megabytes(&set),
            set.licence
        ));
    }
    Ok(())
}

fn verify(names: &[String], places: &Places) -> Result<(), Error> {
    let sets = if names.is_empty() { Set::all() } else { named(names)? };
    for set in sets {
        match set.find(places) {
            Ok(folder) => {
                set.verify(&folder)?;
                say(&format!("{:16} ok, {}", set.name, folder.display()));
            }
            Err(Error::Missing { .. }) if set.find_parquet(places).is_some() => {
                say(&format!("{:16} ok, {}", set.name, whole(&set, places)?));
            }
            Err(Error::Missing { .. }) if names.is_empty() => {
                say(&format!("{:16} not here", set.name));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Where a set is whose every file was read and found right; it may be as parquet files of a hub.
fn whole(set: &Set, places: &Places) -> Result<String, Error> {
    let Ok(name) = set.name.parse::<DatasetName>() else {
        let folder = set.find(places)?;
        set.verify(&folder)?;
        return Ok(folder.display().to_string());
    };
    let mut place = String::new();
    for split in Split::ALL {
        place = load(&name, split, places)?.origin().to_string();
    }
    Ok(place)
}

fn fetch(names: &[String], places: &Places) -> Result<(), Error> {
    for set in named(names)? {
        let place = whole(&set, places)?;
        say(&format!("{:16} ok, {place}", set.name));
        say(&format!("{:16} licence {}; cite {}", "", set.licence, set.citation));
    }
    Ok(())
}
