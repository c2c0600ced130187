//! A run that is stopped and goes on: the same `metrics.jsonl`, to the byte, as that of a run that was left alone.
//!
//! `cargo run -p gumbel-training --example resume`
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use clap::Parser;
use gumbel_kernels::Key;
use gumbel_metrics::Report;
use gumbel_training::{Error, Params, Result, Run, RunArgs, Step, TrainConfig, config};

const DEFAULT: &str = "seed = 1\n[train]\nsteps = 30\nlog_every = 5\n";

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    seed: u64,
    train: TrainConfig,
}

/// The options that every run has; a program of its own adds more.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    run: RunArgs,
}

/// Fits two numbers to noisy ones, and asks for a stop in the step `stop_at`, as a signal would. Returns the directory.
fn session(args: &RunArgs, stop_at: Option<u64>) -> Result<(PathBuf, Result<()>)> {
    let config: Config = args.config(&[("default", DEFAULT)])?;
    let mut run = Run::start("line", args, &config::to_toml(&config)?, config.seed)?;
    let (key, stop) = (Key::from_seed(config.seed), run.stop());
    let params = Params::new(key.named("init"), DType::F32, &Device::Cpu);
    let x = params.var_builder().get(2, "x")?;
    let outcome = run.train(
        &config.train,
        &params,
        1,
        &mut |micro| {
            if stop_at == Some(micro.step) {
                stop.request();
            }
            // Noise is named by the step, and so the same whoever asks, and when.
            let key = key.named("noise").fold_in(micro.index);
            let target = (key.normal(2, DType::F32, &Device::Cpu)? + 3.)?;
            let loss = (&x - target)?.sqr()?.sum_all()?;
            let report = Report::new().mean("loss", &loss);
            Ok(Step { loss, learning_rate: 0.1, report })
        },
        &mut |evaluation| evaluation.record("test", &Report::new().mean("x", &x)),
    );
    Ok((run.directory().to_path_buf(), outcome.and_then(|()| run.finish())))
}

fn options(option: &str, path: &Path) -> RunArgs {
    let path = path.as_os_str();
    Args::parse_from(["line".as_ref(), "--quiet".as_ref(), option.as_ref(), path]).run
}

/// The metrics of an undisturbed run; what a stopped one said, and its metrics then and after it went on.
fn compare(out: &Path) -> Result<[String; 4]> {
    let metrics = |run: &Path| {
        std::fs::read_to_string(run.join("metrics.jsonl")).map_err(|error| Error::caller(74, error))
    };
    let (undisturbed, outcome) = session(&options("--out", out), None)?;
    outcome?;
    let (stopped, outcome) = session(&options("--out", out), Some(12))?;
    let said = outcome.err().map_or_else(String::new, |error| error.to_string());
    let halfway = metrics(&stopped)?;
    session(&options("--resume", &stopped), None)?.1?;
    Ok([metrics(&undisturbed)?, said, halfway, metrics(&stopped)?])
}

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<()> {
    let out = tempfile::tempdir().map_err(|error| Error::caller(74, error))?;
    let [undisturbed, said, halfway, resumed] = compare(out.path())?;
    println!("{said}\n\nwritten until then:\n{halfway}\nafter it went on:\n{resumed}");
    println!("the same as undisturbed: {}", resumed == undisturbed);
    Ok(())
}

#[test]
fn a_stop_leaves_no_trace_in_the_results() -> Result<()> {
    let out = tempfile::tempdir().unwrap();
    let [undisturbed, said, halfway, resumed] = compare(out.path())?;
    assert!(said.starts_with("stopped by request at step 13"), "{said}");
    assert_eq!((halfway.lines().count(), undisturbed.lines().count()), (2, 7));
    assert_eq!(resumed, undisturbed);
    Ok(())
}
