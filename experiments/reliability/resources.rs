//! Rows 12 and 19: too little memory, and whether more and more is taken.
use std::fs;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::Signal;

use crate::run::{last_step, lines, look_at_checkpoints};
use crate::scorecard::Outcome;
use crate::world::{Ended, FOREVER, WATCHED, World, kill, send, wait_until};

/// A number of kibibytes in the status of a process.
fn kibibytes(child: &Child, name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn open_files(child: &Child) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{}/fd", child.id())).ok()?.count())
}

/// A run with a batch that takes more than all the rest.
const LARGE: [&str; 14] = [
    "--config",
    "vae.toml",
    "--quiet",
    "--out",
    "memory",
    "--threads",
    "1",
    "--set",
    "batch_size=8000",
    "--set",
    "model.decoder=[400]",
    "--steps",
    "1",
    "--checkpoint-every=1",
];

/// The program with these options and a limit on its address space.
fn limited(world: &World, limit: u64, options: &[&str]) -> Result<Ended> {
    let (limit, vae) = (format!("--as={limit}"), world.file_of("vae")?.display().to_string());
    let limited = [&[limit.as_str(), vae.as_str()], options].concat();
    let mut command = world.shielded(Command::new("prlimit"), &limited);
    // What is reserved ahead counts, and is not needed.
    Ok(command.env("MIMALLOC_ARENA_RESERVE", "0").output()?.into())
}

/// The same of a new run.
fn within(world: &World, limit: u64) -> Result<Ended> {
    world.folder("memory")?;
    limited(world, limit, &LARGE)
}

/// How much address space the run needs, to a sixteenth or so; nothing where the system does not say.
fn need(world: &World) -> Result<Option<u64>> {
    world.folder("memory")?;
    let mut child = world.spawn("vae", &LARGE)?;
    let mut most = None;
    while child.try_wait()?.is_none() {
        most = most.max(kibibytes(&child, "VmPeak:"));
        std::thread::sleep(Duration::from_millis(1));
    }
    // It takes more than it needs, as long as there is more.
    let Some(mut enough) = most.map(|kibibytes| kibibytes << 10) else { return Ok(None) };
    let mut less = 0;
    while enough - less > enough / world.pick(8, 16) {
        let middle = less + (enough - less) / 2;
        match within(world, middle)?.code {
            Some(0) => enough = middle,
            _ => less = middle,
        }
    }
    Ok(Some(enough))
}

/// A run that has what it needs, one that has a fifth more, and one that has a fifth less.
pub(crate) fn little_memory(world: &World) -> Result<Outcome> {
    if Command::new("prlimit").arg("--version").output().is_err() {
        return Ok(Outcome::Left("prlimit is not installed".to_owned()));
    }
    let Some(need) = need(world)? else {
        return Ok(Outcome::Left("this system does not say how much a process has".to_owned()));
    };
    let with = |share: f64| within(world, (need as f64 * share) as u64);
    let mut complaints = Vec::new();
    let more = with(if world.sabotage { 0.5 } else { 1.2 })?;
    if more.code != Some(0) {
        complaints.push(format!("a fifth more is not enough: {:?} {}", more.code, more.text));
    }
    // A run that has a checkpoint, and goes on with too little.
    world.folder("memory")?;
    let whole = world.run("vae", &LARGE)?;
    let run = world.only_run("vae", "memory")?;
    let (Some(0), Some(run)) = (whole.code, run) else {
        anyhow::bail!("without a limit: {:?} {}", whole.code, whole.text)
    };
    let place = run.display().to_string();
    let resume = ["--quiet", "--threads", "1", "--steps", "2", "--resume", &place];
    let less = limited(world, (need as f64 * 0.8) as u64, &resume)?;
    let said = less.text.lines().find(|line| line.starts_with("error")).unwrap_or_default();
    if less.code != Some(71) || !said.contains("batch_size") {
        complaints.push(format!("a fifth less: {:?} {}", less.code, less.text));
    }
    let (newest, torn) = look_at_checkpoints(&run);
    complaints.extend(torn);
    complaints.extend((newest != Some(1)).then(|| format!("the checkpoint is {newest:?}")));
    let again = world.run("vae", &resume)?;
    complaints.extend((again.code != Some(0)).then(|| format!("does not go on: {}", again.text)));
    let figure = format!(
        "{} MiB needed; with 1.2 of that exit 0, with 0.8 exit {} and \"{said}\"",
        need >> 20,
        less.code.unwrap_or(-1)
    );
    Ok(Outcome::of(figure, &complaints))
}

