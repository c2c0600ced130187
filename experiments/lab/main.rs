//! Bias and variance of every estimator, measured: `just lab` writes docs/results/estimators.md and .csv.
//!
//! Every problem is small enough that its exact gradient is known. Learned parts (baselines, control variates)
//! are trained on the problem first, its own parameters held fixed.
mod estimators;
mod problems;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use candle_core::{DType, Device};
use clap::Parser;
use gumbel::Key;
use gumbel::estimators::Estimator;
use gumbel::lab::Measurement;
use gumbel_training::{Optimizer, OptimizerConfig, Params};

use estimators::{Entry, all, tempered};
use problems::{Case, dependent, multi_sample, one_class, polynomial};
use report::Report;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measure bias and variance of every gradient estimator.
#[derive(Debug, Parser)]
struct Args {
    /// Independent estimates of each gradient on the small problems; a tenth of it on those with 128 variables
    #[arg(long, default_value_t = 200_000)]
    replicates: usize,
    /// Names every random number
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads to compute with
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Where estimators.md and estimators.csv go [default: docs/results, and nowhere with --only]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Only problems whose title contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
}

/// Temperatures of the sweep.
const TEMPERATURES: [f64; 6] = [0.05, 0.1, 0.2, 0.5, 1., 2.];

/// Steps of Adam on learned parts, their learning rate, and the rows of each step.
const ADAPTATION: (u64, f64, usize) = (300, 0.02, 256);

fn main() -> ExitCode {
    let args = Args::parse();
    gumbel_kernels::threads::configure(args.threads);
    gumbel_kernels::threads::take_part();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            gumbel_experiments::say(&format!("error: {error:#}"));
            ExitCode::from(70)
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let mut report = Report::new(args.seed, args.threads);
    let cases = [one_class(2), one_class(8), dependent(), multi_sample()]
        .into_iter()
        .map(|case| (case, args.replicates))
        .chain([1.5, 2., 3.].into_iter().map(|p| (polynomial(p, false), args.replicates / 10)))
        .chain([(polynomial(3., true), args.replicates / 10)]);
    for (case, replicates) in cases.filter(|(case, _)| case.title.contains(&args.only)) {
        report.problem(&case.title, &case.text, replicates);
        for entry in all(case.samples) {
            // The bound is of as many samples as the estimator draws: not of one where it is to be of three.
            if entry.method()?.samples() < case.samples {
                continue;
            }
            let outcome = measure(&case, &entry, replicates, args.seed);
            report.row(&case.title, &entry, &outcome)?;
        }
    }
    for case in [one_class(2), one_class(8)] {
        if case.title.contains(&args.only) {
            sweep(&case, args, &mut report)?;
        }
    }
    match &args.output {
        Some(directory) => report.write(directory)?,
        None if args.only.is_empty() => report.write(Path::new("docs/results"))?,
        None => {}
    }
    anyhow::ensure!(report.refuted == 0, "{} claims of no bias are refuted", report.refuted);
    Ok(())
}

/// An estimator with its learned parts trained, and what was measured of it.
fn measure(
    case: &Case,
    entry: &Entry,
    replicates: usize,
    seed: u64,
) -> Result<(bool, Measurement)> {
    let key = Key::from_seed(seed);
    let estimator = adapted(case, entry, key.named("adaptation"))?;
    // The same key for all: common random numbers.
    let samples = entry.method()?.samples();
    let measured = case.problem.measure(
        estimator.as_ref(),
        case.objective.as_ref(),
        samples,
        replicates,
        key.named("measurement"),
    )?;
    Ok((estimator.is_unbiased(), measured))
}

fn adapted(case: &Case, entry: &Entry, key: Key) -> Result<Box<dyn Estimator>> {
    let params = Params::new(key.named("init"), DType::F64, &Device::Cpu);
    let (steps, learning_rate, rows) = ADAPTATION;
    let scheduled = case.problem.with_rows(1, |program, _| {
        entry.method().map_err(candle_core::Error::msg)?.build(
            program,
            &mut params.clone(),
            key.named("estimator"),
        )
    })?;
    let estimator = scheduled.at(0);
    if params.tensors()?.is_empty() {
        return Ok(estimator);
    }
    let mut optimizer = Optimizer::new(&OptimizerConfig::default(), &params)?;
    for step in 0..steps {
        let gradients = case.problem.with_rows(rows, |program, _| {
            let key = key.named("step").fold_in(step);
            let surrogate = estimator.surrogate(program, case.objective.as_ref(), key)?;
            surrogate.update_statistics()?;
            surrogate.loss.backward()
        })?;
        optimizer.step(&params, &gradients, learning_rate)?;
    }
    Ok(estimator)
}

fn sweep(case: &Case, args: &Args, report: &mut Report) -> Result<()> {
    report.sweep(&case.title, &TEMPERATURES, args.replicates);
    let names: Vec<&str> = tempered(1.).iter().map(|entry| entry.name).collect();
    for (i, name) in names.iter().enumerate() {
        let mut cells = Vec::new();
        for temperature in TEMPERATURES {
            let entry = tempered(temperature).into_iter().nth(i).context("no such estimator")?;
            let (_, measured) = measure(case, &entry, args.replicates, args.seed)?;
            report.csv_row(&format!("{}, sweep", case.title), &entry, &measured)?;
            cells.push(measured);
        }
        report.sweep_row(name, &cells);
    }
    Ok(())
}
