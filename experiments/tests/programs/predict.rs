//! The `predict` program as its users run it.
use std::process::Command;

#[test]
fn a_run_leaves_its_result_and_pictures() {
    let out = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_predict"))
        .args(["--set", "model.latents=8", "--set", "model.layers=3", "--steps", "30"])
        .args(["--eval-samples", "5", "--set", "evaluation.train_samples=1", "--out"])
        .arg(out.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("SYNTHETIC") && text.contains("discrete test bound"), "{text}");
    let run =
        std::fs::read_dir(out.path().join("predict")).unwrap().next().unwrap().unwrap().path();
    let summary = std::fs::read_to_string(run.join("summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    let number = |key: &str| summary[key].as_f64().unwrap();
    // More samples give a better bound of the same model.
    assert!(number("elbo") < number("bound") && number("bound") < 0., "{summary}");
    assert!(summary["train"]["bound"].as_f64().unwrap() < 0., "{summary}");
    let pictures = std::fs::read_dir(run.join("samples")).unwrap().count();
    assert!(pictures > 0 && run.join("citations.bib").is_file());
}

#[test]
fn a_mistake_is_exit_code_2() {
    let output = Command::new(env!("CARGO_BIN_EXE_predict"))
        .args(["--set", "model.layer=3"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("layers"));
}
