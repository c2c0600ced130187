//! The `semi` program as its users run it.
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SMALL: [&str; 6] = [
    "--set",
    "model={classes=10, style=4, channels=[4, 4, 8], hidden=16}",
    "--set",
    "train.evaluate_every=20",
    "--set",
    "train.checkpoint_every=20",
];

fn semi(out: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_semi")).args(args).arg("--out").arg(out).output().unwrap()
}

fn run_of(out: &Path) -> PathBuf {
    std::fs::read_dir(out.join("semi")).unwrap().next().unwrap().unwrap().path()
}

#[test]
fn drawn_and_summed_classes_leave_their_result_and_pictures() {
    for estimator in ["estimator.temperature=1.0", "estimator={method='enumerate'}"] {
        let out = tempfile::tempdir().unwrap();
        let args = [&SMALL[..], &["--steps", "20", "--set", estimator]].concat();
        let output = semi(out.path(), &args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("SYNTHETIC") && text.contains("test accuracy"), "{text}");
        let run = run_of(out.path());
        let summary = std::fs::read_to_string(run.join("summary.json")).unwrap();
        let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
        let accuracy = summary["accuracy"].as_f64().unwrap();
        assert!((0. ..=1.).contains(&accuracy) && summary["elbo"].as_f64().unwrap() < 0.);
        assert!(std::fs::read_dir(run.join("samples")).unwrap().count() > 0);
    }
}

#[test]
fn a_run_that_goes_on_is_the_run_that_was_never_stopped() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    semi(whole.path(), &[&SMALL[..], &["--steps", "40"]].concat());
    semi(parts.path(), &[&SMALL[..], &["--steps", "20"]].concat());
    let resumed = run_of(parts.path());
    let output = Command::new(env!("CARGO_BIN_EXE_semi"))
        .args(["--steps", "40", "--resume"])
        .arg(&resumed)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let summary = |run: &Path| std::fs::read_to_string(run.join("summary.json")).unwrap();
    assert_eq!(summary(&run_of(whole.path())), summary(&resumed));
}

#[test]
fn images_without_labels_and_too_many_labels_are_mistakes() {
    let out = tempfile::tempdir().unwrap();
    for (set, expected) in [("labels.per_class=100000", "class"), ("model.classes=3", "classes")] {
        let output = semi(out.path(), &["--set", set]);
        assert_eq!(output.status.code(), Some(2));
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(message.contains(expected), "{message}");
    }
}
