//! A command apart from everything that this machine has set up; the tests of the programs have this file, too.
use std::path::Path;
use std::process::{Command, Stdio};

/// Lets the command run in `root`, as its home, without the variables of this machine.
pub(crate) fn shield(command: &mut Command, root: &Path) {
    for variable in ["CI", "NO_COLOR", "RAYON_NUM_THREADS", "RUST_BACKTRACE", "RUST_LOG"] {
        command.env_remove(variable);
    }
    command
        .current_dir(root)
        .env("HOME", root)
        .env("XDG_CACHE_HOME", root.join("cache"))
        .env("GUMBEL_DATA_DIR", root.join("sets"))
        .env("GUMBEL_OFFLINE", "1")
        .stdin(Stdio::null());
}
