//! Optimisers whose whole state can be saved.
#[cfg(test)]
mod check;
mod clip;
mod config;
mod descent;
mod error;
mod rules;
mod state;

pub use clip::clip_global_norm;
pub use config::{AdamConfig, OptimizerConfig};
pub use descent::Optimizer;
pub use error::OptimizerError;
