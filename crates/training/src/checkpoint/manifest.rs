//! `MANIFEST`: name, length and SHA-256 of every file of a checkpoint.
use std::fmt;

use sha2::{Digest, Sha256};

use crate::files::hex;

/// The file with the sums, written last.
pub(super) const MANIFEST: &str = "MANIFEST";
/// The parameters.
pub(super) const MODEL: &str = "model.safetensors";
/// The state of the optimizer.
pub(super) const OPTIMIZER: &str = "optimizer.safetensors";
/// The numbers of the run.
pub(super) const STATE: &str = "state.json";

/// The sums of a checkpoint's files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    entries: Vec<Entry>,
}

/// The sum of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    name: String,
    /// Length in bytes.
    pub(super) length: u64,
    sha256: String,
}

impl Manifest {
    /// Adds a file.
    pub(super) fn add(&mut self, name: &str, bytes: &[u8]) {
        let (length, sha256) = (bytes.len() as u64, hex(&Sha256::digest(bytes)));
        self.entries.push(Entry { name: name.to_owned(), length, sha256 });
    }

    /// The sum of the file `name`.
    pub(super) fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// Reads what [`Manifest::to_string`] writes, and only that.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        let manifest = Self { entries: text.lines().map(entry).collect::<Result<_, _>>()? };
        let names: Vec<&str> = manifest.entries.iter().map(|e| e.name.as_str()).collect();
        if names != [MODEL, OPTIMIZER, STATE] || manifest.to_string() != text {
            return Err("not as this program writes it".into());
        }
        Ok(manifest)
    }
}

fn entry(line: &str) -> Result<Entry, String> {
    let mut words = line.split(' ');
    match (words.next(), words.next().map(str::parse), words.next(), words.next()) {
        (Some(name), Some(Ok(length)), Some(sha256), None) => {
            Ok(Entry { name: name.to_owned(), length, sha256: sha256.to_owned() })
        }
        _ => Err("a line is not name, length, SHA-256".into()),
    }
}

impl Entry {
    /// Whether `bytes` are the bytes of this file; the error says what differs.
    pub(super) fn check(&self, bytes: &[u8]) -> Result<(), String> {
        if bytes.len() as u64 != self.length {
            return Err(format!("{} bytes, MANIFEST says {}", bytes.len(), self.length));
        }
        let sum = hex(&Sha256::digest(bytes));
        if sum != self.sha256 {
            return Err(format!("sha256 {sum}, MANIFEST says {}", self.sha256));
        }
        Ok(())
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Entry { name, length, sha256 } in &self.entries {
            writeln!(f, "{name} {length} {sha256}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_back_and_nothing_else_is_read() {
        let mut manifest = Manifest::default();
        for (name, bytes) in [(MODEL, &b"abc"[..]), (OPTIMIZER, b""), (STATE, b"{}")] {
            manifest.add(name, bytes);
        }
        let text = manifest.to_string();
        assert_eq!(Manifest::parse(text.as_bytes()), Ok(manifest.clone()));
        let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert!(text.starts_with(&format!("{MODEL} 3 {sum}\n")), "{text}");
        for bad in [
            text.replace(STATE, "../state.json"),
            text.replace(" 3 ", " +3 "),
            text.replace(" 3 ", " 03 "),
            text.replace(" 3 ", " 99999999999999999999 "),
            text.trim_end().to_owned(),
            format!("{text}{text}"),
            text.replace('\n', "\r\n"),
            String::new(),
        ] {
            assert!(Manifest::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(manifest.get(MODEL).unwrap().check(b"abd").unwrap_err().contains("sha256"));
        assert!(manifest.get(MODEL).unwrap().check(b"ab").unwrap_err().contains("2 bytes"));
    }
}
