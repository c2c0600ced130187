//! Run directories.
#[cfg(test)]
mod check;
mod directory;
mod events;
mod follow;
mod layout;
mod lock;
mod metrics;
mod name;
mod open;
mod status;

pub use directory::Run;
pub(crate) use events::Events;
pub(crate) use layout::{CONFIG, INIT};
pub(crate) use metrics::Metrics;
pub(crate) use name::check_name;
pub(crate) use status::Status;
