//! The file of a sweep, and the list of cases that it stands for.
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use crate::{Error, Result};

/// Most cases that a sweep may have.
const MOST: usize = 1_000_000;

/// A grid of configurations times seeds.
///
/// ```toml
/// program = "vae"                       # beside the program that reads this, or a path
/// config = "jang-categorical.toml"      # beside this file; without it, the configuration built into the program
/// seeds = 3                             # 1, 2, 3; or a list
/// set = ["train.steps=20000"]           # changes for every case
/// args = ["--dataset", "mnist"]         # further options for every case
///
/// [grid]                                # every combination; values are those of `--set`
/// "estimator.temperature" = [0.5, 1.0]
/// "model.latents" = [10, 20]
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    /// The name of the file without its ending; runs are called so.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// What all cases start from; none for the configuration built into the program.
    pub config: Option<PathBuf>,
    /// Further options of the program for every case.
    pub args: Vec<String>,
    /// Names of the keys of the grid, sorted.
    pub keys: Vec<String>,
    /// Seed by seed, so that the whole grid is there early; within it the last key changes fastest.
    pub cases: Vec<Case>,
}

/// A point of the grid under a seed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Case {
    /// Values of the keys, in their order, as they are said.
    pub values: Vec<String>,
    /// All changes of the configuration, `KEY=VALUE`.
    pub set: Vec<String>,
    /// The seed.
    pub seed: u64,
}

/// Options that a sweep gives itself, and `--init`, of which a run's configuration says nothing.
const OURS: [&str; 15] = [
    "--config",
    "--seed",
    "--out",
    "--name",
    "--resume",
    "--init",
    "--threads",
    "--quiet",
    "-q",
    "--verbose",
    "-v",
    "--print-config",
    "--dry-run",
    "--data-dir",
    "--set",
];

/// `--out` of `--out=runs`.
fn option_of(arg: &str) -> &str {
    arg.split_once('=').map_or(arg, |(option, _)| option)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    program: PathBuf,
    config: Option<PathBuf>,
    seeds: Option<Value>,
    #[serde(default)]
    set: Vec<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    grid: Table,
}

impl Sweep {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, or says something that cannot be meant; the message has file, line and column.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(Error::io(format!("reading {}", path.display())))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, &name, folder)
            .map_err(|reason| Error::Usage(format!("{}: {reason}", path.display())))
    }

    fn parse(text: &str, name: &str, folder: &Path) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        if let Some(option) = file.args.iter().find(|arg| OURS.contains(&option_of(arg))) {
            return Err(format!(
                "args: {option} cannot be among them; it is the sweep's own, or would not be seen in a run's configuration"
            ));
        }
        let mut axes = Vec::new();
        flatten("", &file.grid, &mut axes)?;
        let sizes = axes.iter().map(|(_, values)| values.len());
        let seeds = seeds(file.seeds.as_ref())?;
        let cases = sizes.chain([seeds.len()]).try_fold(1_usize, usize::checked_mul);
        if cases.is_none_or(|cases| cases > MOST) {
            return Err(format!("more than {MOST} cases; leave out some of the grid"));
        }
        let mut grid = vec![Case { values: Vec::new(), set: file.set.clone(), seed: 0 }];
        for (key, values) in &axes {
            let with = |case: &Case, value: &Value| {
                let mut case = case.clone();
                case.values.push(said(value));
                case.set.push(format!("{key}={value}"));
                case
            };
            grid = grid.iter().flat_map(|case| values.iter().map(move |v| with(case, v))).collect();
        }
        let under = |seed: u64| grid.iter().map(move |case| Case { seed, ..case.clone() });
        Ok(Self {
            name: name.to_owned(),
            program: file.program,
            config: file.config.map(|config| folder.join(config)),
            args: file.args,
            keys: axes.iter().map(|(key, _)| key.clone()).collect(),
            cases: seeds.into_iter().flat_map(under).collect(),
        })
    }
}

/// `estimator.temperature = [0.5, 1]`, whether its key is quoted or made of tables.
fn flatten(path: &str, table: &Table, axes: &mut Vec<(String, Vec<Value>)>) -> Result<(), String> {
    for (key, value) in table {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match value {
            Value::Array(values) if values.is_empty() => {
                return Err(format!("grid: `{path}` has no values"));
            }
            Value::Array(values) => axes.push((path, values.clone())),
            Value::Table(table) => flatten(&path, table, axes)?,
            _ => {
                return Err(format!(
                    "grid: `{path}` is {value}; give a list of values, or put `{path}={value}` into `set`"
                ));
            }
        }
    }
    Ok(())
}

