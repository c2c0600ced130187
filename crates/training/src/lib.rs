//! The plumbing around a training step: parameters, optimizers, runs and their checkpoints.
//!
//! A program hands [`Run::train`] a closure that computes the loss of a batch. The run differentiates,
//! averages over the processes of the [`world`], updates, writes what is reported, saves, stops on request and goes on later as if nothing had been.
//! Invariants: no model, no estimator, no data set; equal configurations give equal bytes in
//! `metrics.jsonl`, in checkpoints and in samples, however often the run was killed and resumed.
//!
//! ```no_run
//! use clap::Parser;
//! use gumbel_kernels::Key;
//! use gumbel_training::{Params, Run, RunArgs, Step, TrainConfig, config, launch};
//! use gumbel_metrics::Report;
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Config {
//!     seed: u64,
//!     train: TrainConfig,
//! }
//!
//! #[derive(Parser)]
//! struct Args {
//!     #[command(flatten)]
//!     run: RunArgs,
//! }
//!
//! fn train(args: &RunArgs) -> gumbel_training::Result<()> {
//!     let config: Config = args.config(&[("default", "seed = 1\n[train]\nsteps = 100\n")])?;
//!     let mut run = Run::start("line", args, &config::to_toml(&config)?, config.seed)?;
//!     let device = args.device.open()?;
//!     let key = Key::from_seed(config.seed);
//!     let params = Params::new(key.named("init"), candle_core::DType::F32, &device);
//!     let x = params.var_builder().get(2, "x")?;
//!     run.train(&config.train, &params, 1, &mut |_micro| {
//!         let loss = (&x - 1.0)?.sqr()?.sum_all()?;
//!         let report = Report::new().mean("loss", &loss);
//!         Ok(Step { loss, learning_rate: 0.1, report })
//!     }, &mut |evaluation| evaluation.record("test", &Report::new().mean("x", &x)))?;
//!     run.finish()
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     let args = Args::parse();
//!     launch(&args.run, || train(&args.run))
//! }
//! ```
pub mod checkpoint;
mod cli;
mod completions;
pub mod config;
mod device;
mod environment;
mod error;
mod export;
mod files;
mod launch;
pub mod logging;
mod optimizer;
mod params;
pub mod png;
mod progress;
mod run;
mod signals;
mod train;
mod utc;
mod world;

pub use cli::{Presets, RunArgs};
pub use completions::parse;
pub use device::DeviceChoice;
pub use environment::Environment;
pub use error::{Error, Result};
pub use export::{export, import};
pub use launch::launch;
pub use optimizer::{AdamConfig, Optimizer, OptimizerConfig, OptimizerError, clip_global_norm};
pub use params::{Mismatch, Params, ParamsError};
pub use run::Run;
pub use signals::Stop;
pub use train::{Evaluation, MicroBatch, Precision, Step, TrainConfig};
pub use world::{with_world, world};
