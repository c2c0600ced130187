//! A language model whose sentences, or parts of them, have discrete codes.
mod config;
mod model;

pub use config::CodeLmConfig;
pub use model::CodeLm;
