//! Many mutations of a format, one after the other.
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Once;

use gumbel_kernels::Key;

use crate::format::{FORMATS, Format, Verdict};
use crate::mutate::mutated;

/// What came out of many mutations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Files that were read.
    pub accepted: u64,
    /// Files that were refused.
    pub refused: u64,
    /// What must not be: panics, refusals without file or reason, too much memory; with the number of the mutation.
    pub complaints: Vec<String>,
}

/// How a reader of memory is asked: called with true to begin to count, with false for the largest number of bytes since then.
type Peak<'a> = dyn Fn(bool) -> usize + 'a;

/// Most bytes for a file: four times what it holds and 64 MiB.
fn allowed(bytes: &[u8]) -> usize {
    4 * bytes.len() + (64 << 20)
}

thread_local! {
    /// Whether panics of this thread are passed over.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Does something without a word about panics of this thread: readers that catch one of a library would print it, thousands of
/// times.
pub fn quietly<T>(body: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                before(panic);
            }
        }));
    });
    QUIET.set(true);
    let result = body();
    QUIET.set(false);
    result
}

/// Reads `count` mutations of the seeds of a format in `folder`, those numbered from `first` on.
pub fn survey(format: &Format, folder: &Path, first: u64, count: u64, peak: &Peak<'_>) -> Survey {
    let key = Key::from_seed(10).named("hostile").named(format.name);
    let mut survey = Survey::default();
    let all: Vec<&[u8]> = FORMATS.iter().flat_map(|other| other.seeds).copied().collect();
    for number in first..first + count {
        let key = key.fold_in(number);
        let pick = |seeds: &[&'static [u8]], word: u64| -> &'static [u8] {
            seeds.get(key.word(word) as usize % seeds.len().max(1)).copied().unwrap_or_default()
        };
        let bytes = mutated(pick(format.seeds, 8), pick(&all, 9), key);
        peak(true);
        let verdict = catch_unwind(AssertUnwindSafe(|| format.read(folder, &bytes)));
        let most = peak(false);
        let complaint = match &verdict {
            Err(_) => Some("panicked".to_owned()),
            Ok(_) if most > allowed(&bytes) => {
                Some(format!("took {most} bytes for {}", bytes.len()))
            }
            Ok(Verdict::Accepted) => None,
            Ok(Verdict::Refused(message)) => {
                format.complaint(message).map(|complaint| format!("{complaint}: {message}"))
            }
        };
        match verdict {
            Ok(Verdict::Accepted) => survey.accepted += 1,
            _ => survey.refused += 1,
        }
        survey
            .complaints
            .extend(complaint.map(|c| format!("{} mutation {number} {c}", format.name)));
    }
    survey
}
