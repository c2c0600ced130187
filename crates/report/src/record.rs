//! A run as it lies in its directory.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{Error, Result};

/// A line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Point {
    /// Steps done.
    pub step: u64,
    /// `train`, `valid` or `test`.
    pub split: String,
    /// Numbers by name; what is not finite is left out.
    pub numbers: BTreeMap<String, f64>,
}

/// A run as it lies in its directory, finished or not.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Record {
    /// Its directory.
    pub directory: PathBuf,
    /// What was run: the name of the folder that the run is in.
    pub experiment: String,
    /// The first line of `STATUS`; `unknown` where there is none.
    pub status: String,
    /// `config.toml` as it is.
    pub config_text: String,
    /// The values of the configuration by dotted name.
    pub config: BTreeMap<String, String>,
    /// `env.json`; null where there is none.
    pub(crate) environment: Value,
    /// `summary.json`; null before the end.
    pub(crate) summary: Value,
    /// `citations.bib`: who is to be cited for what was run.
    pub citations: String,
    /// `metrics.jsonl`, in order.
    pub points: Vec<Point>,
}

impl Record {
    /// Reads a run.
    ///
    /// A last line of the metrics that is not complete, as a run in progress or one that was killed leaves it, is left out.
    ///
    /// # Errors
    /// If there is no `config.toml`, a file cannot be read, or one does not hold what it should.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join("config.toml");
        if !path.is_file() {
            return Err(Error::NoRun(directory.to_path_buf()));
        }
        let config_text = text(&path)?.unwrap_or_default();
        let table: toml::Table = config_text.parse().map_err(|error: toml::de::Error| {
            Error::Corrupt { path, reason: error.message().to_owned() }
        })?;
        let mut config = BTreeMap::new();
        flatten("", &toml::Value::Table(table), &mut config);
        let whole = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_path_buf());
        let experiment = whole.parent().and_then(Path::file_name).unwrap_or_default();
        let status = text(&directory.join("STATUS"))?.unwrap_or_else(|| "unknown".to_owned());
        Ok(Self {
            experiment: experiment.to_string_lossy().into_owned(),
            status: status.lines().next().unwrap_or("unknown").to_owned(),
            environment: json(&directory.join("env.json"))?,
            summary: json(&directory.join("summary.json"))?,
            citations: text(&directory.join("citations.bib"))?.unwrap_or_default(),
            points: points(&directory.join("metrics.jsonl"))?,
            directory: directory.to_path_buf(),
            config_text,
            config,
        })
    }

    /// The name of the directory.
    #[must_use]
    pub fn name(&self) -> String {
        self.directory.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Steps done by the last line of the metrics.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.points.iter().map(|point| point.step).max().unwrap_or(0)
    }

    /// Names of metrics of a split, in the order in which they first occur.
    #[must_use]
    pub fn metrics(&self, split: &str) -> Vec<String> {
        let of_split = self.points.iter().filter(|point| point.split == split);
        distinct(of_split.flat_map(|point| point.numbers.keys().cloned()))
    }

    /// Steps and values of a metric on a split.
    #[must_use]
    pub fn curve(&self, split: &str, metric: &str) -> Vec<(f64, f64)> {
        let of_split = self.points.iter().filter(|point| point.split == split);
        let value = |point: &Point| Some((point.step as f64, *point.numbers.get(metric)?));
        of_split.filter_map(value).collect()
    }

    /// The value of a metric at the last step of a split; none if it was not measured there, as of an objective that ends as
    /// a bound under another name.
    #[must_use]
    pub fn last(&self, split: &str, metric: &str) -> Option<f64> {
        let last = self.points.iter().rfind(|point| point.split == split)?.step as f64;
        self.curve(split, metric).last().filter(|(step, _)| *step == last).map(|(_, value)| *value)
    }

    /// The pictures of the last step that has some, by name.
    pub fn pictures(&self) -> Result<Vec<PathBuf>> {
        let folder = self.directory.join("samples");
        let mut pictures: BTreeMap<String, PathBuf> = BTreeMap::new();
        for path in sorted(&folder)? {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            if path.extension().is_some_and(|extension| extension == "png") {
                // `step-000001000-prior`: the later of two of one kind comes later.
                let kind = name.splitn(3, '-').nth(2).unwrap_or(&name).to_owned();
                pictures.insert(kind, path);
            }
        }
        Ok(pictures.into_values().collect())
    }
}

/// Each name once, in the order in which they first occur.
#[must_use]
pub fn distinct(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut once = Vec::new();
    for name in names {
        if !once.contains(&name) {
            once.push(name);
        }
    }
    once
}

