//! One checked configuration of text and overrides.
use std::path::Path;

use serde::Serialize;
use serde::de::{DeserializeOwned, Error as _};
use toml::{Table, Value};

use super::explain::{Origin, explain};
use super::overrides::Override;
use super::text::{parse, read};
use crate::Result;

/// The configuration of a run: `default_toml` or, in its place, `file`, with `sets` applied in order.
///
/// Each of `sets` is `a.b=c`; `c` is a TOML value, a bare word is taken as a string, and a whole table
/// can be given as `{ kind = "constant", value = 0.5 }`. A key that the type does not have is an error
/// that gives its full path, where it stands, and the nearest key there is.
///
/// ```
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # #[serde(deny_unknown_fields)]
/// # struct Config { seed: u64, model: Model }
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # #[serde(deny_unknown_fields)]
/// # struct Model { hidden: usize }
/// use gumbel_training::config::resolve;
/// let default = "seed = 1\n[model]\nhidden = 200\n";
/// let config: Config = resolve(default, None, &["model.hidden=256".into()])?;
/// assert_eq!((config.seed, config.model.hidden), (1, 256));
/// let error = resolve::<Config>(default, None, &["model.hiden=256".into()]).err();
/// assert!(error.is_some_and(|e| e.to_string().contains("did you mean `model.hidden`?")));
/// # Ok::<(), gumbel_training::Error>(())
/// ```
pub fn resolve<C: Serialize + DeserializeOwned>(
    default_toml: &str,
    file: Option<&Path>,
    sets: &[String],
) -> Result<C> {
    let text = match file {
        Some(path) => read(path)?,
        None => default_toml.to_owned(),
    };
    let origin = file.map_or(Origin::Default, Origin::File);
    resolve_text(&text, &origin, default_toml, sets)
}

/// A configuration with all its defaults written out, if it is a valid one.
fn written_out<C: Serialize + DeserializeOwned>(base: &Table) -> Option<Table> {
    Table::try_from(deserialize::<C>(base.clone()).ok()?).ok()
}

/// [`resolve`] with the text at hand; `known_toml` is where suggestions come from.
fn resolve_text<C: Serialize + DeserializeOwned>(
    text: &str,
    origin: &Origin<'_>,
    known_toml: &str,
    sets: &[String],
) -> Result<C> {
    let mut base = parse(text, origin)?;
    let overrides: Vec<Override> =
        sets.iter().map(|set| Override::parse(set)).collect::<Result<_>>()?;
    let apply = |base: &Table, count: usize| -> Result<Table> {
        overrides.iter().take(count).try_fold(base.clone(), |table, o| o.apply(table))
    };
    let mut outcome = deserialize::<C>(apply(&base, overrides.len())?);
    // One key of a table that the text leaves to its default is no whole table.
    if let (Err(_), Some(full)) = (&outcome, written_out::<C>(&base)) {
        base = full;
        outcome = deserialize::<C>(apply(&base, overrides.len())?);
    }
    let error = match outcome {
        Ok(config) => return Ok(config),
        Err(error) => error,
    };
    let with = |count: usize| apply(&base, count);
    // The first override that brings this very error about is to blame; if none does, the text is.
    let mut blamed = None;
    for count in 0..=overrides.len() {
        let same = |other: &toml::de::Error| other.to_string() == error.to_string();
        if deserialize::<C>(with(count)?).err().as_ref().is_some_and(same) {
            blamed = count.checked_sub(1).and_then(|i| sets.get(i));
            break;
        }
    }
    let known = known_toml.parse::<Table>().unwrap_or_default();
    let origin = blamed.map_or_else(|| origin.clone(), |set| Origin::Set(set));
    Err(explain(&error, &origin, text, &known))
}

/// The configuration that `table` is; a list is none of a table's keys in order, which serde would take it for.
fn deserialize<C: Serialize + DeserializeOwned>(table: Table) -> Result<C, toml::de::Error> {
    let config = C::deserialize(Value::Table(table.clone()))?;
    let full = Table::try_from(&config).unwrap_or_default();
    match list_for_table(&table, &full) {
        None => Ok(config),
        Some(path) => Err(toml::de::Error::custom(format!(
            "`{path}` is a table, not a list; write {path} = {{ KEY = VALUE, … }}"
        ))),
    }
}

