//! An empty home for the program, a configuration of a few milliseconds a step, and what to read of a run.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

#[path = "../../../reliability/shield.rs"]
mod shield;
use shield::shield;

const TINY: &str = include_str!("../../../reliability/vae.toml");

/// A directory that is home, current directory and place of all runs of one test.
pub(crate) struct World {
    root: TempDir,
}

impl World {
    /// With the configuration `tiny.toml` in it.
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("tiny.toml"), TINY).unwrap();
        Self { root }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The program with these options, apart from everything that this machine has set up.
    pub(crate) fn vae(&self, options: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vae"));
        shield(command.args(options), self.root.path());
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, options: &[&str]) -> Ended {
        let Output { status, stdout, stderr } = self.vae(options).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ended { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }

    /// A new run of the tiny configuration in the place `out`, which must succeed: its directory.
    pub(crate) fn train(&self, out: &str, options: &[&str]) -> PathBuf {
        let ended = self.run(&[&["--config", "tiny.toml", "--out", out], options].concat());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        self.only_run(out).unwrap()
    }

    /// Goes on with a run, which must succeed.
    pub(crate) fn resume(&self, run: &Path, options: &[&str]) -> Ended {
        let ended = self.run(&[&["--resume", run.to_str().unwrap()], options].concat());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended
    }

    /// The directory of the run in the place `out`, if there is one already.
    pub(crate) fn only_run(&self, out: &str) -> Option<PathBuf> {
        let runs = fs::read_dir(self.path(out).join("vae")).ok()?;
        let runs: Vec<_> = runs.map(|entry| entry.unwrap().path()).collect();
        assert!(runs.len() <= 1, "{runs:?}");
        runs.into_iter().next()
    }
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Asserts on the exit code and on words of the message.
    pub(crate) fn says(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "{word} is not in:\n{}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
    }
}

pub(crate) fn read(run: &Path, name: &str) -> String {
    fs::read_to_string(run.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// SHA-256 of every file that must not depend on how a run got to step `last`.
pub(crate) fn science(run: &Path, last: u64) -> BTreeMap<String, String> {
    let mut files: Vec<String> =
        ["metrics.jsonl", "summary.json", "citations.bib"].map(str::to_owned).into();
    for folder in ["samples".to_owned(), format!("checkpoints/step-{last}")] {
        files.extend(names(&run.join(&folder)).iter().map(|name| format!("{folder}/{name}")));
    }
    assert!(files.len() > 8, "{files:?}");
    let sum = |name: &String| format!("{:x?}", Sha256::digest(fs::read(run.join(name)).unwrap()));
    files.into_iter().map(|name| (name.clone(), sum(&name))).collect()
}