/// Memory and open files of a process, second by second.
struct Course {
    resident: Vec<f64>,
    files: Vec<usize>,
}

impl Course {
    fn of(child: &mut Child, time: Duration, interval: Duration) -> Result<Self> {
        let start = Instant::now();
        let (mut resident, mut files) = (Vec::new(), Vec::new());
        while start.elapsed() < time {
            std::thread::sleep(interval);
            ensure!(child.try_wait()?.is_none(), "the run ended by itself");
            resident.extend(kibibytes(child, "VmRSS:").map(|n| n as f64));
            files.extend(open_files(child));
        }
        ensure!(resident.len() >= 8, "this system does not say how much a process has");
        Ok(Self { resident, files })
    }

    /// Growth from the second quarter to the last, each by its middle value: the first quarter is for buffers to fill.
    fn growth(&self) -> f64 {
        let quarter = |index: usize| {
            let size = self.resident.len() / 4;
            let mut part = self.resident[index * size..(index + 1) * size].to_vec();
            part.sort_by(f64::total_cmp);
            part[size / 2]
        };
        quarter(3) / quarter(1) - 1.
    }

    /// The same for the fewest files that were open: those that are not given back stay.
    fn more_files(&self) -> usize {
        let (first, second) = self.files.split_at(self.files.len() / 2);
        let fewest = |part: &[usize]| part.iter().copied().min().unwrap_or(0);
        fewest(second).saturating_sub(fewest(first))
    }
}

/// Trains, saves, evaluates, is killed or asked to stop, and goes on, for twenty minutes.
pub(crate) fn soak(world: &World) -> Result<Outcome> {
    let sessions = world.pick(2, 5);
    let session = Duration::from_secs(world.pick(5, 240));
    let options = [&WATCHED[..], &FOREVER].concat();
    let (child, run) = world.begin("vae", "soak", &options, 2)?;
    kill(child)?;
    let resume = ["--quiet", "--resume", &run.display().to_string()];
    let (mut growth, mut files, mut complaints) = (f64::MIN, 0, Vec::new());
    for number in 0..sessions {
        let mut child = world.spawn("vae", &resume)?;
        let before = lines(&run).len();
        // A slow machine needs its time until every buffer has been filled once.
        wait_until(&mut child, || lines(&run).len() > before + 100)?;
        let course = Course::of(&mut child, session, session / 100)?;
        growth = growth.max(course.growth());
        files = files.max(course.more_files());
        if number % 2 == 0 {
            kill(child)?;
        } else {
            send(&child, Signal::TERM);
            let code = child.wait()?.code();
            complaints.extend((code != Some(75)).then(|| format!("exit code {code:?}")));
        }
        complaints.extend(look_at_checkpoints(&run).1);
    }
    // In seconds the allocator's own ups and downs are up to 15 % on a busy machine.
    let most = if world.sabotage { -1. } else { world.pick(0.3, 0.01) };
    if growth > most || files > 0 {
        complaints.push(format!("memory grew by {:.2} %, open files by {files}", 100. * growth));
    }
    let figure = format!(
        "{:.0} minutes in {sessions} sessions to step {}: memory {:+.2} % at most, open files +{files}",
        (session * sessions).as_secs_f64() / 60.,
        last_step(&run),
        100. * growth
    );
    Ok(Outcome::of(figure, &complaints))
}
