//! How long things take: `just bench`. See the README beside this file.
mod dump;
mod instructions;
mod machine;
mod operations;
mod serve;
mod table;
mod workloads;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use gumbel_training::{DeviceChoice, Precision};

use serve::Setting;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Time every operation beside its twin; or, with an option, whole training steps.
#[derive(Debug, Parser)]
struct Args {
    /// Threads to compute with [default: all]
    #[arg(long, env = "RAYON_NUM_THREADS")]
    threads: Option<usize>,
    /// The device of --once and --serve: auto, cpu, cuda, cuda:N or metal
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
    /// With --once and --serve: factors of matrix products in half precision
    #[arg(long)]
    bf16: bool,
    /// For how long to time each operation, or the workload of --once
    #[arg(long, default_value_t = 1.)]
    seconds: f64,
    /// Only operations with this in their title
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Write the table of operations to a file, too
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// Run one workload
    #[arg(long, value_name = "WORKLOAD", group = "mode")]
    once: Option<String>,
    /// Read requests `<workload> <seconds>`, and answer each with a line of JSON
    #[arg(long, group = "mode")]
    serve: bool,
    /// Write losses, and everything they depend on, for parity.py
    #[arg(long, value_name = "DIR", group = "mode")]
    dump: Option<PathBuf>,
    /// Count the instructions of every operation with valgrind, and compare them with this file
    #[arg(long, value_name = "FILE", group = "mode")]
    instructions: Option<PathBuf>,
    /// Write the file of --instructions anew
    #[arg(long, requires = "instructions")]
    update: bool,
    /// Run one pass of the operation of this title, under valgrind
    #[arg(long, value_name = "TITLE", group = "mode", hide = true)]
    count: Option<String>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("error: {error:#}"));
            ExitCode::from(70)
        }
    }
}

fn run(args: &Args) -> Result<()> {
    if let Some(title) = &args.count {
        return instructions::pass(title);
    }
    if let Some(file) = &args.instructions {
        return instructions::check(file, args.update);
    }
    let all = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.filter(|threads| *threads > 0).unwrap_or_else(all);
    gumbel_kernels::threads::configure(threads);
    gumbel_kernels::threads::take_part();
    let setting = || {
        let precision = if args.bf16 { Precision::MixedBf16 } else { Precision::Single };
        Ok::<_, gumbel_training::Error>(Setting { device: args.device.open()?, precision })
    };
    if args.serve {
        serve::serve(setting()?, threads, std::io::stdin().lock())
    } else if let Some(workload) = &args.once {
        serve::once(setting()?, workload, args.seconds)
    } else if let Some(directory) = &args.dump {
        dump::dump(directory)
    } else {
        let settings = table::Settings { only: &args.only, seconds: args.seconds, threads };
        let text = table::table(&settings)?;
        say(&text);
        args.table.as_deref().map_or(Ok(()), |file| write(file, &text))
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its results")]
fn say(line: &str) {
    println!("{line}");
}

#[expect(clippy::print_stderr, reason = "standard output is for results")]
fn tell(line: &str) {
    eprintln!("{line}");
}
