//! One case: its run, and how far that is.
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// Longest name of a run, in bytes.
const LONGEST_NAME: usize = 64;

/// A program, and where its runs are.
#[derive(Clone, Debug)]
pub struct Place {
    program: PathBuf,
    /// What the program calls its experiment: the folder of its runs.
    experiment: String,
    config: Option<PathBuf>,
    args: Vec<String>,
    out: PathBuf,
    data_dir: Option<PathBuf>,
}

/// A run that is wanted.
#[derive(Clone, Debug)]
pub struct Job {
    /// What it is called for a person.
    pub label: String,
    /// Its seed.
    pub seed: u64,
    /// First twelve digits of the SHA-256 of the resolved configuration.
    pub fingerprint: String,
    /// The resolved configuration.
    pub config: String,
    name: String,
    set: Vec<String>,
}

/// How far a job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Its run is in this directory and at its end.
    Done(PathBuf),
    /// Its run is in this directory, and goes on from its last checkpoint.
    Begun(PathBuf),
    /// It has no run.
    Missing,
}

impl Place {
    /// Runs of `program` below `out`, each starting from `config` if there is one, with further options `args`.
    ///
    /// A `program` without a folder in it is one beside the program that asks.
    ///
    /// # Errors
    /// If there is no such program.
    pub fn new(
        program: &Path,
        config: Option<PathBuf>,
        args: Vec<String>,
        out: &Path,
        data_dir: Option<PathBuf>,
    ) -> Result<Self> {
        let experiment = program.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let beside = program.parent().is_none_or(|parent| parent.as_os_str().is_empty());
        let program = if beside {
            let file = format!("{experiment}{}", std::env::consts::EXE_SUFFIX);
            let this = std::env::current_exe().map_err(Error::io("finding this program"))?;
            this.with_file_name(file)
        } else {
            program.to_owned()
        };
        if !program.is_file() {
            return Err(Error::Usage(format!(
                "{} is not there; build it with `cargo build --release --locked --bin {experiment}`",
                program.display()
            )));
        }
        Ok(Self { program, experiment, config, args, out: out.to_owned(), data_dir })
    }

    /// The job of a configuration with these changes under a seed, in a run of this name; asks the program for the configuration.
    ///
    /// The name is written in letters, digits, points and hyphens, and cut where it is too long for one: runs that share a name
    /// differ in their configuration.
    ///
    /// # Errors
    /// If the program refuses the configuration; the message is the program's.
    pub fn job(&self, label: &str, name: &str, set: Vec<String>, seed: u64) -> Result<Job> {
        let name: String =
            plain(name).trim_start_matches(['.', '-']).chars().take(LONGEST_NAME).collect();
        let name = if name.is_empty() { "sweep".to_owned() } else { name };
        let mut job = Job {
            label: label.to_owned(),
            seed,
            fingerprint: String::new(),
            config: String::new(),
            name,
            set,
        };
        let mut command = self.fresh(&job);
        let output = command.arg("--print-config").output();
        let output = output.map_err(Error::io(format!("starting {}", self.program.display())))?;
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr);
            return Err(Error::Usage(format!("{label}: {}", message.trim())));
        }
        job.config = String::from_utf8_lossy(&output.stdout).into_owned();
        let digest = Sha256::digest(&job.config);
        job.fingerprint = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Ok(job)
    }

    fn fresh(&self, job: &Job) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        command.arg("--out").arg(&self.out).args(["--name", &job.name]).args(&self.args);
        command.args(job.set.iter().flat_map(|set| ["--set", set]));
        command.args(["--seed", &job.seed.to_string()]);
        command
    }

    /// The command that starts a job, or goes on with it.
    #[must_use]
    pub fn command(&self, job: &Job, state: &State, threads: usize) -> Command {
        let mut command = self.fresh(job);
        if let State::Begun(directory) = state {
            command = Command::new(&self.program);
            command.arg("--resume").arg(directory).args(&self.args);
        }
        if let Some(data_dir) = &self.data_dir {
            command.arg("--data-dir").arg(data_dir);
        }
        command.args(["--quiet", "--threads", &threads.to_string()]).stdout(Stdio::null());
        command
    }

    /// Looks for the run of a job: one of its name, seed and configuration; the latest, if none is done.
    ///
    /// # Errors
    /// If the folder of the runs cannot be read.
    pub fn state(&self, job: &Job) -> Result<State> {
        let parent = self.out.join(&self.experiment);
        let stem = format!("-{}-s{}-", job.name, job.seed);
        let reading = || Error::io(format!("reading {}", parent.display()));
        let entries = match fs::read_dir(&parent) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(State::Missing);
            }
            Err(error) => return Err(reading()(error)),
        };
        let mut begun = None;
        for entry in entries {
            let path = entry.map_err(reading())?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // 15 characters of date and time before, 6 digits after.
            let ours = name.len() == 15 + stem.len() + 6
                && name.get(15..).is_some_and(|rest| rest.starts_with(&stem));
            let text = |file: &str| fs::read_to_string(path.join(file)).unwrap_or_default();
            if !ours || text("config.toml") != job.config {
                continue;
            }
            if text("STATUS") == "done\n" {
                return Ok(State::Done(path));
            }
            begun = begun.max(Some(path));
        }
        Ok(begun.map_or(State::Missing, State::Begun))
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(directory) => write!(f, "done in {}", directory.display()),
            Self::Begun(directory) => write!(f, "goes on in {}", directory.display()),
            Self::Missing => f.write_str("begins"),
        }
    }
}

/// A name of letters, digits, points and hyphens.
#[must_use]
pub fn plain(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    name.chars().map(plain).collect()
}
