//! Files that are whole or not there at all.
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use crate::{Error, Result};

/// Start of the names of files and directories that are not complete yet.
pub(crate) const TEMPORARY: &str = ".tmp-";

/// Writes a file and waits until it is on the disk.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path).map_err(Error::io("create", path))?;
    file.write_all(bytes).map_err(Error::io("write", path))?;
    file.sync_all().map_err(Error::io("write", path))
}

/// Puts a file in place of `path` in one go: whoever reads it finds the old bytes or the new ones.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = directory.join(format!("{TEMPORARY}{name}-{}", std::process::id()));
    let written = write_synced(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path).map_err(Error::io("write", path)));
    if written.is_err() {
        // What is left over is also removed by the next run; the first error matters more.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    sync_directory(directory)
}

/// Waits until the names in a directory are on the disk.
pub(crate) fn sync_directory(path: &Path) -> Result<()> {
    let directory = File::open(path).map_err(Error::io("open", path))?;
    directory.sync_all().map_err(Error::io("write", path))
}

/// Reads a file of at most `limit` bytes; a longer one is an error before anything is read.
pub(crate) fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    let length = file.metadata().map_err(Error::io("read", path))?.len();
    let too_long =
        || Error::corrupt(path, format!("longer than {limit} bytes, not what it should be"));
    if length > limit {
        return Err(too_long());
    }
    let mut bytes = Vec::new();
    // A pipe or a file that grows has no length to rely on.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    if bytes.len() as u64 > limit { Err(too_long()) } else { Ok(bytes) }
}

/// Removes a file or a whole directory.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let is_directory = fs::symlink_metadata(path).map_err(Error::io("read", path))?.is_dir();
    let removed = if is_directory { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(Error::io("remove", path))
}

/// Names in a directory, sorted; names that are not UTF-8 are not ours and left out.
pub(crate) fn names(directory: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(Error::io("read", directory))? {
        let entry = entry.map_err(Error::io("read", directory))?;
        names.extend(entry.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |n: u8| char::from_digit(u32::from(n), 16).unwrap_or('0');
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_leaves_nothing_else_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("STATUS");
        write_atomic(&path, b"running\n").unwrap();
        write_atomic(&path, b"done\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"done\n");
        assert_eq!(names(directory.path()).unwrap(), ["STATUS"]);
    }

    #[test]
    fn a_failed_replacement_keeps_the_old_file_and_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("in-the-way");
        fs::create_dir(&path).unwrap();
        let error = write_atomic(&path, b"x").unwrap_err();
        assert_eq!(error.exit_code(), 74);
        assert!(error.to_string().contains("in-the-way"), "{error}");
        assert_eq!(names(directory.path()).unwrap(), ["in-the-way"]);
    }

    #[test]
    fn a_file_over_the_limit_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        fs::write(&path, [7; 10]).unwrap();
        assert_eq!(read_limited(&path, 10).unwrap(), [7; 10]);
        assert_eq!(read_limited(&path, 9).unwrap_err().exit_code(), 65);
        assert_eq!(hex(&[0, 0x1f, 0xff]), "001fff");
    }
}
