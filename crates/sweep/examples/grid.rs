//! A grid of configurations times seeds as a file, the cases it stands for, and the script that makes an array of jobs of
//! them.
//!
//! `cargo run -p gumbel-sweep --example grid`
use std::fs;
use std::path::Path;

use gumbel_sweep::{Error, Result, Slurm, Sweep, plain};

const FILE: &str = r#"
program = "vae"
seeds = 2
set = ["train.steps=2000"]
args = ["--dataset", "strokes"]

[grid]
"estimator.temperature" = [0.5, 1.0]
"model.latents" = [10, 20, 30]
"#;

/// The sweep of a file with this text.
fn read(folder: &Path, text: &str) -> Result<Sweep> {
    let path = folder.join("temperature.toml");
    let written = fs::write(&path, text);
    written.map_err(|source| Error::Io { what: format!("writing {}", path.display()), source })?;
    Sweep::read(&path)
}

/// A batch script for `sbatch`, four cases at a time.
fn script(sweep: &Sweep) -> String {
    let command = ["sweep", "run", "sweeps/temperature.toml"].map(str::to_owned);
    Slurm {
        name: &plain(&sweep.name),
        cases: sweep.cases.len(),
        at_once: Some(4),
        options: &["--time=4:00:00".to_owned()],
        logs: Path::new("logs"),
        command: &command,
    }
    .script()
}

fn folder() -> Result<tempfile::TempDir> {
    tempfile::tempdir().map_err(|source| Error::Io { what: "a folder".to_owned(), source })
}

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<()> {
    let sweep = read(folder()?.path(), FILE)?;
    println!("{} cases of {}, by {}:", sweep.cases.len(), sweep.name, sweep.keys.join(" and "));
    for (index, case) in sweep.cases.iter().enumerate() {
        println!("{index:2}  seed {}  --set {}", case.seed, case.set.join(" --set "));
    }
    println!("\n{}", script(&sweep));
    Ok(())
}

#[test]
fn a_grid_has_every_combination_under_every_seed() -> Result<()> {
    let sweep = read(folder()?.path(), FILE)?;
    assert_eq!(sweep.keys, ["estimator.temperature", "model.latents"]);
    assert_eq!((sweep.name.as_str(), sweep.cases.len()), ("temperature", 2 * 2 * 3));
    // Seed by seed; within it the last key changes fastest.
    let (first, last) = (&sweep.cases[1], &sweep.cases[11]);
    assert_eq!((first.seed, &first.values[..]), (1, &["0.5".to_owned(), "20".to_owned()][..]));
    assert_eq!(last.seed, 2);
    let changes = ["train.steps=2000", "estimator.temperature=1.0", "model.latents=30"];
    assert_eq!(last.set, changes);
    Ok(())
}

#[test]
fn the_script_has_a_job_for_each_case_and_asks_for_another_turn() -> Result<()> {
    let script = script(&read(folder()?.path(), FILE)?);
    for part in ["#SBATCH --array=0-11%4\n", "#SBATCH --time=4:00:00\n", "scontrol requeue"] {
        assert!(script.contains(part), "{part} is not in {script}");
    }
    Ok(())
}

#[test]
fn what_cannot_be_meant_is_refused() -> Result<()> {
    let folder = folder()?;
    for (from, to, said) in [
        ("[0.5, 1.0]", "[]", "has no values"),
        ("\"--dataset\"", "\"--seed\"", "--seed cannot be among them"),
        ("seeds", "sedes", "sedes"),
    ] {
        let error = read(folder.path(), &FILE.replace(from, to)).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains(said), "{error}");
    }
    Ok(())
}
