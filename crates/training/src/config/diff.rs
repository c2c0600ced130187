//! What differs between two configurations.
use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use toml::{Table, Value};

use crate::{Error, Result};

/// A key whose value differs between two configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// Full path of the key, such as `model.hidden`.
    pub key: String,
    /// The old value as TOML; none if the key is new.
    pub old: Option<String>,
    /// The new value as TOML; none if the key is gone.
    pub new: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "absent".into());
        write!(f, "{}: {} -> {}", self.key, text(&self.old), text(&self.new))
    }
}

/// The keys whose values differ between two configurations, in the order of their paths.
pub fn diff<C: Serialize>(old: &C, new: &C) -> Result<Vec<Change>> {
    let (old, new) = (leaves(old)?, leaves(new)?);
    let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    Ok(keys
        .into_iter()
        .map(|key| Change {
            key: key.clone(),
            old: old.get(key).cloned(),
            new: new.get(key).cloned(),
        })
        .filter(|change| change.old != change.new)
        .collect())
}

/// Every value that is not a table, as TOML text by its path.
fn leaves<C: Serialize>(config: &C) -> Result<BTreeMap<String, String>> {
    let table = Table::try_from(config)
        .map_err(|error| Error::Usage(format!("this configuration cannot be written: {error}")))?;
    let mut leaves = BTreeMap::new();
    collect("", &table, &mut leaves);
    Ok(leaves)
}

pub(super) fn collect(prefix: &str, table: &Table, leaves: &mut BTreeMap<String, String>) {
    for (name, value) in table {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            Value::Table(inner) => collect(&path, inner, leaves),
            value => {
                leaves.insert(path, value.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_added_and_removed_keys_are_listed_by_path() {
        let table = |text: &str| text.parse::<Table>().unwrap();
        let old = table("seed = 1\n[model]\nhidden = 2\nname = \"a\"\n[rate]\nkind = \"x\"");
        let new = table("seed = 1\n[model]\nhidden = 3\nname = \"a\"\n[rate]\nend = 0.5");
        let text: Vec<String> = diff(&old, &new).unwrap().iter().map(Change::to_string).collect();
        assert_eq!(
            text,
            ["model.hidden: 2 -> 3", "rate.end: absent -> 0.5", "rate.kind: \"x\" -> absent"]
        );
        assert!(diff(&old, &old.clone()).unwrap().is_empty());
    }
}
