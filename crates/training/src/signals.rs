//! Stopping on request.
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::{flag, low_level};

use crate::{Error, Result};

/// The signals that ask a run to stop. Slurm sends the last two before it takes a machine away.
const SIGNALS: [(i32, &str); 4] =
    [(SIGINT, "SIGINT"), (SIGHUP, "SIGHUP"), (SIGTERM, "SIGTERM"), (SIGUSR1, "SIGUSR1")];

/// The exit code on a second Ctrl-C: 128 + SIGINT.
const SECOND_INTERRUPT: i32 = 130;

/// Who asked, where it was not a signal.
const REQUEST: usize = usize::MAX;

/// Whether signals do what they do by default, because no run listens.
static IDLE: AtomicBool = AtomicBool::new(true);

/// How many runs listen; none before the first one did.
static LISTENING: Mutex<Option<usize>> = Mutex::new(None);

/// The signals to listen to: a hang-up that was ignored from the start stays so.
fn listened() -> impl Iterator<Item = i32> {
    let heard = |signal: &i32| *signal != SIGHUP || !is_ignored(SIGHUP);
    SIGNALS.into_iter().map(|(signal, _)| signal).filter(heard)
}

/// Whether the process was started with this signal ignored, as by `nohup`; no on systems that do not say so in `/proc`.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// A request to stop, looked at between steps. Clones are the same request.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicUsize>);

impl Stop {
    /// Asks for a stop: the run writes a checkpoint after its current step and ends.
    pub fn request(&self) {
        self.0.store(REQUEST, Ordering::SeqCst);
    }

    /// Who asked for a stop, if anybody did.
    #[must_use]
    pub fn requested_by(&self) -> Option<&'static str> {
        match self.0.load(Ordering::SeqCst) {
            0 => None,
            number => {
                let name = SIGNALS.iter().find(|(n, _)| usize::try_from(*n) == Ok(number));
                Some(name.map_or("request", |(_, name)| name))
            }
        }
    }
}

impl Stop {
    /// The request as a number, to tell other processes; 0 is none.
    pub(crate) fn number(&self) -> u64 {
        self.0.load(Ordering::SeqCst) as u64
    }

    /// Makes the request that was told.
    pub(crate) fn adopt(&self, number: u64) {
        self.0.store(usize::try_from(number).unwrap_or(REQUEST), Ordering::SeqCst);
    }
}

/// While this lives, signals make a request instead of ending the process.
#[derive(Debug)]
pub(crate) struct Listening {
    actions: Vec<SigId>,
}

impl Listening {
    /// Turns SIGINT, SIGHUP (not under `nohup`), SIGTERM and SIGUSR1 into requests; a second SIGINT exits with 130 at once.
    pub(crate) fn start(stop: &Stop) -> Result<Self> {
        Self::try_start(stop)
            .map_err(|error| Error::caller(70, format!("cannot listen for signals: {error}")))
    }

