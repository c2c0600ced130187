//! Run directories.
mod events;
mod follow;
mod lock;
mod metrics;
mod name;
mod status;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use gumbel_distributed::Communicator;

use crate::environment::Environment;
use crate::files::{self, TEMPORARY, write_atomic};
use crate::train::drop_samples;
use crate::{Error, Result, RunArgs, Stop, checkpoint, config, logging, world};

pub(crate) use events::Events;
pub(crate) use metrics::Metrics;
pub(crate) use name::check_name;
pub(crate) use status::Status;

/// The configuration of a run.
pub(crate) const CONFIG: &str = "config.toml";
const CHECKPOINTS: &str = "checkpoints";
const ENVIRONMENT: &str = "env.json";
const LOCK: &str = "LOCK";
const LOG: &str = "log.txt";
const PATCH: &str = "source.patch";
const METRICS: &str = "metrics.jsonl";
const SAMPLES: &str = "samples";
const STATUS: &str = "STATUS";
const TENSORBOARD: &str = "tb";
const TIMING: &str = "timing.jsonl";

/// Names that [`Run::write_file`] must not overwrite.
const OURS: [&str; 11] = [
    CHECKPOINTS,
    CONFIG,
    ENVIRONMENT,
    LOCK,
    LOG,
    METRICS,
    PATCH,
    SAMPLES,
    STATUS,
    TENSORBOARD,
    TIMING,
];

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
/// | `checkpoints/`, `samples/` | see [`checkpoint`], [`crate::Evaluation::sample`] |
/// | `STATUS` | one line: `running`, `done`, `failed: …`, `interrupted: …` |
/// | `LOCK` | held by the process that runs, whose number is in it |
///
/// No directory is ever used twice. One process at a time has a run, or one [`world`] of processes, of which the first one writes.
#[derive(Debug)]
pub struct Run {
    directory: PathBuf,
    /// Of the configuration.
    pub(crate) fingerprint: String,
    /// The configuration, where it is not yet the one in the directory.
    new_config: Option<String>,
    /// Absent, as all that writes, in processes that only help the first one of their world.
    pub(crate) metrics: Option<Metrics>,
    pub(crate) events: Events,
    timing: Option<File>,
    pub(crate) quiet: bool,
    /// Where the parameters come from that a new run starts with, if not from chance.
    pub(crate) init: Option<PathBuf>,
    pub(crate) resumed: bool,
    pub(crate) status: Status,
    environment: Environment,
    environment_file: String,
    stop: Stop,
    world: Rc<dyn Communicator>,
    _lock: Option<lock::Lock>,
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

    /// Creates the directory of a new run of `experiment` below `--out`.
    ///
    /// `config_toml` is the resolved configuration, see [`config::to_toml`].
    pub fn create(experiment: &str, args: &RunArgs, config_toml: &str, seed: u64) -> Result<Self> {
        check_name(experiment)?;
        check_name(&args.name)?;
        if let Some(folder) = &args.init {
            crate::export::check(folder)?;
        }
        let fingerprint = config::fingerprint(config_toml)?;
        let environment = Environment::current(seed, args.threads());
        let directory = name::create_directory(&args.out.join(experiment), &args.name, seed)?;
        let lock = lock::acquire(&directory)?;
        for name in [CHECKPOINTS, SAMPLES, TENSORBOARD] {
            let path = directory.join(name);
            fs::create_dir(&path).map_err(Error::io("create", &path))?;
        }
        write_atomic(&directory.join(CONFIG), config_toml.as_bytes())?;
        let file = ENVIRONMENT.to_owned();
        let run = Self::open(directory, lock, fingerprint, environment, file, args, false)?;
        follow::lead(&run, config_toml)?;
        Ok(run)
    }

