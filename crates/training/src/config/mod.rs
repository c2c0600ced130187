//! Configurations: TOML text, overrides by key path, and what changed.
//!
//! An experiment embeds its default configuration (`include_str!`); a file given with `--config` takes
//! its place entirely; each `--set model.hidden=256` then changes one key. The result is one checked
//! type, and written out again it is a complete configuration file.
mod diff;
mod explain;
mod fingerprint;
mod overrides;
mod resolve;
mod sources;
mod text;

pub use diff::{Change, diff};
pub(crate) use fingerprint::{MAY_CHANGE, fingerprint};
pub use resolve::resolve;
pub(crate) use sources::with_sources;
pub(crate) use text::read;
pub use text::to_toml;
