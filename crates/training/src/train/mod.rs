//! The loop around a training step.
mod config;
mod evaluation;
mod micro;
mod restore;
mod start;
mod step;
mod training;

pub use config::{Precision, TrainConfig};
pub use evaluation::Evaluation;
pub(crate) use evaluation::drop_samples;
pub use micro::MicroBatch;
pub use step::Step;
