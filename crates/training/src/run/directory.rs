//! A run and its directory.
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use gumbel_distributed::Communicator;

use super::layout::{CHECKPOINTS, CONFIG, SAMPLES, STATUS, TIMING, is_ours};
use super::lock::Lock;
use super::{Events, Metrics, Status, check_name, follow};
use crate::environment::Environment;
use crate::files::write_atomic;
use crate::train::drop_samples;
use crate::{Error, Result, RunArgs, Stop, world};

/// A run and its directory, `<out>/<experiment>/<UTC yyyymmdd-hhmmss>-<name>-s<seed>-<6 hex digits>`.
///
/// | file | holds |
/// |---|---|
/// | `config.toml` | the resolved configuration, itself a valid `--config` |
/// | `env.json` | program, machine, data; `env-resume-1.json`, … of later sessions |
/// | `source.patch` | what differs from the commit in `env.json`, where something does: files that git knows, up to 1 MiB |
/// | `metrics.jsonl` | the science, one JSON object a line, the same bytes however often the run was resumed |
/// | `timing.jsonl` | time and throughput |
/// | `log.txt` | all messages |
/// | `tb/` | the same numbers and the pictures for TensorBoard |
/// | `checkpoints/`, `samples/` | see [`checkpoint`](crate::checkpoint), [`crate::Evaluation::sample`] |
/// | `STATUS` | one line: `running`, `done`, `failed: …`, `interrupted: …` |
/// | `LOCK` | held by the process that runs, whose number is in it |
///
/// No directory is ever used twice. One process at a time has a run, or one [`world`] of processes, of which the first one writes.
#[derive(Debug)]
pub struct Run {
    pub(super) directory: PathBuf,
    /// Of the configuration.
    pub(crate) fingerprint: String,
    /// The configuration, where it is not yet the one in the directory.
    pub(super) new_config: Option<String>,
    /// Absent, as all that writes, in processes that only help the first one of their world.
    pub(crate) metrics: Option<Metrics>,
    pub(crate) events: Events,
    pub(super) timing: Option<File>,
    pub(crate) quiet: bool,
    /// Where the parameters come from that a new run starts with, if not from chance.
    pub(crate) init: Option<PathBuf>,
    pub(crate) resumed: bool,
    pub(crate) status: Status,
    pub(super) environment: Environment,
    pub(super) environment_file: String,
    pub(super) stop: Stop,
    pub(super) world: Rc<dyn Communicator>,
    pub(super) _lock: Option<Lock>,
}

impl Run {
    /// Longest name of a run, in bytes.
    pub const LONGEST_NAME: usize = 64;

    /// Goes on with the run of `--resume`, or creates one.
    pub fn start(experiment: &str, args: &RunArgs, config_toml: &str, seed: u64) -> Result<Self> {
        if world().rank() > 0 {
            return follow::follow(args, config_toml, seed);
        }
        match &args.resume {
            Some(directory) => Self::resume(directory, args, config_toml, seed),
            None => Self::create(experiment, args, config_toml, seed),
        }
    }

    /// The run directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The request to stop that this run looks at; signals make it while [`Run::train`] works.
    #[must_use]
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Records what the results depend on beside the configuration, such as the sums of a data set.
    ///
    /// A resumed run must have the value that it had before; another one is an error.
    pub fn identify(&mut self, name: &str, value: &str) -> Result<()> {
        follow::same(self, name, value)?;
        if self.leads() { self.record_identity(name, value) } else { Ok(()) }
    }

    /// The same without a look at the other processes.
    pub(crate) fn record_identity(&mut self, name: &str, value: &str) -> Result<()> {
        let old = self.environment.identity.insert(name.to_owned(), value.to_owned());
        match old {
            Some(old) if old == value => Ok(()),
            Some(old) => Err(Error::Usage(format!(
                "the run had {name} {old} and would go on with {value}; start a new run instead"
            ))),
            None => {
                let path = self.directory.join(&self.environment_file);
                write_atomic(&path, &self.environment.to_json())
            }
        }
    }

    /// Whether something of that name was recorded, in this session or before.
    pub(crate) fn has_identity(&self, name: &str) -> bool {
        self.environment.identity.contains_key(name)
    }

    /// Writes a further file into the run directory, whole or not at all.
    ///
    /// `name` is a plain file name, and none of those that the run writes itself.
    pub fn write_file(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        check_name(name)?;
        if is_ours(name) {
            return Err(Error::Usage(format!("{name} is written by the run; choose another name")));
        }
        let path = self.directory.join(name);
        if self.leads() {
            write_atomic(&path, bytes)?;
        }
        Ok(path)
    }

