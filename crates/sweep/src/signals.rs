//! A request to stop, handed on to the programs that run.
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::{flag, low_level};

use crate::{Error, Result};

/// The signals that ask a run to stop, one as good as the other.
const SIGNALS: [i32; 4] = [SIGINT, SIGHUP, SIGTERM, SIGUSR1];

/// Whether the process was started with this signal ignored, as by `nohup`; no on systems that do not say so in `/proc`.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Requests to stop: while this lives, SIGINT, SIGHUP (but under `nohup`), SIGTERM and SIGUSR1 do not end the process.
#[derive(Debug)]
pub struct Requests {
    came: Arc<AtomicBool>,
    interrupted: Arc<AtomicBool>,
    any: bool,
    interrupts: usize,
    actions: Vec<SigId>,
}

impl Requests {
    /// Listens from now on.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn listen() -> Result<Self> {
        let (came, interrupted) = (Arc::default(), Arc::default());
        let mut actions = Vec::new();
        let mut mark = |signal, flag: &Arc<AtomicBool>| {
            let action = flag::register(signal, Arc::clone(flag));
            action.map(|action| actions.push(action)).map_err(Error::io("listening for signals"))
        };
        // A hang-up that was ignored from the start stays so.
        let heard = |signal: &i32| *signal != SIGHUP || !is_ignored(SIGHUP);
        SIGNALS.into_iter().filter(heard).try_for_each(|signal| mark(signal, &came))?;
        mark(SIGINT, &interrupted)?;
        Ok(Self { came, interrupted, any: false, interrupts: 0, actions })
    }

    /// Whether there was a request.
    pub fn any(&mut self) -> bool {
        self.any |= self.came.load(Ordering::SeqCst);
        self.any
    }

    /// Whether there was a second SIGINT: somebody does not want to wait.
    pub(crate) fn in_a_hurry(&mut self) -> bool {
        self.interrupts += usize::from(self.interrupted.swap(false, Ordering::SeqCst));
        self.interrupts > 1
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        for action in self.actions.drain(..) {
            low_level::unregister(action);
        }
    }
}

/// Asks a program to stop after a checkpoint.
pub(crate) fn ask_to_stop(process: &Child) {
    let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // Of SIGTERM a run never has enough, and one that has just ended need not be asked.
        let _ = kill_process(pid, Signal::TERM);
    }
}
