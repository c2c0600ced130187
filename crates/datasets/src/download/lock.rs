//! One process at a time fetches a file.
use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

/// A lock that ends with this value, or with the process.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "open as long as the lock is held")] File);

/// Waits for the lock of that file, at most so long.
pub(super) fn lock(path: &Path, patience: Duration) -> Result<Lock, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let file =
        File::options().create(true).truncate(false).write(true).open(path).map_err(failed)?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Lock(file)),
            Err(TryLockError::WouldBlock) if start.elapsed() < patience => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(format!("{}: another process is fetching it", path.display()));
            }
            // A file system without locks: two processes do the same work, and neither harms the other's result.
            Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {
                return Ok(Lock(file));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
}
