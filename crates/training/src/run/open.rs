//! New runs, and those that go on.
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::layout::{
    CHECKPOINTS, CONFIG, ENVIRONMENT, INIT, LATER_ENVIRONMENT, LOG, METRICS, PATCH, SAMPLES,
    STATUS, TENSORBOARD, TIMING,
};
use super::lock::{self, Lock};
use super::name::{check_name, create_directory};
use super::{Events, Metrics, Status, follow};
use crate::environment::Environment;
use crate::files::{self, TEMPORARY, write_atomic};
use crate::{Error, Result, Run, RunArgs, Stop, checkpoint, config, logging, world};

impl Run {
    /// Creates the directory of a new run of `experiment` below `--out`.
    ///
    /// `config_toml` is the resolved configuration, see [`config::to_toml`].
    pub(super) fn create(
        experiment: &str,
        args: &RunArgs,
        config_toml: &str,
        seed: u64,
    ) -> Result<Self> {
        check_name(experiment)?;
        check_name(&args.name)?;
        if let Some(folder) = &args.init {
            crate::export::check(folder)?;
        }
        let fingerprint = config::fingerprint(config_toml)?;
        let mut environment = Environment::current(seed, args.threads());
        let from = args.init.iter().map(|folder| (INIT.to_owned(), folder.display().to_string()));
        environment.identity.extend(from);
        let directory = create_directory(&args.out.join(experiment), &args.name, seed)?;
        let lock = lock::acquire(&directory)?;
        for name in [CHECKPOINTS, SAMPLES, TENSORBOARD] {
            let path = directory.join(name);
            fs::create_dir(&path).map_err(Error::io("create", &path))?;
        }
        let environment_file = ENVIRONMENT.to_owned();
        let resumed = false;
        let run =
            Opening { directory, lock, fingerprint, environment, environment_file, args, resumed }
                .open()?;
        // What makes it a run that can be resumed, when all is there that a resumed run looks at.
        write_atomic(&run.directory.join(CONFIG), config_toml.as_bytes())?;
        follow::lead(&run, config_toml)?;
        Ok(run)
    }

    /// Goes on with the run in `directory`.
    ///
    /// `config_toml` is the configuration that [`RunArgs::config`] gives; it may differ from that of the
    /// run in how long to train and in intervals. In use by another process is exit code 75.
    pub(super) fn resume(
        directory: &Path,
        args: &RunArgs,
        config_toml: &str,
        seed: u64,
    ) -> Result<Self> {
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
        let mut environment_file = ENVIRONMENT.to_owned();
        for session in 1u32.. {
            let earlier = directory.join(&environment_file);
            if !earlier.exists() {
                break;
            }
            // Each session has what those before it recorded, and adds to it.
            environment.identity.extend(identity_of(&earlier));
            environment_file = format!("{LATER_ENVIRONMENT}{session}.json");
        }
        let (directory, resumed) = (directory.to_path_buf(), true);
        let mut run =
            Opening { directory, lock, fingerprint, environment, environment_file, args, resumed }
                .open()?;
        follow::lead(&run, config_toml)?;
        run.new_config = (stored != config_toml).then(|| config_toml.to_owned());
        Ok(run)
    }
}

/// What new and resumed runs have in common.
struct Opening<'a> {
    directory: PathBuf,
    lock: Lock,
    fingerprint: String,
    environment: Environment,
    /// Where the environment is written.
    environment_file: String,
    args: &'a RunArgs,
    resumed: bool,
}

impl Opening<'_> {
    /// Writes what each session starts with, and opens what it adds to.
    fn open(self) -> Result<Run> {
        let Self { directory, lock, fingerprint, environment, environment_file, args, resumed } =
            self;
        write_atomic(&directory.join(&environment_file), &environment.to_json())?;
        if let Some(patch) = environment.source_patch().filter(|_| !resumed) {
            write_atomic(&directory.join(PATCH), &patch)?;
        }
        let log = directory.join(LOG);
        logging::attach(append(&log)?).map_err(Error::io("write", &log))?;
        let status = if resumed { Status::read(&directory.join(STATUS)) } else { Status::Running };
        let run = Run {
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
}

/// Opens a file to add to it.
pub(super) fn append(path: &Path) -> Result<File> {
    File::options().create(true).append(true).open(path).map_err(Error::io("open", path))
}

/// What an earlier session recorded; nothing where its file cannot be read, with a warning.
fn identity_of(path: &Path) -> BTreeMap<String, String> {
    let read = files::read_limited(path, 1 << 20).map_err(|error| error.to_string());
    let parse = |bytes: Vec<u8>| {
        serde_json::from_slice::<Environment>(&bytes).map_err(|error| error.to_string())
    };
    match read.and_then(parse) {
        Ok(environment) => environment.identity,
        Err(error) => {
            tracing::warn!("the data of this run cannot be compared with what it had: {error}");
            BTreeMap::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{CONFIG_TOML, args, create, status};
    use super::super::layout::OURS;
    use super::*;

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
        // What the other sessions noted is enough.
        assert!(resume().identify("more", "y").is_err());
        assert!(resume().identify("mnist", "sha256:03").is_err());
        fs::remove_file(directory.join(ENVIRONMENT)).unwrap();
        resume().identify("mnist", "sha256:04").unwrap();
        assert!(resume().identify("mnist", "sha256:05").is_err());
    }
}
