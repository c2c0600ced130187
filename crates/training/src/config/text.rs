//! Configurations as TOML text.
use std::path::Path;

use serde::Serialize;
use toml::Table;

use super::explain::{Origin, explain};
use crate::files::read_limited;
use crate::{Error, Result};

/// Upper limit for a configuration file in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// A configuration as TOML, itself a valid `--config` file.
pub fn to_toml<C: Serialize>(config: &C) -> Result<String> {
    toml::to_string_pretty(config)
        .map_err(|error| Error::Usage(format!("this configuration cannot be written: {error}")))
}

/// Reads a configuration file.
pub(crate) fn read(path: &Path) -> Result<String> {
    let bytes = read_limited(path, MAX_BYTES)?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Error::Usage(format!("{}: byte {at} is not UTF-8; save it as UTF-8 text", path.display()))
    })
}

/// A text as a table, or what is wrong with it.
pub(super) fn parse(text: &str, origin: &Origin<'_>) -> Result<Table> {
    text.parse().map_err(|error| explain(&error, origin, text, &Table::new()))
}
