//! A grid of configurations times seeds as a file, the cases it stands for, and the script that makes an array of jobs of
//! them.
//!
//! `cargo run -p gumbel-sweep --example grid`
use std::error::Error;
use std::path::Path;

use gumbel_sweep::{Slurm, Sweep};

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
fn read(text: &str) -> Result<Sweep, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("temperature.toml");
    std::fs::write(&path, text)?;
    Ok(Sweep::read(&path)?)
}

/// A batch script for `sbatch`, four cases at a time.
fn script(sweep: &Sweep) -> String {
    let command = ["sweep", "run", "sweeps/temperature.toml"].map(str::to_owned);
    let options = ["--time=4:00:00".to_owned()];
    let (name, cases, at_once) = (&sweep.name, sweep.cases.len(), Some(4));
    let logs = Path::new("logs");
    Slurm { name, cases, at_once, options: &options, logs, command: &command }.script()
}

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<(), Box<dyn Error>> {
    let sweep = read(FILE)?;
    println!("{} cases of {}, by {}:", sweep.cases.len(), sweep.name, sweep.keys.join(" and "));
    for (index, case) in sweep.cases.iter().enumerate() {
        println!("{index:2}  seed {}  --set {}", case.seed, case.set.join(" --set "));
    }
    println!("\n{}", script(&sweep));
    Ok(())
}

#[test]
fn a_grid_has_every_combination_under_every_seed_and_the_script_a_job_for_each() {
    let sweep = read(FILE).unwrap();
    assert_eq!(sweep.keys, ["estimator.temperature", "model.latents"]);
    assert_eq!((sweep.name.as_str(), sweep.cases.len()), ("temperature", 2 * 2 * 3));
    // Seed by seed; within it the last key changes fastest.
    assert_eq!((sweep.cases[1].seed, &sweep.cases[1].values.join(" ")[..]), (1, "0.5 20"));
    let last = ["train.steps=2000", "estimator.temperature=1.0", "model.latents=30"];
    assert_eq!((sweep.cases[11].seed, &sweep.cases[11].set[..]), (2, &last.map(String::from)[..]));
    let script = script(&sweep);
    for part in ["#SBATCH --array=0-11%4\n", "#SBATCH --time=4:00:00\n", "scontrol requeue"] {
        assert!(script.contains(part), "{part} is not in {script}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for (from, to, said) in [
        ("[0.5, 1.0]", "[]", "has no values"),
        ("\"--dataset\"", "\"--seed\"", "--seed cannot be among them"),
        ("seeds", "sedes", "unknown field `sedes`"),
    ] {
        let error = read(&FILE.replace(from, to)).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}
