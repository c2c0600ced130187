//! What the experiments on images share: their configuration, which images, how a model is judged, what is printed.
mod budget;
mod config;
mod data;
mod evaluate;
mod output;
mod places;
mod probe;

pub use budget::Budget;
pub use config::{Config, DataArgs, DataConfig, EvaluationConfig, ImageArgs};
pub use data::{Data, Names, loaded};
pub use evaluate::{Evaluator, Judged};
pub use output::{print, say, told, write_and_say, write_report, write_summary, write_whole};
pub use places::places;
pub use probe::{ProbeConfig, probe, variables};
