//! One process at a time has a run.
use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

use super::layout::LOCK;
use crate::{Error, Result};

/// The right to a run directory; given back on drop, or by the operating system when the process ends.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a child process that is just being started still has the file open.
        let _ = self.0.unlock();
    }
}

/// Takes the run in `directory` for this process.
pub(super) fn acquire(directory: &Path) -> Result<Lock> {
    let path = directory.join(LOCK);
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(Error::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            // Only for the message; the owner may be about to write it.
            let _ = (&file).take(32).read_to_string(&mut owner);
            let owner = owner.trim();
            let owner = if owner.is_empty() { "(unknown)" } else { owner }.to_owned();
            return Err(Error::Busy { dir: directory.to_path_buf(), owner });
        }
        Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
    }
    // Only after the lock is ours: an owner's number must not be wiped out by others.
    file.set_len(0).map_err(Error::io("write", &path))?;
    writeln!(file, "{}", std::process::id()).map_err(Error::io("write", &path))?;
    Ok(Lock(file))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn exactly_one_of_many_gets_the_lock_and_dropping_it_frees_it() {
        let directory = tempfile::tempdir().unwrap();
        for _ in 0..20 {
            let (won, ready) = (AtomicUsize::new(0), std::sync::Barrier::new(4));
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        ready.wait();
                        let lock = acquire(directory.path());
                        match &lock {
                            Ok(_) => drop(won.fetch_add(1, Ordering::SeqCst)),
                            Err(error) => assert_eq!(error.exit_code(), 75),
                        }
                        ready.wait();
                    });
                }
            });
            assert_eq!(won.load(Ordering::SeqCst), 1);
        }
        let text = std::fs::read_to_string(directory.path().join(LOCK)).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
    }
}