    fn try_start(stop: &Stop) -> std::io::Result<Self> {
        let mut count = LISTENING.lock().unwrap_or_else(PoisonError::into_inner);
        if count.is_none() {
            for signal in listened() {
                flag::register_conditional_default(signal, &IDLE)?;
            }
        }
        *count = Some(count.unwrap_or(0) + 1);
        IDLE.store(false, Ordering::SeqCst);
        let mut this = Self { actions: Vec::new() };
        // Actions run in this order: the first SIGINT must not yet see its own mark.
        let interrupted = Arc::new(AtomicBool::new(false));
        drop(count);
        this.actions.push(flag::register_conditional_shutdown(
            SIGINT,
            SECOND_INTERRUPT,
            Arc::clone(&interrupted),
        )?);
        this.actions.push(flag::register(SIGINT, interrupted)?);
        for signal in listened() {
            let number = usize::try_from(signal).unwrap_or(REQUEST);
            this.actions.push(flag::register_usize(signal, Arc::clone(&stop.0), number)?);
        }
        Ok(this)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        for action in self.actions.drain(..) {
            low_level::unregister(action);
        }
        let mut count = LISTENING.lock().unwrap_or_else(PoisonError::into_inner);
        let left = count.unwrap_or(1).saturating_sub(1);
        *count = Some(left);
        IDLE.store(left == 0, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    use super::*;

    const CHILD: &str = "GUMBEL_TEST_SIGNALS_CHILD";

    /// What the child process does: waits for a request, says by whom, stops listening, waits on.
    fn child() {
        let stop = Stop::default();
        let listening = Listening::start(&stop).unwrap();
        eprintln!("ready");
        while stop.requested_by().is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
        eprintln!("stopped by {}", stop.requested_by().unwrap());
        if std::env::var(CHILD).unwrap() == "leave" {
            drop(listening);
            eprintln!("left");
        }
        std::thread::sleep(Duration::from_secs(60));
    }

    fn send(child: &Child, signal: &str) {
        let kill = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(kill.success());
    }

    /// Starts the test `name` of this module again as a child process.
    fn start(name: &str, mode: &str) -> (Child, std::io::Lines<impl std::io::BufRead>) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("signals::tests::{name}"), "--nocapture"])
            .env(CHILD, mode)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(child.stderr.take().unwrap());
        (child, std::io::BufRead::lines(lines))
    }

    fn wait_for(lines: &mut std::io::Lines<impl std::io::BufRead>, text: &str) {
        assert!(lines.by_ref().any(|line| line.unwrap() == text), "no line {text:?}");
    }

    #[test]
    fn signals_make_requests_and_a_second_interrupt_exits_with_130() {
        if std::env::var_os(CHILD).is_some() {
            return child();
        }
        let name = "signals_make_requests_and_a_second_interrupt_exits_with_130";
        for (option, signal) in
            [("-TERM", "SIGTERM"), ("-USR1", "SIGUSR1"), ("-HUP", "SIGHUP"), ("-INT", "SIGINT")]
        {
            if signal == "SIGHUP" && is_ignored(SIGHUP) {
                continue; // The tests themselves are under nohup.
            }
            let (mut process, mut lines) = start(name, "stay");
            wait_for(&mut lines, "ready");
            send(&process, option);
            wait_for(&mut lines, &format!("stopped by {signal}"));
            // The first SIGINT after another signal still only asks.
            send(&process, "-INT");
            if signal != "SIGINT" {
                std::thread::sleep(Duration::from_millis(50));
                assert!(process.try_wait().unwrap().is_none());
                send(&process, "-INT");
            }
            assert_eq!(process.wait().unwrap().code(), Some(130), "{signal}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_hang_up_that_nohup_ignores_stays_ignored() {
        if std::env::var_os(CHILD).is_some() {
            return child();
        }
        let mut process = Command::new("nohup")
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "signals::tests::a_hang_up_that_nohup_ignores_stays_ignored"])
            .arg("--nocapture")
            .env(CHILD, "stay")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(process.stderr.take().unwrap());
        let mut lines = std::io::BufRead::lines(lines);
        wait_for(&mut lines, "ready");
        send(&process, "-HUP");
        std::thread::sleep(Duration::from_millis(50));
        send(&process, "-TERM");
        wait_for(&mut lines, "stopped by SIGTERM");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    #[test]
    fn after_a_run_signals_end_the_process_again() {
        if std::env::var_os(CHILD).is_some() {
            return child();
        }
        let (mut process, mut lines) = start("after_a_run_signals_end_the_process_again", "leave");
        wait_for(&mut lines, "ready");
        send(&process, "-USR1");
        wait_for(&mut lines, "left");
        send(&process, "-TERM");
        let status = process.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(SIGTERM));
    }

    #[test]
    fn a_program_can_ask_too_and_clones_are_the_same_request() {
        let stop = Stop::default();
        assert_eq!(stop.requested_by(), None);
        stop.clone().request();
        assert_eq!(stop.requested_by(), Some("request"));
    }
}
