//! A request to stop, handed on to the programs that run.
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::{flag, low_level};

/// The signals that ask a run to stop, one as good as the other.
const SIGNALS: [i32; 4] = [SIGINT, SIGHUP, SIGTERM, SIGUSR1];

/// While this lives, signals are counted instead of ending the process.
#[derive(Debug)]
pub(crate) struct Requests {
    count: Arc<AtomicUsize>,
    handled: usize,
    actions: Vec<SigId>,
}

impl Requests {
    pub(crate) fn listen() -> std::io::Result<Self> {
        let count = Arc::new(AtomicUsize::new(0));
        let mut actions = Vec::new();
        for signal in SIGNALS {
            actions.push(flag::register_usize(signal, Arc::clone(&count), 1)?);
        }
        Ok(Self { count, handled: 0, actions })
    }

    /// Whether there was a request, since the last time that this was asked.
    pub(crate) fn another(&mut self) -> bool {
        let another = self.count.swap(0, Ordering::SeqCst) > 0;
        self.handled += usize::from(another);
        another
    }

    /// Whether there was one at all.
    pub(crate) fn any(&self) -> bool {
        self.handled > 0
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        for action in self.actions.drain(..) {
            low_level::unregister(action);
        }
    }
}

/// Asks a program to stop after a checkpoint; a second time, to stop at once.
pub(crate) fn ask_to_stop(process: &Child) {
    let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // One that has just ended cannot be asked, and need not be.
        let _ = kill_process(pid, Signal::INT);
    }
}
