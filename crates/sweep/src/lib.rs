//! Sweeps: a grid of configurations times seeds, run by run, some at a time, on one machine or as an array of jobs.
//!
//! A [`Sweep`] is a file; it has a list of [`Case`]s, always the same one in the same order. A [`Place`] knows the program and where
//! its runs are; it makes a [`Job`] of a case and finds out how far that is ([`State`]) from what lies on the disk. [`work`]
//! does jobs. There is no other state: no database, no server, no file that says what is done but `STATUS` in each run.
//!
//! The program is one of those that take the options of a run: `--config`, `--set`, `--seed`, `--out`, `--name`, `--resume`,
//! `--quiet`, `--threads`, `--data-dir`, `--print-config`, which end with 0 when done and with 75 after a checkpoint on request.
mod job;
mod queue;
mod signals;
mod slurm;
mod sweep;

pub use job::{Job, Place, State, plain};
pub use queue::{Ended, Event, Outcome, work};
pub use signals::Requests;
pub use slurm::Slurm;
pub use sweep::{Case, Sweep};

/// What can go wrong with a sweep, beside its runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The sweep cannot be meant like this.
    #[error("{0}")]
    Usage(String),
    /// The operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The refusal.
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// The exit code of a program that ends with this error, after BSD `sysexits.h`: 2 usage, 74 input/output.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Io { .. } => 74,
        }
    }
}

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