    /// Goes on with the run in `directory`.
    ///
    /// `config_toml` is the configuration that [`RunArgs::config`] gives; it may differ from that of the
    /// run in how long to train and in intervals. In use by another process is exit code 75.
    pub fn resume(directory: &Path, args: &RunArgs, config_toml: &str, seed: u64) -> Result<Self> {
        let config_path = directory.join(CONFIG);
        if !config_path.is_file() {
            let directory = directory.display();
            return Err(Error::Usage(format!(
                "{directory} is no run directory: no {CONFIG} in it"
            )));
        }
        // Before the lock: this starts processes, and one that has just been forked shares the lock and
        // would keep it for a moment after this process was killed.
        let mut environment = Environment::current(seed, args.threads());
        let lock = lock::acquire(directory)?;
        let fingerprint = config::fingerprint(config_toml)?;
        let stored = config::read(&config_path)?;
        if fingerprint != config::fingerprint(&stored)? {
            return Err(Error::Usage(format!(
                "{} is another configuration; a resumed run keeps its own",
                config_path.display()
            )));
        }
        for name in files::names(directory)?.iter().filter(|name| name.starts_with(TEMPORARY)) {
            files::remove(&directory.join(name))?;
        }
        for name in [CHECKPOINTS, SAMPLES] {
            // Absent where the run was killed while it was created.
            let path = directory.join(name);
            fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        }
        checkpoint::clean(&directory.join(CHECKPOINTS))?;
        // Absent where the run was killed while it was created: then this session is its first.
        let file = if directory.join(ENVIRONMENT).exists() {
            environment.identity = identity_of(&directory.join(ENVIRONMENT));
            (1u32..)
                .map(|n| format!("env-resume-{n}.json"))
                .find(|name| !directory.join(name).exists())
                .unwrap_or_else(|| ENVIRONMENT.to_owned())
        } else {
            ENVIRONMENT.to_owned()
        };
        let mut run =
            Self::open(directory.to_path_buf(), lock, fingerprint, environment, file, args, true)?;
        follow::lead(&run, config_toml)?;
        run.new_config = (stored != config_toml).then(|| config_toml.to_owned());
        Ok(run)
    }

