//! What tests of runs have in common.
use std::fs;
use std::path::Path;

use clap::Parser;

use super::layout::STATUS;
use crate::{Run, RunArgs};

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    run: RunArgs,
}

/// Options of a quiet run below `out`.
pub(super) fn args(out: &Path) -> RunArgs {
    let out = out.to_str().unwrap();
    Args::parse_from(["test", "--quiet", "--out", out]).run
}

pub(super) const CONFIG_TOML: &str = "seed = 3\n\n[train]\nsteps = 5\n";

/// A new run below `out`.
pub(super) fn create(out: &Path) -> Run {
    Run::create("toy", &args(out), CONFIG_TOML, 3).unwrap()
}

/// What `STATUS` says.
pub(super) fn status(directory: &Path) -> String {
    fs::read_to_string(directory.join(STATUS)).unwrap()
}
