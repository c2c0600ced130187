//! What can go wrong in a run, and the exit code that says so.
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A result whose error is [`Error`], unless said otherwise.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in a run. Every kind has its exit code: [`Error::exit_code`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A wrong option or a wrong configuration: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// A file of a run directory that is not what it should be: exit code 65.
    #[error("{}: {reason}", path.display())]
    Corrupt {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// Something that the run needs cannot be had now: exit code 69.
    #[error("{0}")]
    Unavailable(String),
    /// The operating system refused to read or write: exit code 74.
    #[error("cannot {action} {}: {source}{}", path.display(), free.as_deref().unwrap_or(""))]
    Io {
        /// What was tried: `read`, `write`, `lock`, …
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// How much space is left, where the disk is full.
        free: Option<String>,
        /// The refusal.
        source: io::Error,
    },
    /// Another process uses the run directory: exit code 75.
    #[error("{} is in use by process {owner}; wait for it or stop it", dir.display())]
    Busy {
        /// The run directory.
        dir: PathBuf,
        /// The number of the other process.
        owner: String,
    },
    /// Stopped on request, after a checkpoint: exit code 75.
    #[error("stopped by {by} at step {step}; go on with --resume {}", dir.display())]
    Interrupted {
        /// The signal, or who else asked.
        by: &'static str,
        /// Steps that are done and saved.
        step: u64,
        /// The run directory.
        dir: PathBuf,
    },
    /// A loss, a gradient or a parameter became NaN or infinite: exit code 77.
    #[error("{what} is not finite at step {step}; lower the learning rate or set train.clip_norm")]
    NonFinite {
        /// The first bad tensor: `loss`, ``the gradient of `encoder.weight` ``, …
        what: String,
        /// The step, counted from 0.
        step: u64,
    },
    /// A tensor operation failed: exit code 70.
    #[error("{0}")]
    Tensor(#[from] candle_core::Error),
    /// An error of the caller's own with the exit code that it wants, see [`Error::caller`].
    #[error("{source}")]
    Caller {
        /// The exit code of the program.
        code: u8,
        /// The error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// Wraps an error of a step, of an evaluation or of a data set together with its exit code.
    ///
    /// ```
    /// let error = gumbel_training::Error::caller(65, "row 7 has 3 columns, expected 4");
    /// assert_eq!(error.exit_code(), 65);
    /// ```
    pub fn caller(code: u8, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Caller { code, source: source.into() }
    }

    /// The exit code of a program that ends with this error, after BSD `sysexits.h`.
    ///
    /// 2 usage or configuration, 65 bad data, 69 unavailable, 70 internal, 74 input/output, 75 stopped
    /// on request or run directory in use (try again), 77 not finite. A second Ctrl-C is 130; where there is no memory a program ends
    /// with 71, see [`gumbel_kernels::allocator`].
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Corrupt { .. } => 65,
            Self::Unavailable(_) => 69,
            Self::Tensor(_) => 70,
            Self::Io { .. } => 74,
            Self::Busy { .. } | Self::Interrupted { .. } => 75,
            Self::NonFinite { .. } => 77,
            Self::Caller { code, .. } => *code,
        }
    }

    /// For `map_err`: an [`Error::Io`] that names what was tried on which path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| {
            let full =
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            let free = if full { free_space(&path) } else { None };
            Self::Io { action, path, free, source }
        }
    }

    /// An [`Error::Corrupt`] of `path`.
    pub(crate) fn corrupt(path: &Path, reason: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_path_buf(), reason: reason.into() }
    }
}

impl From<Box<dyn std::error::Error + Send + Sync>> for Error {
    fn from(source: Box<dyn std::error::Error + Send + Sync>) -> Self {
        Self::caller(70, source)
    }
}

/// ` (3 MiB free; …)` for the file system of `path`; asked of `df`, because std has no call for it.
fn free_space(path: &Path) -> Option<String> {
    let existing = path.ancestors().find(|p| p.exists())?;
    let output = Command::new("df").arg("-Pk").arg(existing).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let kib: u64 = text.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    Some(format!(" ({:.1} MiB free; free some space, then --resume)", kib as f64 / 1024.))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_exit_code() {
        let path = PathBuf::from("runs/x");
        let io = |kind: io::ErrorKind| Error::io("write", Path::new("a/b"))(kind.into());
        let cases = [
            (Error::Usage(String::new()), 2),
            (Error::corrupt(&path, "torn"), 65),
            (Error::Unavailable(String::new()), 69),
            (Error::Tensor(candle_core::Error::Msg(String::new())), 70),
            (io(io::ErrorKind::PermissionDenied), 74),
            (Error::Busy { dir: path.clone(), owner: "7".into() }, 75),
            (Error::Interrupted { by: "SIGTERM", step: 3, dir: path }, 75),
            (Error::NonFinite { what: "loss".into(), step: 3 }, 77),
            (Error::caller(69, "no data"), 69),
        ];
        for (error, code) in cases {
            assert_eq!(error.exit_code(), code, "{error}");
        }
    }

    #[test]
    fn a_full_disk_says_where_and_how_much_is_free() {
        let path = std::env::temp_dir().join("not-there").join("model.safetensors");
        let text = Error::io("write", &path)(io::ErrorKind::StorageFull.into()).to_string();
        assert!(text.contains("model.safetensors"), "{text}");
        assert!(text.contains("MiB free"), "{text}");
        let text = Error::io("write", &path)(io::ErrorKind::NotFound.into()).to_string();
        assert!(!text.contains("free"), "{text}");
    }

    #[test]
    fn boxed_errors_of_callers_convert_with_a_question_mark() {
        fn step() -> Result<()> {
            let boxed: Result<(), Box<dyn std::error::Error + Send + Sync>> =
                Err("row out of range".into());
            Ok(boxed?)
        }
        let error = step().unwrap_err();
        assert_eq!((error.exit_code(), error.to_string().as_str()), (70, "row out of range"));
    }
}
