//! Several runs at a time.
use std::fmt;
use std::process::{Child, ExitStatus};
use std::thread::{available_parallelism, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cell::{Job, Place, State};
use crate::record::Record;
use crate::say;

/// Exit code of a run that was stopped on request.
const STOPPED: i32 = 75;
/// Exit code of a run whose numbers are not finite any more.
const NOT_FINITE: i32 = 77;

/// How the work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    done: usize,
    wanted: usize,
    stopped: bool,
}

impl Outcome {
    pub(crate) fn code(self) -> u8 {
        if self.stopped { 75 } else { 0 }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} runs are done", self.done, self.wanted)?;
        if self.stopped {
            f.write_str(", stopped on request: the same command goes on")
        } else {
            Ok(())
        }
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

/// Does the jobs that have not ended, `at_once` at a time, and takes what each leaves into the record.
pub(crate) fn work(
    jobs: Vec<Job>,
    at_once: u16,
    only_look: bool,
    place: &Place,
    record: &mut Record<'_>,
) -> Result<Outcome> {
    let wanted = jobs.len();
    let cores = available_parallelism().map_or(1, usize::from);
    let threads = (cores / usize::from(at_once)).max(1);
    let mut waiting = jobs.into_iter();
    let (mut running, mut left, mut stopped): (Vec<Running>, usize, bool) = (Vec::new(), 0, false);
    loop {
        while running.len() < usize::from(at_once) && !stopped {
            let Some(job) = waiting.next() else { break };
            if record.is_complete(&job) {
                continue;
            }
            let state = place.state(&job)?;
            if let State::Done(directory) = &state {
                record.take(&job, directory)?;
            } else if record.has(&job) {
                // Its numbers are there; the run that has its curve is not.
            } else if only_look {
                say(&format!("{} seed {}: {}", job.cell, job.seed, state));
                left += 1;
            } else {
                say(&format!("{} seed {}: {}", job.cell, job.seed, state));
                let mut command = place.command(&job, &state, threads);
                let process = command.spawn().with_context(|| format!("starting {command:?}"))?;
                running.push(Running { job, process, since: Instant::now() });
            }
        }
        let Some((ended, status)) = first_ended(&mut running)? else {
            break;
        };
        match status.code() {
            Some(0) => {
                let State::Done(directory) = place.state(&ended.job)? else {
                    bail!("the run of {} seed {} left no result", ended.job.cell, ended.job.seed)
                };
                record.take(&ended.job, &directory)?;
            }
            Some(NOT_FINITE) => record.diverged(&ended.job)?,
            // Killed by a signal, or stopped by one: what else runs gets it too, where it was meant for all.
            Some(STOPPED) | None => {
                stopped = true;
                left += 1;
            }
            Some(code) => bail!(
                "{} seed {} ended with exit code {code}, see its message above",
                ended.job.cell,
                ended.job.seed
            ),
        }
        let minutes = ended.since.elapsed().as_secs_f64() / 60.;
        say(&format!(
            "{} seed {}: {status} after {minutes:.1} min",
            ended.job.cell, ended.job.seed
        ));
    }
    left += waiting.count();
    Ok(Outcome { done: wanted - left, wanted, stopped })
}

/// Waits for one of the runs; none if there is none.
fn first_ended(running: &mut Vec<Running>) -> Result<Option<(Running, ExitStatus)>> {
    while !running.is_empty() {
        for i in 0..running.len() {
            if let Some(status) = running[i].process.try_wait()? {
                return Ok(Some((running.swap_remove(i), status)));
            }
        }
        sleep(Duration::from_millis(200));
    }
    Ok(None)
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
