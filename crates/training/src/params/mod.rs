//! The trainable parameters of a model, by name.
mod backend;
mod error;
mod initial;
mod named;
mod shared;
mod store;
pub(crate) mod strict;

pub use error::ParamsError;
pub use named::Params;
pub use strict::Mismatch;
