//! The configuration and the options of the runs in these tests.
use clap::Parser;
use gumbel_training::{RunArgs, TrainConfig};

/// What a run of these tests can be told.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) seed: u64,
    pub(crate) train: TrainConfig,
}

/// The options of every run.
#[derive(Parser)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) run: RunArgs,
}