/// The path of the first list in `given` where `full`, all that was understood of it, has a table.
fn list_for_table(given: &Table, full: &Table) -> Option<String> {
    given.iter().find_map(|(key, value)| match (value, full.get(key)?) {
        (Value::Array(_), Value::Table(_)) => Some(key.clone()),
        (Value::Table(given), Value::Table(full)) => {
            list_for_table(given, full).map(|rest| format!("{key}.{rest}"))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::super::to_toml;
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        model: Model,
        name: String,
        rate: Rate,
        seed: u64,
        train: Train,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Model {
        hidden: usize,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dropout: Option<f64>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Train {
        steps: u64,
        #[serde(default)]
        rule: Rule,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
    enum Rule {
        Adam { beta: f64 },
    }

    impl Default for Rule {
        fn default() -> Self {
            Self::Adam { beta: 0.9 }
        }
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
    enum Rate {
        Constant { value: f64 },
        HalfCosine { start: f64 },
    }

    const DEFAULT: &str = "seed = 1\nname = \"x\"\nrate = { kind = \"constant\", value = 0.5 }\n\n\
                           [model]\nhidden = 200\n\n[train]\nsteps = 10\n";

    fn with(sets: &[&str]) -> Result<Config> {
        resolve(DEFAULT, None, &sets.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn one_key_of_a_table_that_the_text_leaves_out_can_be_set() {
        assert_eq!(with(&["train.rule.beta=0.5"]).unwrap().train.rule, Rule::Adam { beta: 0.5 });
        let error = with(&["train.rule.betta=0.5"]).unwrap_err().to_string();
        assert!(error.contains("did you mean `train.rule.beta`?"), "{error}");
    }

    fn message(sets: &[&str]) -> String {
        let error = with(sets).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    }

    #[test]
    fn overrides_are_toml_values_or_bare_words_and_the_last_one_wins() {
        let config = with(&[
            "seed=7",
            "seed=8",
            "name=first-try",
            "model.dropout=1e-1",
            "rate={ kind = \"half-cosine\", start = 2 }",
        ])
        .unwrap();
        assert_eq!((config.seed, config.name.as_str()), (8, "first-try"));
        assert_eq!(config.model, Model { hidden: 200, dropout: Some(0.1) });
        assert_eq!(config.rate, Rate::HalfCosine { start: 2. });
    }

    #[test]
    fn the_resolved_configuration_reads_back() {
        let config = with(&["model.hidden=3", "rate.value=1e-7"]).unwrap();
        let text = to_toml(&config).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        std::fs::write(&path, &text).unwrap();
        // The default is not looked at: it would not even fit the type.
        let again: Config = resolve("other = 1", Some(&path), &[]).unwrap();
        assert_eq!(
            (again, text.clone()),
            (config, to_toml(&with(&["model.hidden=3", "rate.value=1e-7"]).unwrap()).unwrap())
        );
    }

    #[test]
    fn wrong_overrides_are_explained() {
        for (set, parts) in [
            (
                "model.hiden=3",
                &["--set model.hiden=3", "`model.hiden`", "did you mean `model.hidden`?"][..],
            ),
            ("modl.hidden=3", &["`modl`", "did you mean `model`?"]),
            ("hidden=3", &["`hidden`", "did you mean `model.hidden`?"]),
            ("model.qqq=3", &["`model.qqq`", "`hidden`, `dropout`"]),
            ("model.hidden=lots", &["`model.hidden`", "lots", "usize"]),
            ("model.hidden=-1", &["`model.hidden`", "-1"]),
            ("model.hidden.x=1", &["`model.hidden`", "not a table"]),
            (
                "rate.kind=halfcosine",
                &["`halfcosine`", "`rate.kind`", "did you mean `half-cosine`?"],
            ),
            ("rate.kind=half-cosine", &["`rate", "whole table"]),
            ("seed", &["`seed`", "KEY=VALUE"]),
            ("=3", &["KEY=VALUE"]),
            ("seed=", &["seed=\"\""]),
            ("a..b=3", &["`a..b`"]),
            ("seed=1\nname=\"y\"", &["one value"]),
            ("name=[1", &["[1"]),
            ("train=[7]", &["--set train=[7]", "`train` is a table, not a list"]),
            ("train.rule=['adam', 0.5]", &["--set train.rule", "`train.rule` is a table"]),
        ] {
            let text = message(&["seed=5", set]);
            for part in parts {
                assert!(text.contains(part), "{part} is not in: {text}");
            }
        }
    }

    #[test]
    fn mistakes_in_a_file_come_with_file_line_and_column() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mine.toml");
        for (text, parts) in [
            (
                DEFAULT.replace("hidden", "  hiden"),
                &["mine.toml:6:3:", "`model.hiden`", "`model.hidden`"][..],
            ),
            (DEFAULT.replace("200", "\"é\""), &["mine.toml:6:1:", "`model.hidden`"]),
            (DEFAULT.replace("200", "2 00"), &["mine.toml:6:"]),
            (
                DEFAULT.replace("[train]\nsteps = 10", "[train]\nsteps = 10\nrule = ['adam', 0.5]"),
                &["mine.toml:10:1:", "`train.rule` is a table"],
            ),
            (
                DEFAULT.replace("hidden = 200", ""),
                &["mine.toml:5:2:", "missing field `hidden`", "`model`"],
            ),
            (DEFAULT.replace("seed = 1", "seed = 1\nseed = 2"), &["mine.toml:2:", "duplicate"]),
            ("\u{fffd}".repeat(3), &["mine.toml:1:"]),
        ] {
            std::fs::write(&path, &text).unwrap();
            let error = resolve::<Config>(DEFAULT, Some(&path), &["seed=3".into()]).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            for part in parts {
                assert!(error.to_string().contains(part), "{part} is not in: {error}");
            }
        }
        std::fs::write(&path, b"seed = \xff").unwrap();
        let error = resolve::<Config>(DEFAULT, Some(&path), &[]).unwrap_err();
        assert!(error.to_string().contains("byte 7 is not UTF-8"), "{error}");
        let error =
            resolve::<Config>(DEFAULT, Some(&directory.path().join("no")), &[]).unwrap_err();
        assert_eq!(error.exit_code(), 74);
    }

    #[test]
    fn an_override_can_mend_a_file_that_is_incomplete() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mine.toml");
        std::fs::write(&path, DEFAULT.replace("hidden = 200", "")).unwrap();
        let config: Config = resolve(DEFAULT, Some(&path), &["model.hidden=4".into()]).unwrap();
        assert_eq!(config.model.hidden, 4);
    }
}
