//! What every fuzz target does.
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use gumbel_hostile::{Verdict, format};

thread_local! {
    static FOLDER: tempfile::TempDir = tempfile::tempdir().expect("a place for files");
}

static QUIET: Once = Once::new();

/// Reads bytes as a format; a refusal has to name the file and the reason.
pub fn read(name: &str, bytes: &[u8]) {
    // The fuzzer aborts at every panic, also at one of a library that the reader catches: only what comes through is a bug.
    QUIET.call_once(|| std::panic::set_hook(Box::new(|panic| eprintln!("{panic}"))));
    let format = format(name).expect("a format of that name");
    let verdict =
        FOLDER.with(|folder| catch_unwind(AssertUnwindSafe(|| format.read(folder.path(), bytes))));
    let complaint = match verdict {
        Ok(Verdict::Accepted) => None,
        Ok(Verdict::Refused(message)) => {
            format.complaint(&message).map(|c| format!("{c}: {message}"))
        }
        Err(_) => Some("panicked".to_owned()),
    };
    if let Some(complaint) = complaint {
        eprintln!("{name}: {complaint}");
        std::process::abort();
    }
}
