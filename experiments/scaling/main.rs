//! How cost grows with categories, variables, samples, batch and processes: `just scaling`.
mod draws;
mod ranks;

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use gumbel_experiments::{say, told, write_and_say};
use gumbel_training::Environment;

/// Measure how cost grows with categories, variables, samples, batch and processes
#[derive(Debug, Parser)]
#[command(version, after_help = "Exit codes: 0 done, 1 a measurement failed, 2 wrong option.")]
struct Args {
    /// Page to write
    #[arg(long, value_name = "FILE", default_value = "docs/results/scaling.md")]
    page: PathBuf,

    /// Microseconds of a message between the machines of the model
    #[arg(long, value_name = "US", default_value_t = 5.)]
    latency_us: f64,

    /// Gigabytes per second between them, one way
    #[arg(long, value_name = "GB", default_value_t = 12.5)]
    bandwidth_gb: f64,

    /// One measurement, as the program asks it of itself
    #[arg(long, value_name = "WHAT", hide = true)]
    one: Option<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // Processes beside each other have a thread each.
    let threads = if args.one.as_deref() == Some("link") { 1 } else { cores };
    gumbel_kernels::threads::configure(threads);
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {}", told(&error)));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    match args.one.as_deref() {
        Some("link") => return ranks::link(),
        Some(draw) => return draws::one(draw),
        None => {}
    }
    let mut page = format!(
        "# How cost grows\n\nMade by `just scaling` ({}).\n",
        Environment::current(1, std::thread::available_parallelism()?.get()).summary()
    );
    page.push_str(&draws::section()?);
    page.push_str(&ranks::section(&ranks::Network {
        latency: args.latency_us * 1e-6,
        bandwidth: args.bandwidth_gb * 1e9,
    })?);
    let folder = args.page.parent().unwrap_or(&args.page);
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    write_and_say(&args.page, &page)
}

/// A table in Markdown.
fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!("\n| {} |\n|{}\n", heads.join(" | "), "--:|".repeat(heads.len()));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}
