//! Names of runs and of their directories.
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use crate::files::hex;
use crate::utc::Utc;
use crate::{Error, Result, Run};

/// An error unless `name` is a plain file name that nobody can mistake for a path or an option.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let problem = if name.is_empty() {
        "is empty"
    } else if name.len() > Run::LONGEST_NAME {
        "is longer than 64 bytes"
    } else if name.starts_with(['.', '-']) {
        "starts with a dot or a dash"
    } else if name.chars().any(|c| c.is_control() || "/\\:*?\"<>|".contains(c)) {
        "has a path separator or a special character in it"
    } else {
        return Ok(());
    };
    Err(Error::Usage(format!("the name `{}` {problem}; use a plain word", name.escape_debug())))
}

/// Creates a directory below `parent` that did not exist before.
pub(super) fn create_directory(parent: &Path, name: &str, seed: u64) -> Result<PathBuf> {
    fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    let stamp = Utc::now().stamp();
    let mut attempt = 0u64;
    loop {
        let path = parent.join(format!("{stamp}-{name}-s{seed}-{}", suffix(attempt)));
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && attempt < 1000 => {
                attempt += 1;
            }
            Err(error) => return Err(Error::io("create", &path)(error)),
        }
    }
}

/// Six digits that tell apart runs that start in the same second; they have no influence on results.
fn suffix(attempt: u64) -> String {
    let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    let text = format!("{} {nanoseconds} {attempt}", std::process::id());
    hex(Sha256::digest(text).get(..3).unwrap_or(&[0; 3]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_the_directory_or_hide() {
        for bad in ["", ".", "..", ".x", "-x", "a/b", "/a", "a\\b", "c:x", "a\tb", "a\u{0}b"] {
            let error = check_name(bad).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad:?}");
        }
        for good in ["run", "tau 0.5", "größe", "a..b", "x-1_2"] {
            check_name(good).unwrap();
        }
    }

    #[test]
    fn many_runs_of_one_second_have_directories_of_their_own() {
        let out = tempfile::tempdir().unwrap();
        let parent = out.path().join("a").join("b");
        let mut paths: Vec<PathBuf> =
            (0..50).map(|_| create_directory(&parent, "x", 7).unwrap()).collect();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), 50);
        let name = paths[0].file_name().unwrap().to_str().unwrap();
        let parts: Vec<&str> = name.split('-').collect();
        let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
        assert_eq!((lengths, &parts[2..4]), (vec![8, 6, 1, 2, 6], &["x", "s7"][..]));
    }

    #[test]
    fn a_file_in_the_way_is_an_input_output_error_with_its_path() {
        let out = tempfile::tempdir().unwrap();
        let file = out.path().join("file");
        fs::write(&file, b"").unwrap();
        let error = create_directory(&file.join("below"), "x", 1).unwrap_err();
        assert_eq!(error.exit_code(), 74);
        assert!(error.to_string().contains("below"), "{error}");
    }
}
