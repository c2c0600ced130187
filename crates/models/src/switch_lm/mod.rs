//! A language model whose words are ruled by a chain of discrete states, with an exact likelihood.
mod bound;
mod config;
mod emission;
mod model;
#[cfg(test)]
mod tests;

pub use config::{Emission, SwitchLmConfig};
pub use model::SwitchLm;
