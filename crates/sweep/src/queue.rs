//! Several runs at a time.
use std::fmt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::thread::{available_parallelism, sleep};
use std::time::{Duration, Instant};

use crate::job::{Job, Place, State};
use crate::signals::{Requests, ask_to_stop};
use crate::{Error, Result};

/// Exit code of a run that was stopped on request.
const STOPPED: i32 = 75;
/// Exit code of a run whose numbers are not finite any more.
const NOT_FINITE: i32 = 77;

/// Something that the one who waits may want to know.
#[derive(Debug)]
pub enum Event<'a> {
    /// A run was started, or goes on.
    Begins(&'a Job, &'a State),
    /// A run ended, one way or the other.
    Ended(&'a Job, &'a Ended),
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Exit code, or the signal that killed it.
    pub status: ExitStatus,
    /// Where it is, if it is at its end.
    pub done: Option<PathBuf>,
    /// How long it took this time.
    pub elapsed: Duration,
    /// Whether it was asked to stop.
    asked: bool,
}

impl Ended {
    /// Whether it came to numbers that are not finite: it will again.
    #[must_use]
    pub fn diverged(&self) -> bool {
        self.status.code() == Some(NOT_FINITE)
    }

    /// Whether it stopped on request and can go on; one that was asked before it listened ends by the signal.
    #[must_use]
    pub fn stopped(&self) -> bool {
        let code = self.status.code();
        code == Some(STOPPED) || (self.asked && code.is_none())
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.elapsed.as_secs_f64() / 60.;
        match (&self.done, self.status.code()) {
            (Some(_), _) => write!(f, "done"),
            (None, _) if self.stopped() => write!(f, "stopped, to be gone on with"),
            (None, Some(NOT_FINITE)) => write!(f, "FAILED: not finite (exit code {NOT_FINITE})"),
            (None, Some(0)) => write!(f, "FAILED: ended without a result"),
            (None, Some(code)) => write!(f, "FAILED with exit code {code}, see its message above"),
            (None, None) => write!(f, "FAILED: {}", self.status),
        }?;
        write!(f, " after {minutes:.1} min")
    }
}

/// How the work ended, in numbers of jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// At their end.
    pub done: usize,
    /// Ended by an error.
    pub failed: usize,
    /// Not begun, or stopped on request.
    pub left: usize,
}

impl Outcome {
    /// The exit code of a program that does such work: 0 all is done, 70 a run failed, 75 something is left that the same command
    /// goes on with.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self { failed: 0, left: 0, .. } => 0,
            Self { left: 0, .. } => 70,
            Self { .. } => 75,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { done, failed, left } = self;
        write!(f, "{done} of {} runs are done", done + failed + left)?;
        if *failed > 0 {
            write!(f, ", {failed} failed")?;
        }
        if *left > 0 {
            write!(f, ", {left} are left: the same command goes on")?;
        }
        Ok(())
    }
}

struct Running {
    job: Job,
    process: Child,
    since: Instant,
}

/// No run outlives the queue, which an error may end.
impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Does jobs, `at_once` at a time, each with an equal share of the cores; `tell` hears of each that begins and ends.
///
/// A run that fails stops no other. On a request no further run is begun, and those that run are asked to stop, which they do
/// after a checkpoint; on a second SIGINT they end at once, and go on from their last checkpoint another time.
///
/// # Errors
/// If a program cannot be started, or `tell` fails; what runs is killed then.
pub fn work<E: From<Error>>(
    jobs: Vec<(Job, State)>,
    at_once: usize,
    place: &Place,
    requests: &mut Requests,
    tell: &mut dyn FnMut(Event<'_>) -> Result<(), E>,
) -> Result<Outcome, E> {
    let at_once = at_once.max(1);
    let threads = (available_parallelism().map_or(1, usize::from) / at_once).max(1);
    let mut outcome = Outcome::default();
    let mut waiting = jobs.into_iter();
    let mut running: Vec<Running> = Vec::new();
    loop {
        while running.len() < at_once && !requests.any() {
            let Some((job, state)) = waiting.next() else { break };
            if let State::Done(_) = state {
                outcome.done += 1;
                continue;
            }
            tell(Event::Begins(&job, &state))?;
            let mut command = place.command(&job, &state, threads);
            // In a group of its own: a Ctrl-C comes from here, once.
            let process = command.process_group(0).spawn();
            let process = process.map_err(Error::io(format!("starting {command:?}")))?;
            running.push(Running { job, process, since: Instant::now() });
        }
        let Some((job, mut ended)) = first_ended(&mut running, requests)? else { break };
        if ended.status.success()
            && let State::Done(directory) = place.state(&job)?
        {
            ended.done = Some(directory);
        }
        match (&ended.done, ended.stopped()) {
            (Some(_), _) => outcome.done += 1,
            (None, true) => outcome.left += 1,
            (None, false) => outcome.failed += 1,
        }
        tell(Event::Ended(&job, &ended))?;
    }
    outcome.left += waiting.count();
    Ok(outcome)
}

/// Waits for one of the runs; none if there is none.
fn first_ended(
    running: &mut Vec<Running>,
    requests: &mut Requests,
) -> Result<Option<(Job, Ended)>> {
    let mut told = false;
    while !running.is_empty() {
        if requests.in_a_hurry() {
            running.iter_mut().for_each(|run| drop(run.process.kill()));
        } else if requests.any() && !told {
            running.iter().for_each(|run| ask_to_stop(&run.process));
            told = true;
        }
        for i in 0..running.len() {
            let Some(run) = running.get_mut(i) else { break };
            if let Some(status) = run.process.try_wait().map_err(Error::io("waiting for a run"))? {
                let run = running.swap_remove(i);
                let (elapsed, asked) = (run.since.elapsed(), requests.any());
                return Ok(Some((run.job.clone(), Ended { status, done: None, elapsed, asked })));
            }
        }
        sleep(Duration::from_millis(100));
    }
    Ok(None)
}
