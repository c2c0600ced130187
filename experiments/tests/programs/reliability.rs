//! The scorecard in small: every row that can be measured in seconds, and the proof that it can fail.
use std::process::{Command, Output};

fn reliability(args: &[&str]) -> (Output, String) {
    // The programs that it runs are built beside it.
    for program in [env!("CARGO_BIN_EXE_vae"), env!("CARGO_BIN_EXE_lm")] {
        assert!(std::path::Path::new(program).is_file());
    }
    let output = Command::new(env!("CARGO_BIN_EXE_reliability")).args(args).output().unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (output, text)
}

#[test]
fn every_figure_of_the_quick_scorecard_is_reached() {
    let place = tempfile::tempdir().unwrap();
    let page = place.path().join("page.md");
    let (output, text) = reliability(&["--quick", "--page", page.to_str().unwrap()]);
    assert!(output.status.success(), "{text}");
    // Those that are left out are tests of their own, or need a tool.
    assert!(text.matches(" pass ").count() >= 11, "{text}");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("| 1 | atomic checkpoints |") && page.contains("--quick"), "{page}");
}

/// Rows that are quick; those that take long are sabotaged by hand, see docs/reliability.md.
#[test]
fn a_row_fails_where_what_it_looks_at_is_damaged() {
    for row in ["hostile input", "sizes before", "no way out", "wrong config", "determinism"] {
        let (output, text) = reliability(&["--quick", "--sabotage", "--only", row]);
        assert_eq!(output.status.code(), Some(70), "{text}");
        assert!(text.contains(" FAIL "), "{text}");
    }
    let (output, text) = reliability(&["--only", "perpetual motion"]);
    assert_eq!(output.status.code(), Some(2), "{text}");
}
