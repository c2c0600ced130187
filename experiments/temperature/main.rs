//! The temperature study: `just run-temperature`, see README.md.
//!
//! Categorical VAEs whose latents have 4,096 joint values: exact gradients and exact bounds, so that bias, variance and the price of
//! a temperature are numbers and not estimates.
mod bounds;
mod errors;
mod exact;
mod figures;
mod page;
mod record;
mod store;
mod study;
mod tables;
#[cfg(test)]
mod tests;
mod train;
mod units;
mod view;
mod work;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use clap::Parser;
use gumbel_datasets::{Binarisation, DatasetName};
use gumbel_experiments::{Budget, Data, DataArgs, DataConfig, say, told};
use gumbel_training::Environment;
use sha2::{Digest, Sha256};

use store::{Claim, Store};
use study::Sizes;
use train::Setting;
use units::{units, wanted};
use work::{lock, work};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measure what the temperature does to gradients and to trained models.
#[derive(Debug, Parser)]
#[command(name = "temperature", version, after_help = EXAMPLES)]
struct Args {
    /// How much to compute
    #[arg(long, value_enum, default_value_t = Budget::Quick)]
    budget: Budget,
    /// Images [default: strokes in the quick budget, which the program draws, else mnist]
    #[arg(long, value_name = "NAME")]
    dataset: Option<DatasetName>,
    /// Where the images are looked for first; then GUMBEL_DATA_DIR, data/ and the user's cache
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Only units with this in their description
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Units at a time, each on one thread [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Directory for models, and for the result of the quick budget
    #[arg(long, value_name = "DIR", default_value = "runs/temperature")]
    out: PathBuf,
    /// Directory for the result of the other budgets
    #[arg(long, value_name = "DIR", default_value = "docs/results")]
    results: PathBuf,
    /// Compute nothing: write the page again
    #[arg(long)]
    status: bool,
}

const EXAMPLES: &str = "\
Examples:
  temperature                                       minutes, on images that the program draws
  temperature --budget cpu --data-dir DIR           hours, on MNIST; the same command goes on
  temperature --budget cpu --data-dir DIR --only 'Measure'
  temperature --budget cpu --data-dir DIR --status  write the page again

Exit codes: 0 done, 2 wrong option, 69 no images, 70 a unit failed, 75 stopped on request; the same command goes on";

fn main() -> ExitCode {
    let args = Args::parse();
    // Units are computed side by side, each by one thread.
    gumbel_kernels::threads::configure(1);
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(75),
        Err(error) => {
            say(&format!("error: {}", told(&error)));
            let code = error.downcast_ref().map(gumbel_training::Error::exit_code);
            ExitCode::from(code.unwrap_or(70))
        }
    }
}

fn run(args: &Args) -> Result<bool> {
    let sizes = Sizes::of(args.budget);
    let embedded =
        if args.budget == Budget::Quick { DatasetName::Strokes } else { DatasetName::Mnist };
    let config = DataConfig {
        dataset: args.dataset.unwrap_or(embedded),
        path: None,
        binarisation: Binarisation::Fixed,
        held_out: true,
    };
    let place = DataArgs { dataset: None, images: None, data_dir: args.data_dir.clone() };
    let data = Data::load(&config, &place)?;
    let results = if args.budget == Budget::Quick { &args.out } else { &args.results };
    let models = args.out.join("models");
    let _claim = if args.status { None } else { Some(Claim::on(results)?) };
    let identity = identity(&sizes, &data);
    let store = Mutex::new(Store::open(results, models, sizes.checkpoints(), identity)?);

    let stop = AtomicBool::new(false);
    let setting = Setting { data: &data, sizes: &sizes, stop: &stop };
    let all = units(&sizes);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.jobs.map_or(cores, usize::from);
    let complete = match args.status {
        true => Ok(true),
        false => work(&wanted(&all, &args.only), &store, setting, threads),
    };
    let store = lock(&store);
    let left = all.iter().filter(|unit| !store.has(unit)).count();
    say(&format!("{} of {} units are done", all.len() - left, all.len()));
    let environment = Environment::current(1, 1).summary();
    page::write(results, &store.view(), (args.budget, left), setting, &environment)?;
    complete
}

/// A name for the settings and the images.
fn identity(sizes: &Sizes, data: &Data) -> String {
    let sets = [&data.train, &data.valid, &data.test].map(|set| set.identity().to_owned());
    let text = format!("{} {}", sizes.description(), sets.join("; "));
    Sha256::digest(text.as_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}
