//! The `runs` program as its users run it.
use std::path::{Path, PathBuf};
use std::process::Command;

fn runs(home: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_runs")).args(args).current_dir(home).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

fn made_up(home: &Path, name: &str, seed: u64, bound: f64, status: &str) -> PathBuf {
    let directory = home.join("runs/vae").join(name);
    std::fs::create_dir_all(directory.join("samples")).unwrap();
    let write = |file: &str, text: &str| std::fs::write(directory.join(file), text).unwrap();
    write("config.toml", &format!("seed = {seed}\n[train]\nsteps = 20\n"));
    let line = |step: u64, bound: f64| {
        format!("{{\"step\":{step},\"split\":\"valid\",\"bound\":{bound}}}\n")
    };
    write("metrics.jsonl", &(line(10, bound - 5.) + &line(20, bound)));
    write("STATUS", status);
    directory
}

#[test]
fn runs_are_listed_shown_compared_and_watched() {
    let home = tempfile::tempdir().unwrap();
    made_up(home.path(), "a", 1, -100., "done\n");
    made_up(home.path(), "b", 2, -102., "failed: the loss is not finite\n");
    let broken = made_up(home.path(), "c", 3, -1., "done\n");
    std::fs::write(broken.join("metrics.jsonl"), "nonsense\n").unwrap();

    let (code, text) = runs(home.path(), &["list"]);
    assert!(code == Some(0) && text.contains("done              20  runs/vae/a"), "{text}");
    assert!(text.contains("failed") && text.contains("valid: bound -102.000"), "{text}");
    assert!(text.contains("left out: runs/vae/c/metrics.jsonl: line 1"), "{text}");

    let (code, text) = runs(home.path(), &["show", "runs/vae/a", "--html", "a.html"]);
    assert!(code == Some(0) && text.contains("-105.0000 →    -100.0000 at step 20"), "{text}");
    assert!(std::fs::read_to_string(home.path().join("a.html")).unwrap().contains("<svg"));

    let (code, text) = runs(home.path(), &["compare"]);
    assert!(code == Some(0) && text.contains("all (2 runs)"), "{text}");
    assert!(text.contains("-101.0000 ± 12.7060"), "{text}");
    let csv = std::fs::read_to_string(home.path().join("compare.csv")).unwrap();
    assert!(csv.starts_with("runs,bound.mean") && csv.contains("\n2,-101,1,12.706"), "{csv}");

    let (code, text) = runs(home.path(), &["watch", "runs/vae/a"]);
    assert!(code == Some(0) && text == "done step 20/20 valid: bound -100.000\n", "{text}");

    let (code, text) = runs(home.path(), &["show", "nowhere"]);
    assert!(code == Some(2) && text.contains("nowhere is no run directory"), "{text}");
    let (code, _) = runs(home.path(), &["show", "runs/vae/c"]);
    assert_eq!(code, Some(65));
}

/// The folder that a hub gives is the folder that was made for it.
#[test]
fn a_model_is_pulled_from_a_hub_as_it_was_exported() {
    use gumbel_hub::mock::{Fault, Mock};
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| format!("/me/model/resolve/main/{name}");
    let (model, config) = (path("model.safetensors"), path("config.toml"));
    let weights: Vec<u8> = (0..100_000_u32).map(|i| (i >> 7) as u8).collect();
    let files: [(&str, &[u8]); 2] = [(&model, &weights), (&config, b"seed = 1\n")];
    // The connection breaks in the middle of the parameters, after the list of files.
    let mock = Mock::new(&files, vec![Fault::Cut(usize::MAX >> 1), Fault::Cut(60_000)]);
    let pull = |offline: &str, args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_runs"))
            .args(args)
            .current_dir(home.path())
            .env("HOME", home.path())
            .env("HF_ENDPOINT", mock.url())
            .env("HF_HUB_OFFLINE", offline)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let (code, text) = pull("1", &["pull", "me/model", "m"]);
    assert!(code == Some(69) && text.contains("HF_HUB_OFFLINE"), "{text}");
    let (code, text) = pull("0", &["pull", "me/model", "m"]);
    assert!(code == Some(0) && text.contains("fetching model.safetensors"), "{text}");
    assert!(std::fs::read(home.path().join("m/model.safetensors")).unwrap() == weights);
    assert!(mock.requests().iter().any(|request| request.range.starts_with("bytes=")));
    let (code, text) = pull("0", &["pull", "me/model", "m"]);
    assert!(code == Some(2) && text.contains("there already"), "{text}");
    let (code, text) = pull("0", &["pull", "model", "n"]);
    assert!(code == Some(2) && text.contains("owner/name"), "{text}");
    let (code, text) = pull("0", &["push", "m", "me/other"]);
    let said = cfg!(feature = "hub") || text.contains("--features hub");
    assert!(code == Some(2) && said, "{text}");
}
