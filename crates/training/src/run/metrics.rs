//! `metrics.jsonl`: results, and a length to go back to.
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use gumbel_metrics::JsonLines;

use super::open::append;
use crate::{Error, Result};

/// The results of a run; the file only ever grows, but for [`Metrics::truncate`].
#[derive(Debug)]
pub(crate) struct Metrics {
    lines: JsonLines<File>,
    path: PathBuf,
    /// Length of the file in bytes.
    bytes: u64,
}

impl Metrics {
    /// Opens or creates the file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = append(path)?;
        let bytes = file.metadata().map_err(Error::io("read", path))?.len();
        Ok(Self { lines: JsonLines::new(file), path: path.to_path_buf(), bytes })
    }

    /// Length of the file in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a line.
    pub(crate) fn write(&mut self, step: u64, split: &str, scalars: &[(&str, f64)]) -> Result<()> {
        let written = self.lines.write(step, split, scalars);
        self.bytes += written.map_err(|error| match error.kind() {
            // A name that occurs twice: the caller's mistake.
            ErrorKind::InvalidInput => Error::caller(70, error),
            _ => Error::io("write", &self.path)(error),
        })?;
        Ok(())
    }

    /// Waits until everything is on the disk.
    pub(crate) fn sync(&mut self) -> Result<()> {
        self.lines.get_mut().sync_all().map_err(Error::io("write", &self.path))
    }

    /// Forgets everything beyond `bytes`. A file shorter than that has lost results, which is an error.
    pub(crate) fn truncate(&mut self, bytes: u64) -> Result<()> {
        let file = self.lines.get_mut();
        let length = file.metadata().map_err(Error::io("read", &self.path))?.len();
        if length < bytes {
            let reason = format!("{length} bytes, but the checkpoint was made at {bytes}");
            return Err(Error::corrupt(&self.path, reason));
        }
        file.set_len(bytes).map_err(Error::io("write", &self.path))?;
        self.bytes = bytes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_after_going_back_follows_what_was_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("m");
        let mut metrics = Metrics::open(&path).unwrap();
        metrics.write(1, "train", &[("x", 0.5)]).unwrap();
        let kept = metrics.bytes();
        metrics.write(2, "train", &[("x", 0.25)]).unwrap();
        drop(metrics);
        let mut metrics = Metrics::open(&path).unwrap();
        assert!(metrics.bytes() > kept);
        metrics.truncate(kept).unwrap();
        metrics.write(2, "valid", &[]).unwrap();
        metrics.sync().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "{\"step\":1,\"split\":\"train\",\"x\":0.5}\n{\"step\":2,\"split\":\"valid\"}\n"
        );
        assert_eq!(metrics.bytes(), text.len() as u64);
        assert_eq!(metrics.truncate(text.len() as u64 + 1).unwrap_err().exit_code(), 65);
        let twice = metrics.write(3, "train", &[("x", 1.), ("x", 2.)]).unwrap_err();
        assert_eq!((twice.exit_code(), metrics.bytes()), (70, text.len() as u64));
    }
}
