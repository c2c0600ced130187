//! Changes of single keys: `train.log_every=50`.
use toml::{Table, Value};

use crate::{Error, Result};

/// One `--set KEY=VALUE`.
#[derive(Clone, Debug)]
pub(super) struct Override {
    path: Vec<String>,
    value: Value,
}

impl Override {
    /// Reads `a.b=c`.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let Some((key, value)) = text.split_once('=').filter(|(key, _)| !key.trim().is_empty())
        else {
            let hint = "write KEY=VALUE, for example train.log_every=50";
            return Err(Error::Usage(format!("--set `{text}`: no key and value; {hint}")));
        };
        let path: Vec<String> = key.trim().split('.').map(|part| part.trim().to_owned()).collect();
        let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if path.iter().any(|part| part.is_empty() || !part.chars().all(bare)) {
            let hint = "write words of letters, digits, `_` and `-` with single dots between";
            return Err(Error::Usage(format!("--set: `{}` is no key path; {hint}", key.trim())));
        }
        let value = parse_value(value.trim())
            .map_err(|problem| Error::Usage(format!("--set {}: {problem}", text.escape_debug())))?;
        Ok(Self { path, value })
    }

    /// `table` with this key changed or added.
    pub(super) fn apply(&self, mut table: Table) -> Result<Table> {
        set(&mut table, &self.path, &self.value).map_err(|depth| {
            let parent = self.path.get(..depth).unwrap_or_default().join(".");
            let key = self.path.join(".");
            Error::Usage(format!(
                "--set {key}: `{parent}` is a value and not a table; set `{parent}` itself"
            ))
        })?;
        Ok(table)
    }
}

/// Sets `path` below `table`; the error is the length of the part of the path that is not a table.
fn set(table: &mut Table, path: &[String], value: &Value) -> Result<(), usize> {
    match path {
        [] => {}
        [last] => {
            table.insert(last.clone(), value.clone());
        }
        [head, rest @ ..] => {
            let inner = table.entry(head.clone()).or_insert_with(|| Value::Table(Table::new()));
            let Value::Table(inner) = inner else { return Err(1) };
            set(inner, rest, value).map_err(|depth| depth + 1)?;
        }
    }
    Ok(())
}

/// A TOML value, or a bare word as a string.
fn parse_value(text: &str) -> Result<Value, String> {
    if text.is_empty() {
        return Err(
            "the value is empty; for an empty string write KEY=\"\" in quotes for the shell, \
                    as in --set 'seed=\"\"'"
                .into(),
        );
    }
    let word = |c: char| c.is_alphanumeric() || "_-./:+@ ".contains(c);
    let string = || Value::String(text.to_owned());
    match format!("v = {text}").parse::<Table>() {
        Ok(table) if table.len() > 1 => Err("more than one value; use one --set for each".into()),
        Ok(mut table) => match table.remove("v") {
            // Nobody means a date here, but a run may be named like one.
            Some(Value::Datetime(_)) | None => Ok(string()),
            Some(value) => Ok(value),
        },
        Err(_) if text.chars().all(word) => Ok(string()),
        Err(error) => {
            Err(format!("`{}` is no TOML value: {}", text.escape_debug(), error.message()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_type_that_toml_gives_them() {
        for (text, value) in [
            ("3", Value::Integer(3)),
            ("-3e-2", Value::Float(-0.03)),
            ("true", Value::Boolean(true)),
            ("truly", Value::String("truly".into())),
            ("\"3\"", Value::String("3".into())),
            ("a/b c.toml", Value::String("a/b c.toml".into())),
            ("2026-01-02", Value::String("2026-01-02".into())),
            ("[1, 2]", Value::Array(vec![Value::Integer(1), Value::Integer(2)])),
        ] {
            assert_eq!(parse_value(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn a_value_may_hold_an_equals_sign() {
        let table = Override::parse("a.b = 'x=y'").unwrap().apply(Table::new()).unwrap();
        assert_eq!(toml::to_string(&table).unwrap(), "[a]\nb = \"x=y\"\n");
    }
}
