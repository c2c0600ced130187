//! Sets the formulas of built documentation: `gumbel-formulas target/doc`.
use std::path::Path;

use anyhow::{Context, Result, ensure};

fn main() -> Result<()> {
    let folder = std::env::args_os()
        .nth(1)
        .context("say where the documentation is: gumbel-formulas target/doc")?;
    let count = gumbel_formulas::set_all(Path::new(&folder))?;
    ensure!(count > 0, "no formula found in {}; build the documentation first", folder.display());
    Ok(())
}
