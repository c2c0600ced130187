//! Reading of a file whose size and SHA-256 are known beforehand.
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::catalogue::DataFile;
use crate::{Error, Result};

/// The bytes of `directory/file.name`, if size and SHA-256 are the pinned ones.
///
/// At most the pinned number of bytes is held in memory, whatever the file turns out to be.
pub(crate) fn read(directory: &Path, file: &DataFile) -> Result<Vec<u8>> {
    let path = directory.join(file.name);
    let refused = |source| Error::Io { path: path.clone(), source };
    let mut reader = File::open(&path).map_err(refused)?;
    // A pipe or a device could go on for ever.
    if !reader.metadata().map_err(refused)?.is_file() {
        return Err(Error::Corrupt { path, reason: "not a regular file".into() });
    }
    let mut bytes = Vec::new();
    reader.by_ref().take(file.bytes).read_to_end(&mut bytes).map_err(refused)?;
    let mut hash = Sha256::new();
    hash.update(&bytes);
    let mut size = bytes.len() as u64;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = reader.read(&mut buffer).map_err(refused)?;
        let Some(more) = buffer.get(..read).filter(|more| !more.is_empty()) else { break };
        hash.update(more);
        size += read as u64;
    }
    let sha256 = hex(&hash.finalize());
    if size == file.bytes && sha256 == file.sha256 {
        return Ok(bytes);
    }
    let DataFile { bytes: wanted, sha256: pinned, .. } = file;
    let reason = format!(
        "not the file that was published{}: expected {wanted} bytes with sha256 {pinned}, \
         found {size} bytes with sha256 {sha256}; get the file again",
        likeness(&bytes)
    );
    Err(Error::Corrupt { path, reason })
}

/// SHA-256 of `bytes` in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What the wrong file seems to be, judged by its beginning.
pub(crate) fn likeness(bytes: &[u8]) -> &'static str {
    let start = bytes.get(..512).unwrap_or(bytes);
    let lower = start.to_ascii_lowercase();
    let text = lower.trim_ascii_start();
    if text.starts_with(b"<!doctype html") || text.starts_with(b"<html") {
        " (it is an HTML page: a proxy, a login page or an error page answered)"
    } else if text.starts_with(b"version https://git-lfs") {
        " (it is a Git LFS pointer, not the file it points to)"
    } else if start.starts_with(&[0, 0, 8]) {
        " (it is un-gzipped; only the gzipped original is accepted)"
    } else if start.is_empty() {
        " (it is empty)"
    } else if start.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~')) {
        " (it is a text)"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of "abc", from FIPS 180-2.
    const ABC: DataFile = DataFile {
        name: "abc",
        bytes: 3,
        sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    };

    fn read_as_abc(content: &[u8]) -> Result<Vec<u8>> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("abc"), content).unwrap();
        read(directory.path(), &ABC)
    }

    #[test]
    fn only_the_pinned_content_is_accepted() {
        assert_eq!(read_as_abc(b"abc").unwrap(), b"abc");
        for wrong in [&b"abd"[..], b"ab", b"abcd", b""] {
            assert_eq!(read_as_abc(wrong).unwrap_err().exit_code(), 65);
        }
    }

    #[test]
    fn the_message_has_both_sizes_both_hashes_and_what_the_file_seems_to_be() {
        let page = b"\n<!DOCTYPE html><html>please log in</html>";
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("abc"), page).unwrap();
        let wanted = DataFile { bytes: 30, ..ABC };
        let text = read(directory.path(), &wanted).unwrap_err().to_string();
        for part in ["HTML", "expected 30 bytes", "found 42 bytes", ABC.sha256, &sha256(page)] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        for (content, part) in [
            (&b"version https://git-lfs.github.com/spec/v1"[..], "LFS"),
            (&[0, 0, 8, 3, 0], "un-gzipped"),
            (b"", "empty"),
            (b"404: Not Found", "text"),
        ] {
            assert!(likeness(content).contains(part), "{part}");
        }
    }

    #[test]
    fn an_absent_file_is_an_io_error_and_a_folder_is_not_a_file() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read(directory.path(), &ABC).unwrap_err().exit_code(), 74);
        std::fs::create_dir(directory.path().join("abc")).unwrap();
        assert!(read(directory.path(), &ABC).is_err());
    }
}
