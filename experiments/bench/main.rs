//! How long things take: `just bench`. See the README beside this file.
mod dump;
mod serve;
mod upstream;
mod workloads;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Time operations and whole training steps.
#[derive(Debug, Parser)]
struct Args {
    /// Threads to compute with [default: all]
    #[arg(long, env = "RAYON_NUM_THREADS")]
    threads: Option<usize>,
    /// Run one workload
    #[arg(long, value_name = "WORKLOAD", group = "mode")]
    once: Option<String>,
    /// For how long
    #[arg(long, default_value_t = 2., requires = "once")]
    seconds: f64,
    /// Read requests `<workload> <seconds>` and answer each with a line of JSON
    #[arg(long, group = "mode")]
    serve: bool,
    /// Write losses, and everything they depend on, for parity.py
    #[arg(long, value_name = "DIR", group = "mode")]
    dump: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let all = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.filter(|threads| *threads > 0).unwrap_or_else(all);
    gumbel_kernels::threads::configure(threads);
    match run(&args, threads) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("error: {error:#}"));
            ExitCode::from(70)
        }
    }
}

fn run(args: &Args, threads: usize) -> Result<()> {
    if args.serve {
        return serve::serve(threads, std::io::stdin().lock());
    }
    if let Some(workload) = &args.once {
        return serve::once(workload, args.seconds);
    }
    if let Some(directory) = &args.dump {
        return dump::dump(directory);
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its results")]
fn say(line: &str) {
    println!("{line}");
}

#[expect(clippy::print_stderr, reason = "standard output is for results")]
fn tell(line: &str) {
    eprintln!("{line}");
}
