//! A place of its own for the programs, and what can be done to them there.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use gumbel_datasets::{Split, strokes};
use gumbel_kernels::Key;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::run::last_step;
use crate::shield::shield;

/// Configurations of some milliseconds a step, by program.
const CONFIGS: [(&str, &str); 2] =
    [("vae", include_str!("vae.toml")), ("lm", include_str!("lm.toml"))];

/// How a new run of a program begins: few images of its own, so that it starts in no time.
pub(crate) fn small(program: &str) -> &'static [&'static str] {
    match program {
        "vae" => &["--config", "vae.toml", "--images", "images"],
        _ => &["--config", "lm.toml"],
    }
}

/// How many images there are.
const IMAGES: usize = 600;

/// Drawn digits as an IDX file in a folder.
fn write_images(folder: &Path) -> Result<()> {
    let images = strokes::draw(0, Split::Train, IMAGES)?;
    let head = [0x803, IMAGES, images.height(), images.width()];
    let head = head.iter().flat_map(|word| (*word as u32).to_be_bytes());
    let bytes: Vec<u8> = head.chain(images.pixels().iter().copied()).collect();
    fs::create_dir_all(folder)?;
    Ok(fs::write(folder.join("train-images-idx3-ubyte"), bytes)?)
}

/// Every step shows in `metrics.jsonl`, and every third is a checkpoint.
pub(crate) const WATCHED: [&str; 7] = [
    "--quiet",
    "--set",
    "train.log_every=1",
    "--set",
    "train.evaluate_every=20",
    "--checkpoint-every",
    "3",
];

/// Steps that are never reached.
pub(crate) const FOREVER: [&str; 2] = ["--steps", "1000000"];

/// The longest that anything may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// Where the programs are run, and how thoroughly.
#[derive(Debug)]
pub(crate) struct World {
    root: TempDir,
    programs: PathBuf,
    /// Whether a part has to do.
    pub(crate) quick: bool,
    /// Whether what is looked at is damaged first, so that every row has to fail.
    pub(crate) sabotage: bool,
    /// Where to write what programs say of wrong options.
    pub(crate) record: Option<PathBuf>,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    /// Standard output and standard error.
    pub(crate) text: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = [output.stdout, output.stderr].concat();
        Self { code: output.status.code(), text: String::from_utf8_lossy(&text).into_owned() }
    }
}

impl World {
    /// With the programs beside this one.
    pub(crate) fn new(quick: bool, sabotage: bool, record: Option<PathBuf>) -> Result<Self> {
        let root =
            TempDir::with_prefix("gumbel-reliability-").context("making a place to work in")?;
        for (program, config) in CONFIGS {
            fs::write(root.path().join(format!("{program}.toml")), config)?;
        }
        write_images(&root.path().join("images"))?;
        let this = std::env::current_exe().context("finding this program")?;
        let programs = this.parent().context("finding the programs")?.to_owned();
        Ok(Self { root, programs, quick, sabotage, record })
    }

    /// The smaller of two amounts where a part has to do.
    pub(crate) fn pick<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A new, empty folder.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// The file of a program.
    pub(crate) fn file_of(&self, program: &str) -> Result<PathBuf> {
        let file = self.programs.join(format!("{program}{}", std::env::consts::EXE_SUFFIX));
        ensure!(
            file.is_file(),
            "{} is not there; build it with `cargo build --release --locked --bin {program}`",
            file.display()
        );
        Ok(file)
    }

    /// The same program as the other profile builds it, where it was built.
    pub(crate) fn other_build(&self, program: &str) -> Result<Option<PathBuf>> {
        let file = self.file_of(program)?;
        let profile = self.programs.file_name().unwrap_or_default();
        let other = if profile == "debug" { "release" } else { "debug" };
        let name = file.file_name().unwrap_or_default();
        Ok(Some(self.programs.with_file_name(other).join(name)).filter(|file| file.is_file()))
    }

    /// A program with these options, apart from everything that this machine has set up.
    pub(crate) fn command(&self, program: &str, options: &[&str]) -> Result<Command> {
        Ok(self.shielded(Command::new(self.file_of(program)?), options))
    }

    /// A command in this place, without the variables of this machine.
    pub(crate) fn shielded(&self, mut command: Command, options: &[&str]) -> Command {
        shield(command.args(options), self.root.path());
        command
    }

    /// Runs a program to its end.
    pub(crate) fn run(&self, program: &str, options: &[&str]) -> Result<Ended> {
        Ok(self.command(program, options)?.output()?.into())
    }

    /// Starts a program that nobody listens to.
    pub(crate) fn spawn(&self, program: &str, options: &[&str]) -> Result<Child> {
        let mut command = self.command(program, options)?;
        Ok(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
    }

    /// A new run of the program's small configuration in the place `out`, which must succeed: its directory.
    pub(crate) fn train(&self, program: &str, out: &str, options: &[&str]) -> Result<PathBuf> {
        self.folder(out)?;
        let ended = self.run(program, &[small(program), &["--out", out], options].concat())?;
        ensure!(ended.code == Some(0), "{program} {options:?}: {:?} {}", ended.code, ended.text);
        self.only_run(program, out)?.context("there is no run")
    }

    /// Starts a run and waits until it has done some steps: the process and the directory.
    pub(crate) fn begin(
        &self,
        program: &str,
        out: &str,
        options: &[&str],
        steps: u64,
    ) -> Result<(Child, PathBuf)> {
        self.folder(out)?;
        let all = [small(program), &["--out", out], options].concat();
        let mut child = self.spawn(program, &all)?;
        let begun = |run: PathBuf| last_step(&run) >= steps;
        wait_until(&mut child, || self.only_run(program, out).ok().flatten().is_some_and(begun))?;
        let run = self.only_run(program, out)?;
        let run = run.with_context(|| format!("{program} {options:?} made no run"))?;
        Ok((child, run))
    }

    /// The directory of the run in the place `out`, if there is one already.
    pub(crate) fn only_run(&self, program: &str, out: &str) -> Result<Option<PathBuf>> {
        let Ok(runs) = fs::read_dir(self.path(out).join(program)) else { return Ok(None) };
        let runs = runs.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        ensure!(runs.len() <= 1, "more than one run: {runs:?}");
        Ok(runs.into_iter().next())
    }
}

/// Looks every millisecond until it is so, or the process has ended.
pub(crate) fn wait_until(child: &mut Child, mut so: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !so() && child.try_wait()?.is_none() {
        if start.elapsed() > PATIENCE {
            child.kill()?;
            bail!("nothing happens for {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Kills a process; whether it was still there.
pub(crate) fn kill(mut child: Child) -> Result<bool> {
    let alive = child.try_wait()?.is_none();
    child.kill()?;
    child.wait()?;
    Ok(alive)
}

/// Sends a signal to a process, unless that has ended.
pub(crate) fn send(child: &Child, signal: Signal) {
    // An error says that nobody is there any more.
    let _ = kill_process(Pid::from_child(child), signal);
}

/// Waits for a random part of `longest`.
pub(crate) fn pause(key: Key, index: u64, longest: Duration) {
    std::thread::sleep(longest.mul_f64(key.uniform_at(index)));
}