/// Every run directory below some places, each itself or up to three folders down, in the order of their names.
///
/// # Errors
/// If a directory cannot be read.
pub fn find_runs(places: &[PathBuf]) -> Result<Vec<PathBuf>> {
    fn search(place: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
        if place.join("config.toml").is_file() {
            found.push(place.to_path_buf());
        } else if depth > 0 && place.is_dir() {
            for path in sorted(place)? {
                search(&path, depth - 1, found)?;
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    for place in places {
        search(place, 3, &mut found)?;
    }
    Ok(found)
}

/// What is in a directory, by name; nothing where it is not there.
fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let refused = |source| Error::Io { path: folder.to_path_buf(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(refused(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(refused)?.path());
    }
    paths.sort();
    Ok(paths)
}

fn text(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { path: path.to_path_buf(), source }),
    }
}

fn json(path: &Path) -> Result<Value> {
    let Some(text) = text(path)? else { return Ok(Value::Null) };
    serde_json::from_str(&text)
        .map_err(|error| Error::Corrupt { path: path.to_path_buf(), reason: error.to_string() })
}

fn points(path: &Path) -> Result<Vec<Point>> {
    let Some(text) = text(path)? else { return Ok(Vec::new()) };
    let mut points = Vec::new();
    for (i, line) in text.split_inclusive('\n').enumerate() {
        if !line.ends_with('\n') {
            break;
        }
        let corrupt = |reason: String| Error::Corrupt {
            path: path.to_path_buf(),
            reason: format!("line {}: {reason}", i + 1),
        };
        let value: Value =
            serde_json::from_str(line).map_err(|error| corrupt(error.to_string()))?;
        let (Some(step), Some(split)) = (value["step"].as_u64(), value["split"].as_str()) else {
            return Err(corrupt("no step or no split".to_owned()));
        };
        let numbers = value.as_object().into_iter().flatten();
        let numbers = numbers.filter(|(name, _)| *name != "step");
        let numbers = numbers.filter_map(|(name, value)| Some((name.clone(), value.as_f64()?)));
        points.push(Point { step, split: split.to_owned(), numbers: numbers.collect() });
    }
    Ok(points)
}

/// The values of a configuration by dotted name, as TOML writes them.
fn flatten(prefix: &str, value: &toml::Value, into: &mut BTreeMap<String, String>) {
    match value {
        // A schedule is one value, whatever its kind.
        toml::Value::Table(table) if table.contains_key("kind") => {
            let parts = table.iter().map(|(key, value)| match value.as_str() {
                Some(text) => format!("{key}={text}"),
                None => format!("{key}={value}"),
            });
            into.insert(prefix.to_owned(), parts.collect::<Vec<_>>().join(" "));
        }
        toml::Value::Table(table) => {
            for (key, value) in table {
                let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&name, value, into);
            }
        }
        toml::Value::String(text) => {
            into.insert(prefix.to_owned(), text.clone());
        }
        other => {
            into.insert(prefix.to_owned(), other.to_string());
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A run of some steps, whose validation bound ends at `bound`.
    pub(crate) fn made_up(root: &Path, name: &str, config: &str, bound: f64) -> PathBuf {
        let directory = root.join("vae").join(name);
        fs::create_dir_all(directory.join("samples")).unwrap();
        let line = |step: u64, split: &str, value: f64| {
            format!(
                "{{\"step\":{step},\"split\":\"{split}\",\"bound\":{value},\"kl\":{}}}\n",
                step / 10
            )
        };
        let metrics = [
            line(100, "train", bound - 30.),
            line(100, "valid", bound - 20.),
            line(200, "train", bound - 10.),
            line(200, "valid", bound),
        ];
        let write = |file: &str, text: &str| fs::write(directory.join(file), text).unwrap();
        write("config.toml", config);
        write("metrics.jsonl", &metrics.concat());
        write("STATUS", "done\n");
        write(
            "summary.json",
            &format!("{{\"bound\": {bound}, \"steps\": 200, \"title\": \"mnist <&>\"}}"),
        );
        write(
            "env.json",
            "{\"argv\": [\"vae\", \"--seed\", \"1\"], \"git\": {\"commit\": \"abc\"}}",
        );
        directory
    }

    #[test]
    fn a_run_is_read_and_the_line_that_is_being_written_left_out() {
        let root = tempfile::tempdir().unwrap();
        let config = "seed = 1\n[train]\nsteps = 200\n[model]\nsizes = [1, 2]\nname = \"a\"\n[rate]\nkind = \"cosine\"\nstart = 0.5\n";
        let directory = made_up(root.path(), "a", config, -100.);
        let path = directory.join("metrics.jsonl");
        let whole = fs::read_to_string(&path).unwrap();
        let early = "{\"step\":100,\"split\":\"valid\",\"objective_no_bound\":1}\n";
        fs::write(&path, format!("{early}{whole}{{\"step\":300,\"spl")).unwrap();
        for name in ["step-000000100-prior.png", "step-000000200-prior.png", "step-000000100-x.png"]
        {
            fs::write(directory.join("samples").join(name), b"").unwrap();
        }
        let run = Record::read(&directory).unwrap();
        assert_eq!((run.experiment.as_str(), run.status.as_str()), ("vae", "done"));
        assert_eq!(run.config["train.steps"], "200");
        assert_eq!(
            (run.config["model.sizes"].as_str(), run.config["model.name"].as_str()),
            ("[1, 2]", "a")
        );
        assert_eq!(run.config["rate"], "kind=cosine start=0.5");
        assert_eq!((run.steps(), run.last("valid", "bound")), (200, Some(-100.)));
        assert_eq!(run.curve("train", "kl"), [(100., 10.), (200., 20.)]);
        assert_eq!(run.curve("valid", "objective_no_bound").len(), 1);
        assert_eq!(run.last("valid", "objective_no_bound"), None);
        assert_eq!(run.metrics("valid"), ["objective_no_bound", "bound", "kl"]);
        let pictures = run.pictures().unwrap();
        assert!(pictures.len() == 2 && pictures[0].ends_with("step-000000200-prior.png"));
        assert_eq!(find_runs(&[root.path().into()]).unwrap(), [directory]);
    }

    #[test]
    fn what_is_no_run_and_what_is_broken_is_said() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Record::read(root.path()).unwrap_err().exit_code(), 2);
        let directory = made_up(root.path(), "a", "seed = 1\n", -1.);
        fs::write(directory.join("metrics.jsonl"), "{\"step\":1,\"split\":\"x\"}\nnonsense\n")
            .unwrap();
        let error = Record::read(&directory).unwrap_err();
        assert!(error.exit_code() == 65 && error.to_string().contains("line 2"), "{error}");
        fs::write(directory.join("config.toml"), "seed = = 1").unwrap();
        assert_eq!(Record::read(&directory).unwrap_err().exit_code(), 65);
    }
}
