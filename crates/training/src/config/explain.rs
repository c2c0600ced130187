//! Errors of a configuration in the words of the person who wrote it.
use std::path::Path;

use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use crate::Error;

/// How alike two words must be for one to be suggested for the other (Jaro–Winkler, 1 is equal).
const ALIKE: f64 = 0.82;

/// Where a configuration, or the part of it in question, comes from.
#[derive(Clone, Debug)]
pub(super) enum Origin<'a> {
    /// Built into the program, or a text without a name.
    Default,
    /// A file.
    File(&'a Path),
    /// A `--set` of the command line.
    Set(&'a str),
}

/// The error as one line: where, which key with its full path, what is wrong, what was perhaps meant.
pub(super) fn explain(
    error: &toml::de::Error,
    origin: &Origin<'_>,
    text: &str,
    known: &Table,
) -> Error {
    let mut path = key_path(error);
    let message = error.message().trim();
    let quoted = backticked(message);
    let wrong = quoted.first().copied().unwrap_or_default();
    let offered = quoted.get(1..).unwrap_or_default();
    let parent = path.join(".");
    // Errors that are not the library's begin with the key.
    if path.is_empty() && message.starts_with('`') {
        path.extend(wrong.split('.').map(str::to_owned));
    }
    let mut what = if message.starts_with("unknown field") {
        path.push(wrong.to_owned());
        unknown_key(&path, offered, known)
    } else if message.starts_with("unknown variant") {
        let nearest = nearest(wrong, offered.iter().copied());
        format!(
            "unknown value `{wrong}` in `{parent}`{}; one of: {}",
            suggestion(nearest),
            list(offered)
        )
    } else if parent.is_empty() {
        message.to_owned()
    } else {
        format!("`{parent}`: {message}")
    };
    let place = match origin {
        Origin::Default => "built-in configuration".to_owned(),
        Origin::File(file) => {
            let start = position(text, &path).or_else(|| error.span().map(|span| span.start));
            let (line, column) = line_and_column(text, start.unwrap_or(0));
            format!("{}:{line}:{column}", file.display())
        }
        Origin::Set(set) => {
            // Not where it is the key itself that is wrong.
            if let Some((key, table, tag)) = tag_of(set)
                && path.join(".") != key
                && !message.starts_with("unknown variant")
            {
                let table = if table.is_empty() { "KEY" } else { table };
                what.push_str(&format!(
                    "; where `{tag}` decides which keys there are, set the whole table: \
                     {table}={{ {tag} = \"…\", … }}",
                ));
            }
            format!("--set {set}")
        }
    };
    Error::Usage(format!("{place}: {what}"))
}

/// The key, its table and its last word, of a `--set` of a key that decides which others there are.
fn tag_of(set: &str) -> Option<(&str, &str, &str)> {
    let key = set.split('=').next()?.trim();
    let (table, tag) = key.rsplit_once('.').unwrap_or(("", key));
    matches!(tag, "kind" | "method" | "bound").then_some((key, table, tag))
}

fn unknown_key(path: &[String], offered: &[&str], known: &Table) -> String {
    let (name, parents) = path.split_last().map_or(("", &[][..]), |(n, p)| (n.as_str(), p));
    let beside = nearest(name, offered.iter().copied()).map(|found| {
        parents.iter().map(String::as_str).chain([found]).collect::<Vec<_>>().join(".")
    });
    // A key that is right, but of another table.
    let elsewhere = || {
        let mut paths = Vec::new();
        collect_paths("", known, &mut paths);
        let last = |path: &String| path.rsplit('.').next().unwrap_or_default().to_owned();
        paths.into_iter().find(|path| last(path) == name)
    };
    let path = path.join(".");
    let found = beside.or_else(elsewhere).filter(|found| *found != path);
    format!("unknown key `{path}`{}; keys here: {}", suggestion(found.as_deref()), list(offered))
}

fn suggestion(found: Option<&str>) -> String {
    found.map(|word| format!(", did you mean `{word}`?")).unwrap_or_default()
}

fn list(words: &[&str]) -> String {
    if words.is_empty() {
        return "none".into();
    }
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn nearest<'a>(wrong: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    words
        .map(|word| (strsim::jaro_winkler(wrong, word), word))
        .filter(|(score, _)| *score >= ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, word)| word)
}

/// The keys above the mistake. The library gives them only as the last line of its text.
fn key_path(error: &toml::de::Error) -> Vec<String> {
    let mut error = error.clone();
    error.set_input(None);
    let text = error.to_string();
    let last = text.trim_end().lines().last().unwrap_or_default();
    let path = last.strip_prefix("in `").and_then(|rest| rest.strip_suffix('`'));
    path.map(|path| path.split('.').map(str::to_owned).collect()).unwrap_or_default()
}

/// All the words of a message that stand in backticks.
fn backticked(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

/// Byte at which the deepest key of `path` that is in the text starts.
fn position(text: &str, path: &[String]) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let mut table = document.get_ref();
    let mut found = None;
    for name in path {
        let Some((key, value)) = table.iter().find(|(key, _)| key.get_ref() == name.as_str())
        else {
            break;
        };
        found = Some(key.span().start);
        let DeValue::Table(inner) = value.get_ref() else { break };
        table = inner;
    }
    found
}

/// Line and column (in characters) of a byte, both counted from 1.
fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before: String = text.char_indices().take_while(|(i, _)| *i < at).map(|(_, c)| c).collect();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    (line, column)
}

fn collect_paths(prefix: &str, table: &Table, paths: &mut Vec<String>) {
    for (name, value) in table {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        if let Value::Table(inner) = value {
            collect_paths(&path, inner, paths);
        }
        paths.push(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_lines_start_at_one() {
        assert_eq!(line_and_column("", 0), (1, 1));
        assert_eq!(line_and_column("é = 1\nüx = 2", 9), (2, 2));
        assert_eq!(line_and_column("a\n", 99), (2, 1));
    }

    #[test]
    fn only_words_that_are_alike_are_suggested() {
        let words = ["hidden", "latents", "categories"];
        assert_eq!(nearest("hiden", words.into_iter()), Some("hidden"));
        assert_eq!(nearest("lattents", words.into_iter()), Some("latents"));
        assert_eq!(nearest("zzz", words.into_iter()), None);
    }

    #[test]
    fn words_in_backticks_are_found() {
        let message = "unknown field `a`, expected `b` or `c`";
        assert_eq!(backticked(message), ["a", "b", "c"]);
        assert!(backticked("no words, one ` only").len() <= 1);
    }
}