    /// What new and resumed runs have in common.
    fn open(
        directory: PathBuf,
        lock: lock::Lock,
        fingerprint: String,
        environment: Environment,
        environment_file: String,
        args: &RunArgs,
        resumed: bool,
    ) -> Result<Self> {
        write_atomic(&directory.join(&environment_file), &environment.to_json())?;
        if let Some(patch) = environment.source_patch().filter(|_| !resumed) {
            write_atomic(&directory.join(PATCH), &patch)?;
        }
        let log = directory.join(LOG);
        logging::attach(append(&log)?).map_err(Error::io("write", &log))?;
        let status = if resumed { Status::read(&directory.join(STATUS)) } else { Status::Running };
        let run = Self {
            fingerprint,
            new_config: None,
            metrics: Some(Metrics::open(&directory.join(METRICS))?),
            events: Events::new(directory.join(TENSORBOARD)),
            timing: Some(append(&directory.join(TIMING))?),
            quiet: args.quiet,
            init: args.init.clone(),
            resumed,
            status,
            environment,
            environment_file,
            stop: Stop::default(),
            world: world(),
            directory,
            _lock: Some(lock),
        };
        if !resumed {
            run.status.write(&run.directory.join(STATUS))?;
        }
        let what = if resumed { "resumed" } else { "run" };
        tracing::info!("{what}: {}", run.directory.display());
        Ok(run)
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
        if OURS.contains(&name) || name.starts_with("env-resume-") {
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

fn append(path: &Path) -> Result<File> {
    File::options().create(true).append(true).open(path).map_err(Error::io("open", path))
}

/// What an earlier session recorded; nothing where its file cannot be read, with a warning.
fn identity_of(path: &Path) -> std::collections::BTreeMap<String, String> {
    let read = files::read_limited(path, 1 << 20).map_err(|error| error.to_string());
    let parse = |bytes: Vec<u8>| {
        serde_json::from_slice::<Environment>(&bytes).map_err(|error| error.to_string())
    };
    match read.and_then(parse) {
        Ok(environment) => environment.identity,
        Err(error) => {
            tracing::warn!("the data of this run cannot be compared with what it had: {error}");
            std::collections::BTreeMap::new()
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Args {
        #[command(flatten)]
        run: RunArgs,
    }

    /// Options of a quiet run below `out`.
    pub(crate) fn args(out: &Path) -> RunArgs {
        let out = out.to_str().unwrap();
        Args::parse_from(["test", "--quiet", "--out", out]).run
    }

    const CONFIG_TOML: &str = "seed = 3\n\n[train]\nsteps = 5\n";

    fn create(out: &Path) -> Run {
        Run::create("toy", &args(out), CONFIG_TOML, 3).unwrap()
    }

    fn status(directory: &Path) -> String {
        fs::read_to_string(directory.join(STATUS)).unwrap()
    }

    #[test]
    fn a_new_run_has_a_directory_of_its_own_with_everything_in_it() {
        let out = tempfile::tempdir().unwrap();
        let (first, second) = (create(out.path()), create(out.path()));
        assert_ne!(first.directory(), second.directory());
        let mut names = files::names(first.directory()).unwrap();
        // Only where the sources differ from their commit.
        names.retain(|name| name != PATCH);
        assert_eq!(names, {
            let mut ours: Vec<&str> = OURS.into_iter().filter(|name| *name != PATCH).collect();
            ours.sort_unstable();
            ours
        });
        assert!(first.directory().starts_with(out.path().join("toy")));
        let config = fs::read_to_string(first.directory().join(CONFIG)).unwrap();
        assert_eq!(config, CONFIG_TOML);
        assert_eq!(status(first.directory()), "running\n");
    }

    #[test]
    fn a_second_user_of_a_run_is_told_who_the_first_is() {
        let out = tempfile::tempdir().unwrap();
        let run = create(out.path());
        let resume = || Run::resume(run.directory(), &args(out.path()), CONFIG_TOML, 3);
        let error = resume().unwrap_err();
        assert_eq!(error.exit_code(), 75);
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        let directory = run.directory().to_path_buf();
        drop(run);
        let again = Run::resume(&directory, &args(out.path()), CONFIG_TOML, 3).unwrap();
        assert!(again.resumed);
    }

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
    fn a_resumed_run_keeps_its_configuration_but_for_the_length() {
        let out = tempfile::tempdir().unwrap();
        let directory = create(out.path()).directory().to_path_buf();
        let resume = |toml: &str| Run::resume(&directory, &args(out.path()), toml, 3);
        assert_eq!(resume("seed = 4\n\n[train]\nsteps = 5\n").unwrap_err().exit_code(), 2);
        let longer = "seed = 3\n\n[train]\nsteps = 50\n";
        let mut run = resume(longer).unwrap();
        assert_eq!(fs::read_to_string(directory.join(CONFIG)).unwrap(), CONFIG_TOML);
        run.adopt_config().unwrap();
        drop(run);
        assert_eq!(fs::read_to_string(directory.join(CONFIG)).unwrap(), longer);
        let error = Run::resume(out.path(), &args(out.path()), longer, 3).unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn data_must_be_the_same_after_a_resume() {
        let out = tempfile::tempdir().unwrap();
        let mut run = create(out.path());
        run.identify("mnist", "sha256:01").unwrap();
        let directory = run.directory().to_path_buf();
        drop(run);
        let resume = || Run::resume(&directory, &args(out.path()), CONFIG_TOML, 3).unwrap();
        let mut run = resume();
        run.identify("mnist", "sha256:01").unwrap();
        run.identify("more", "x").unwrap();
        let error = run.identify("mnist", "sha256:02").unwrap_err();
        assert!(error.to_string().contains("sha256:01"), "{error}");
        drop(run);
        drop(resume());
        assert!(directory.join("env-resume-1.json").exists());
        assert!(directory.join("env-resume-2.json").exists());
        fs::write(directory.join(ENVIRONMENT), b"{").unwrap();
        resume().identify("mnist", "sha256:03").unwrap();
        fs::remove_file(directory.join(ENVIRONMENT)).unwrap();
        resume().identify("mnist", "sha256:04").unwrap();
        assert!(resume().identify("mnist", "sha256:05").is_err());
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
