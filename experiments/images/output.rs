//! Standard output: what a script reads from the program.
use std::io::{ErrorKind, Write, stdout};

use gumbel_training::{Error, Result};

/// Prints `text`. A reader that has gone away is no error; a full disk is.
pub fn print(text: &str) -> Result<()> {
    let mut out = stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Error::caller(74, format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
