//! What tells configurations apart.
use sha2::{Digest, Sha256};
use toml::{Table, Value};

use super::explain::Origin;
use super::text::parse;
use crate::{Error, Result, files};

/// Keys that a resumed run may change, because no result depends on them before they take effect.
pub(crate) const MAY_CHANGE: [&str; 5] = [
    "train.steps",
    "train.log_every",
    "train.evaluate_every",
    "train.checkpoint_every",
    "train.keep",
];

/// SHA-256 over everything in a configuration that results depend on: all but the keys that a resumed
/// run may change.
pub(crate) fn fingerprint(config_toml: &str) -> Result<String> {
    let mut table = parse(config_toml, &Origin::Default)?;
    for key in MAY_CHANGE {
        remove(&mut table, key);
    }
    let canonical = toml::to_string(&table)
        .map_err(|error| Error::Usage(format!("this configuration cannot be written: {error}")))?;
    Ok(files::hex(&Sha256::digest(canonical)))
}

fn remove(table: &mut Table, path: &str) {
    match path.split_once('.') {
        None => {
            table.remove(path);
        }
        Some((head, rest)) => {
            if let Some(Value::Table(inner)) = table.get_mut(head) {
                remove(inner, rest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_ignores_what_a_resumed_run_may_change_and_nothing_else() {
        let text = "seed = 1\n\n[model]\nhidden = 200\n\n[train]\nsteps = 10\n";
        let print = |text: &str| fingerprint(text).unwrap();
        assert_eq!(print(text), print(&text.replace("steps = 10", "steps = 99")));
        assert_ne!(print(text), print(&text.replace("hidden = 200", "hidden = 99")));
        assert_eq!(print(text).len(), 64);
    }
}
