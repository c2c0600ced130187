//! What can go wrong with data, and the exit code that says so.
use std::fmt::Write as _;
use std::path::PathBuf;

use crate::catalogue::DataFile;
use crate::{DatasetName, Looked};

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with data.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No place holds every file of the set. Nothing else is used in its stead.
    #[error("{}", missing(.title, .files, (.looked_in, .tried), .instead))]
    Missing {
        /// The set that was asked for, by the name to call it.
        title: &'static str,
        /// Its files.
        files: Vec<DataFile>,
        /// An option that does without files.
        instead: &'static str,
        /// The directories that were tried, in order, and what each held.
        looked_in: Vec<Looked>,
        /// What came of the downloads that were tried.
        tried: Vec<String>,
    },
    /// A file is not the file that it should be.
    #[error("{}: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system refused to read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The refusal.
        source: std::io::Error,
    },
    /// A value that the user chose is not allowed.
    #[error("{0}")]
    Argument(String),
    /// A row number at or beyond the end of a data set: a mistake in the calling program.
    #[error("row {row} asked of a data set of {rows} rows, use rows below {rows}")]
    Row {
        /// The row asked for.
        row: u32,
        /// The number of rows there are.
        rows: usize,
    },
    /// Labels asked of a set that has none.
    #[error("{set} has no labels, use one of: strokes, mnist, fashion-mnist, omniglot")]
    NoLabels {
        /// The set.
        set: DatasetName,
    },
    /// A batch could not be made into a tensor or moved to its device.
    #[error("cannot make a batch: {0}")]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    /// The exit code of a program that ends with this error, after BSD `sysexits.h`.
    ///
    /// 2 usage, 65 bad data, 69 data not available, 70 a mistake in the program, 74 input/output.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Argument(_) | Self::NoLabels { .. } => 2,
            Self::Corrupt { .. } => 65,
            Self::Missing { .. } => 69,
            Self::Row { .. } | Self::Tensor(_) => 70,
            Self::Io { .. } => 74,
        }
    }
}

/// The text of [`Error::Missing`]: what was wanted, where it was sought, how to go on.
fn missing(
    title: &str,
    files: &[DataFile],
    (looked_in, tried): (&[Looked], &[String]),
    instead: &str,
) -> String {
    let mut text = format!("{title} is not on this machine");
    if !tried.is_empty() {
        text.push_str(" and could not be fetched");
    }
    for (i, looked) in looked_in.iter().enumerate() {
        let head = if i == 0 { "looked in" } else { "" };
        let _ = write!(text, "\n  {head:9}  {looked}");
    }
    for (i, tried) in tried.iter().enumerate() {
        let head = if i == 0 { "tried" } else { "" };
        let _ = write!(text, "\n  {head:9}  {tried}");
    }
    for (i, file) in files.iter().enumerate() {
        let head = if i == 0 { "expected" } else { "" };
        let (name, bytes, sha256) = (file.name, file.bytes, file.sha256);
        let _ = write!(text, "\n  {head:9}  {name}  {bytes} bytes  sha256 {sha256}");
    }
    let gzipped =
        if files.iter().any(|file| file.name.ends_with(".gz")) { ", still gzipped," } else { "" };
    let _ = write!(
        text,
        "\n  fix        put all of these files{gzipped} into one of those directories,\
         \n             or name the directory above it with --data-dir or GUMBEL_DATA_DIR\
         \n             or run now without any file: {instead}"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue;

    #[test]
    fn missing_data_is_explained_with_files_places_and_a_way_on() {
        let directory = PathBuf::from("somewhere/mnist");
        let looked_in = vec![Looked { directory, held: 3, of: 4 }];
        let entry = catalogue::entry(DatasetName::Mnist).unwrap();
        let (title, files, instead) = (entry.title, entry.files(), "--dataset strokes");
        let tried = vec!["a.example (status 404)".to_owned()];
        let error = Error::Missing { title, files, instead, looked_in, tried };
        let text = error.to_string();
        for part in [
            "mnist is not on this machine and could not be fetched",
            "tried      a.example (status 404)",
            "3 of 4 files",
            "train-images-idx3-ubyte.gz  9912422 bytes",
            "sha256 440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "t10k-labels-idx1-ubyte.gz",
            "--dataset strokes",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
        assert_eq!(error.exit_code(), 69);
    }

    #[test]
    fn each_kind_of_error_has_its_exit_code() {
        let path = PathBuf::from("x");
        let io = Error::Io { path: path.clone(), source: std::io::ErrorKind::NotFound.into() };
        assert_eq!(io.exit_code(), 74);
        assert_eq!(Error::Corrupt { path, reason: String::new() }.exit_code(), 65);
        assert_eq!(Error::Row { row: 1, rows: 1 }.exit_code(), 70);
        assert_eq!(Error::NoLabels { set: DatasetName::BinarizedMnist }.exit_code(), 2);
    }
}
