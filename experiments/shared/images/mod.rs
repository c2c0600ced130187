//! What the experiments on images share: their configuration, which images, how a model is judged.
mod config;
mod data;
mod evaluate;
mod probe;

pub use config::{Config, DataArgs, DataConfig, EvaluationConfig, ImageArgs};
pub use data::{Data, Names};
pub use evaluate::{Evaluator, Judged};
pub use probe::{ProbeConfig, probe, variables};