fn seeds(value: Option<&Value>) -> Result<Vec<u64>, String> {
    let wrong = || "seeds: give a number from 1, or a list of different seeds from 0".to_owned();
    let seed = |value: &Value| value.as_integer().and_then(|n| u64::try_from(n).ok());
    let seeds: Option<Vec<u64>> = match value {
        None => Some(vec![1]),
        Some(Value::Array(list)) => list.iter().map(seed).collect(),
        Some(value) => seed(value).filter(|n| *n <= MOST as u64).map(|n| (1..=n).collect()),
    };
    let seeds = seeds.filter(|seeds| !seeds.is_empty()).ok_or_else(wrong)?;
    let mut once = seeds.clone();
    once.sort_unstable();
    once.dedup();
    if once.len() == seeds.len() { Ok(seeds) } else { Err(wrong()) }
}

/// A value for a person: a string without quotes.
fn said(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Sweep, String> {
        Sweep::parse(text, "t", Path::new("folder"))
    }

    #[test]
    fn the_list_is_every_combination_seed_by_seed_the_last_key_fastest() {
        let text = "program = \"vae\"\nconfig = \"c.toml\"\nseeds = [7, 3]\nset = [\"a=1\"]\n\
                    [grid]\n\"z.y\" = [0.5, 1]\nmodel.name = [\"x\", \"y z\"]\n";
        let sweep = parse(text).unwrap();
        assert_eq!(sweep.keys, ["model.name", "z.y"]);
        assert_eq!(sweep.config.as_deref(), Some(Path::new("folder/c.toml")));
        let said: Vec<String> = sweep
            .cases
            .iter()
            .map(|case| format!("{} {}", case.seed, case.values.join(" ")))
            .collect();
        let expected = ["x 0.5", "x 1", "y z 0.5", "y z 1"];
        let expected: Vec<String> =
            [7, 3].iter().flat_map(|s| expected.map(|point| format!("{s} {point}"))).collect();
        assert_eq!(said, expected);
        assert_eq!(sweep.cases[2].set, ["a=1", "model.name=\"y z\"", "z.y=0.5"]);
        assert_eq!(sweep, parse(text).unwrap());
    }

    #[test]
    fn without_a_grid_there_are_the_seeds_and_tables_can_be_values() {
        let seeds = |text: &str| -> Vec<u64> {
            parse(text).unwrap().cases.iter().map(|case| case.seed).collect()
        };
        assert_eq!(seeds("program = \"vae\""), [1]);
        assert_eq!(seeds("program = \"vae\"\nseeds = 3"), [1, 2, 3]);
        let text = "program = \"vae\"\n[grid]\nrate = [{ kind = \"constant\", value = 1.5 }]\n";
        let set = &parse(text).unwrap().cases[0].set;
        assert_eq!(set, &["rate={ kind = \"constant\", value = 1.5 }"]);
    }

    #[test]
    fn what_cannot_be_meant_is_said() {
        for (text, part) in [
            ("", "program"),
            ("program = \"vae\"\nsed = 1", "sed"),
            ("program = \"vae\"\n[grid]\na = 1", "`a` is 1; give a list"),
            ("program = \"vae\"\n[grid]\na.b = []", "`a.b` has no values"),
            ("program = \"vae\"\nargs = [\"--init=x\"]", "args: --init=x cannot"),
            ("program = \"vae\"\nseeds = 0", "seeds"),
            ("program = \"vae\"\nseeds = [1, 1]", "seeds"),
            ("program = \"vae\"\nseeds = [-1]", "seeds"),
            ("program = \"vae\"\nseeds = 2000000", "seeds"),
            ("program = \"vae\"\nseeds = 1000000\n[grid]\na = [1, 2]", "more than 1000000"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.toml");
        std::fs::write(&path, "program = \"vae\"\nseeds =\n").unwrap();
        let error = Sweep::read(&path).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("s.toml") && error.to_string().contains("line 2"));
        assert_eq!(Sweep::read(&folder.path().join("no.toml")).unwrap_err().exit_code(), 74);
    }
}
