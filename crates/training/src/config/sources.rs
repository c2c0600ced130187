//! Where each value of a configuration comes from.
use toml::Table;

use super::diff::collect;
use super::explain::Origin;
use super::text::parse;
use crate::Result;

/// A complete configuration, a value a line by its path, each with its source: the text it started from (`base`, called `name`),
/// one of `overrides` (`KEY=VALUE`), or the default of the program.
///
/// The result is TOML itself.
pub(crate) fn with_sources(
    config_toml: &str,
    (base, name): (&str, &str),
    overrides: &[String],
) -> Result<String> {
    let leaves = |text: &str| -> Result<_> {
        let table: Table = parse(text, &Origin::Default)?;
        let mut leaves = std::collections::BTreeMap::new();
        collect("", &table, &mut leaves);
        Ok(leaves)
    };
    let (base, all) = (leaves(base)?, leaves(config_toml)?);
    let keys: Vec<&str> =
        overrides.iter().filter_map(|set| Some(set.split_once('=')?.0.trim())).collect();
    let within = |path: &str, key: &str| {
        path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let source = |path: &str| {
        if keys.iter().any(|key| within(path, key)) {
            "command line"
        } else if base.keys().any(|key| within(path, key)) {
            // Of a number too, that is a table once it is read: a schedule.
            name
        } else {
            "default"
        }
    };
    let lines: Vec<(String, &str)> =
        all.iter().map(|(path, value)| (format!("{path} = {value}"), source(path))).collect();
    let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0).min(60);
    Ok(lines.iter().map(|(line, source)| format!("{line:width$}  # {source}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_has_the_source_that_it_is_from_and_all_is_toml() {
        let base = "seed = 1\ntau = 0.5\n[rate]\nkind = \"x\"\nvalue = 2\n";
        let config = "seed = 1\n[rate]\nkind = \"x\"\nvalue = 3\n[tau]\nvalue = 0.5\n[train]\nkeep = 2\nsteps = 9\n";
        let overrides = ["rate.value=3".to_owned(), "train.steps=9".to_owned()];
        let text = with_sources(config, (base, "mine.toml"), &overrides).unwrap();
        let expected = "rate.kind = \"x\"  # mine.toml\nrate.value = 3   # command line\n\
                        seed = 1         # mine.toml\ntau.value = 0.5  # mine.toml\ntrain.keep = 2   # default\ntrain.steps = 9  # command line\n";
        assert_eq!(text, expected);
        assert_eq!(text.parse::<Table>().unwrap(), config.parse::<Table>().unwrap());
        let whole = with_sources(config, (base, "b"), &["rate={ kind = \"x\" }".to_owned()]);
        assert!(whole.unwrap().starts_with("rate.kind = \"x\"  # command line\nrate.value = 3"));
    }
}
