//! How much of a long computation to spend.
use std::fmt;

use serde::Deserialize;

/// A share of a computation that takes days as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Budget {
    /// Minutes: shows that everything runs.
    Quick,
    /// What two cores do in hours.
    Cpu,
    /// All of it: what the paper spent, where there is one that says.
    Full,
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quick => "quick",
            Self::Cpu => "cpu",
            Self::Full => "full",
        })
    }
}
