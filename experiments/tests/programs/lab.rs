//! The laboratory as a user runs it.
use std::process::Command;

#[test]
fn the_tables_are_written_and_no_claim_is_refuted() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["--replicates", "2000", "--only", "One variable of 2"])
        .arg("--output")
        .arg(directory.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let table = std::fs::read_to_string(directory.path().join("estimators.md")).unwrap();
    assert_eq!(table, String::from_utf8(output.stdout).unwrap());
    for name in ["REBAR", "ReinMax", "DisARM", "Gumbel-Softmax", "temperatures"] {
        assert!(table.contains(name), "{name} is missing");
    }
    assert!(!table.contains("refuted") && !table.contains("refused"), "{table}");
    let csv = std::fs::read_to_string(directory.path().join("estimators.csv")).unwrap();
    let columns = |line: &str| line.split("\",").count();
    let mut lines = csv.lines();
    assert!(lines.next().unwrap().starts_with("problem,estimator"));
    assert!(csv.lines().count() > 40 && lines.all(|line| columns(line) == 4), "{csv}");
}