    /// Whether this process is the one of its world that writes.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.world.rank() == 0
    }

    /// The processes that train this model together.
    pub(crate) fn world(&self) -> Rc<dyn Communicator> {
        Rc::clone(&self.world)
    }

    /// Who asked this run to stop, by a signal to any of its processes.
    pub(crate) fn asked_to_stop(&self) -> Result<Option<&'static str>> {
        if self.world.size() > 1 {
            let all = self.world.all_gather_bytes(&self.stop.number().to_le_bytes())?;
            let numbers =
                all.into_iter().filter_map(|bytes| bytes.try_into().ok().map(u64::from_le_bytes));
            // What was asked since then is for the next time: all of them have to see the same.
            match numbers.into_iter().find(|number| *number > 0) {
                Some(number) => self.stop.adopt(number),
                None => return Ok(None),
            }
        }
        Ok(self.stop.requested_by())
    }

    /// Adds a line about time.
    pub(crate) fn time(&mut self, line: &str) -> Result<()> {
        let path = self.directory.join(TIMING);
        let Some(timing) = &mut self.timing else { return Ok(()) };
        writeln!(timing, "{line}").map_err(Error::io("write", &path))
    }

    /// Forgets metrics beyond `bytes` and the samples of evaluations at `step` and later.
    pub(crate) fn forget(&mut self, bytes: Option<u64>, step: u64) -> Result<()> {
        if let (Some(metrics), Some(bytes)) = (&mut self.metrics, bytes) {
            metrics.truncate(bytes)?;
            drop_samples(self, step)?;
        }
        Ok(())
    }

    /// Says that everything is done: training, evaluation, and what the program made of them.
    ///
    /// A run that ends before this call, killed or by an error, is evaluated once more when it is resumed, so that no result is
    /// missing from a run that is called done.
    pub fn finish(&mut self) -> Result<()> {
        if self.status == Status::Done { Ok(()) } else { self.set_status(Status::Done) }
    }

    /// Adds a line to the metrics, and the same numbers for TensorBoard.
    pub(crate) fn record(&mut self, step: u64, split: &str, scalars: &[(&str, f64)]) -> Result<()> {
        let Some(metrics) = &mut self.metrics else { return Ok(()) };
        metrics.write(step, split, scalars)?;
        self.events.scalars(step, split, scalars)
    }

    /// Puts a changed configuration into the directory, once it is sure that the run goes on with it.
    pub(crate) fn adopt_config(&mut self) -> Result<()> {
        match self.new_config.take() {
            Some(config) if self.leads() => {
                write_atomic(&self.directory.join(CONFIG), config.as_bytes())
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.directory.join(CHECKPOINTS)
    }

    pub(crate) fn samples(&self) -> PathBuf {
        self.directory.join(SAMPLES)
    }

    pub(crate) fn set_status(&mut self, status: Status) -> Result<()> {
        if self.leads() {
            status.write(&self.directory.join(STATUS))?;
        }
        self.status = status;
        Ok(())
    }
}

impl Drop for Run {
    /// A run that ends without a word, by a panic or an early return, is not left as running.
    fn drop(&mut self) {
        if self.status == Status::Running {
            let reason =
                if std::thread::panicking() { "panic" } else { "ended before it was done" };
            let _ = self.set_status(Status::Failed(reason.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::check::{create, status};

    #[test]
    fn a_run_that_ends_without_a_word_has_failed() {
        let out = tempfile::tempdir().unwrap();
        let run = create(out.path());
        let directory = run.directory().to_path_buf();
        drop(run);
        assert_eq!(status(&directory), "failed: ended before it was done\n");
        let run = create(out.path());
        let directory = run.directory().to_path_buf();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _run = run;
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        assert_eq!(status(&directory), "failed: panic\n");
    }

    #[test]
    fn further_files_stay_in_the_directory_and_leave_ours_alone() {
        let out = tempfile::tempdir().unwrap();
        let run = create(out.path());
        let path = run.write_file("citations.bib", b"@x{}\n").unwrap();
        assert_eq!(fs::read(path).unwrap(), b"@x{}\n");
        for name in ["../x", "a/b", "", "STATUS", "metrics.jsonl", ".tmp-x", "env-resume-1.json"] {
            assert_eq!(run.write_file(name, b"x").unwrap_err().exit_code(), 2, "{name}");
        }
    }
}
