//! `STATUS`: one line that says how a run stands.
use std::fmt;
use std::path::Path;

use crate::Result;
use crate::files::{read_limited, write_atomic};

/// How a run stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// A process works on it, or was killed.
    Running,
    /// Trained to the end, and evaluated.
    Done,
    /// Ended by an error.
    Failed(String),
    /// Stopped on request, to be resumed.
    Interrupted(String),
}

impl Status {
    /// What the file says; a file that says nothing known is one of a killed process.
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = read_limited(path, 1 << 16).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        match text.trim_end().split_once(": ") {
            None if text == "done\n" => Self::Done,
            Some(("failed", reason)) => Self::Failed(reason.to_owned()),
            Some(("interrupted", reason)) => Self::Interrupted(reason.to_owned()),
            _ => Self::Running,
        }
    }

    /// Replaces the file.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        write_atomic(path, format!("{self}\n").as_bytes())
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one_line = |reason: &str| reason.split_whitespace().collect::<Vec<_>>().join(" ");
        match self {
            Self::Running => f.write_str("running"),
            Self::Done => f.write_str("done"),
            Self::Failed(reason) => write!(f, "failed: {}", one_line(reason)),
            Self::Interrupted(reason) => write!(f, "interrupted: {}", one_line(reason)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_line_whatever_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("STATUS");
        for (status, text) in [
            (Status::Running, "running\n"),
            (Status::Failed("no: data at all".into()), "failed: no: data at all\n"),
            (Status::Interrupted("SIGTERM at step 3".into()), "interrupted: SIGTERM at step 3\n"),
            (Status::Done, "done\n"),
        ] {
            status.write(&path).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            assert_eq!(Status::read(&path), status);
        }
        Status::Failed("no\n  data\r\nat all".into()).write(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "failed: no data at all\n");
        assert_eq!(Status::read(&directory.path().join("no")), Status::Running);
    }
}
