//! The `sweep` program as its users run it.
use std::path::Path;
use std::process::Command;

fn sweep(home: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sweep"))
        .args(args)
        .current_dir(home)
        .env_remove("GUMBEL_DATA_DIR")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

const TINY: &str = "program = \"vae\"\nseeds = 2\n\
    set = [\"train.steps=4\", \"train.log_every=2\", \"train.evaluate_every=4\", \"train.checkpoint_every=4\",\n\
    \"evaluation.final_samples=2\", \"model.latents=2\"]\n\
    [grid]\nestimator.temperature = [0.5, -1.0]\n";

#[test]
fn one_case_by_its_number_then_the_rest_and_the_one_that_fails_stops_none() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("bad.toml"), TINY).unwrap();
    let (code, text) = sweep(home.path(), &["run", "bad.toml"]);
    assert!(code == Some(2) && text.contains("temperature") && text.contains("[-1, -1]"), "{text}");

    std::fs::write(home.path().join("t.toml"), TINY.replace("-1.0", "1.0")).unwrap();
    let (code, text) = sweep(home.path(), &["run", "t.toml", "--index", "3"]);
    assert!(code == Some(0) && text.contains("1 of 1 runs are done"), "{text}");
    let (_, text) = sweep(home.path(), &["status", "t.toml"]);
    assert!(text.contains("3  estimator.temperature=1.0 seed=2: done in runs/vae/"), "{text}");
    assert!(text.contains("1 of 4 runs are done"), "{text}");

    let (code, text) = sweep(home.path(), &["resume", "t.toml", "--jobs", "2"]);
    assert!(code == Some(0) && text.contains("4 of 4 runs are done"), "{text}");
    assert!(!text.contains("3  estimator.temperature=1.0 seed=2: begins"), "{text}");
    let folder = home.path().join("runs/sweeps/t");
    let runs = std::fs::read_to_string(folder.join("runs.csv")).unwrap();
    assert!(runs.starts_with("index,estimator.temperature,seed,status,steps,"), "{runs}");
    assert_eq!(runs.lines().filter(|line| line.contains(",done,4,")).count(), 4, "{runs}");
    let groups = std::fs::read_to_string(folder.join("groups.csv")).unwrap();
    assert_eq!(groups.lines().count(), 3, "{groups}");
    assert!(folder.join("compare.html").is_file());
}

#[test]
fn the_script_for_slurm_and_what_cannot_be_meant() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("t.toml"), TINY).unwrap();
    let (code, text) = sweep(home.path(), &["slurm", "t.toml", "--at-once", "2", "--", "--mem=1G"]);
    assert_eq!(code, Some(0), "{text}");
    for part in ["#SBATCH --array=0-3%2", "#SBATCH --mem=1G", "--index \"$SLURM_ARRAY_TASK_ID\""] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    for (args, part) in [
        (&["run", "t.toml", "--index", "4"][..], "cases 0 to 3"),
        (&["run", "t.toml", "--jobs", "0"], "--jobs"),
    ] {
        let (code, text) = sweep(home.path(), args);
        assert!(code == Some(2) && text.contains(part), "{args:?}: {text}");
    }
    let (code, text) = sweep(home.path(), &["run", "none.toml"]);
    assert!(code == Some(74) && text.contains("none.toml"), "{text}");
}
