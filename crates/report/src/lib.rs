//! Runs read back from their directories: a page for each, comparisons over seeds, figures, TensorBoard files.
//!
//! Everything here is made of the plain files that a run leaves (`config.toml`, `metrics.jsonl`, `summary.json`, `env.json`,
//! `STATUS`, `samples/`), at any time, by anyone; a run never needs it to go on. Pages are one file each that needs nothing else:
//! no network, no script but for sorting a table.
//!
//! ```no_run
//! let run = gumbel_report::Record::read("runs/vae/20261127-120000-vae-s1-abcdef".as_ref())?;
//! std::fs::write("report.html", gumbel_report::run_page(&run, &[])?)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
mod card;
mod compare;
mod interval;
mod page;
mod plot;
mod record;
mod run_page;
pub mod tensorboard;
mod ticks;

pub use card::card;
pub use compare::{Comparison, Group, csv_line};
pub use interval::{Interval, mean_and_interval};
pub use page::{Page, escaped};
pub use plot::{Axes, Line, Panel, svg, svg_of_each};
pub use record::{Point, Record, distinct, find_runs};
pub use run_page::{course, run_page};

/// What can go wrong with a report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The directory is not that of a run.
    #[error("{} is no run directory: no config.toml in it", .0.display())]
    NoRun(std::path::PathBuf),
    /// A file of a run does not hold what it should.
    #[error("{}: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: std::path::PathBuf,
        /// The refusal.
        source: std::io::Error,
    },
    /// A figure could not be drawn.
    #[error("drawing a figure: {0}")]
    Figure(String),
}

impl Error {
    /// The exit code of a program that ends with this error, after BSD `sysexits.h`: 2 usage, 65 bad data, 70 a mistake in the
    /// program, 74 input/output.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoRun(_) => 2,
            Self::Corrupt { .. } => 65,
            Self::Figure(_) => 70,
            Self::Io { .. } => 74,
        }
    }
}

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
