//! The variational autoencoder with layers of discrete latents.
mod centre;
mod config;
mod model;
mod pixels;

pub use config::{CategoricalVaeConfig, Prior};
pub use model::CategoricalVae;
pub use pixels::ContextConfig;
