//! What every fuzz target does.
use gumbel_hostile::{Verdict, format};

thread_local! {
    static FOLDER: tempfile::TempDir = tempfile::tempdir().expect("a place for files");
}

/// Reads bytes as a format; a refusal has to name the file and the reason.
pub fn read(name: &str, bytes: &[u8]) {
    let format = format(name).expect("a format of that name");
    let verdict = FOLDER.with(|folder| format.read(folder.path(), bytes));
    if let Verdict::Refused(message) = verdict {
        assert_eq!(format.complaint(&message), None, "{message}");
    }
}
