//! The `reproduce` program as its users run it, as far as that goes without data.
use std::path::Path;
use std::process::{Command, Output};

fn reproduce(home: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_reproduce"))
        .args(args)
        .current_dir(home)
        .env("HOME", home)
        .env_remove("XDG_CACHE_HOME")
        .env_remove("GUMBEL_DATA_DIR")
        .env("GUMBEL_OFFLINE", "1")
        .output()
        .unwrap()
}

#[test]
fn it_says_what_is_missing_and_writes_the_table() {
    let home = tempfile::tempdir().unwrap();
    let list = reproduce(home.path(), &[]);
    assert!(String::from_utf8(list.stdout).unwrap().contains("jang-sbn"));

    let args = ["jang-sbn", "--budget", "quick", "--only", "cal/ST", "--status"];
    let output = reproduce(home.path(), &args);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("categorical/ST Gumbel-Softmax seed 1: begins"), "{text}");
    assert!(text.contains("0 of 2 runs are done"), "{text}");
    let page = home.path().join("runs/reproduce/quick/jang-sbn.md");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(
        page.contains("nothing has run yet") && page.contains("59.70") && page.contains("not run"),
        "{page}"
    );
}

#[test]
fn every_cell_has_a_configuration_that_its_program_takes() {
    let home = tempfile::tempdir().unwrap();
    let list = reproduce(home.path(), &[]).stdout;
    let list = String::from_utf8(list).unwrap();
    let tables: Vec<&str> = list.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(tables.len() > 10 && tables.contains(&"jang-semi"), "{list}");
    for table in tables {
        for budget in ["quick", "full"] {
            let results = home.path().join("results");
            let results = results.to_str().unwrap();
            let args =
                [table, "--budget", budget, "--seeds", "1", "--status", "--results", results];
            let output = reproduce(home.path(), &args);
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains("0 of"), "{table}: {text}");
        }
    }
}

#[test]
fn what_cannot_run_ends_with_its_message() {
    let home = tempfile::tempdir().unwrap();
    let unknown = reproduce(home.path(), &["jang-sbm"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("jang-sbn"));

    let args = ["jang-sbn", "--budget", "quick", "--only", "categorical/DARN"];
    let output = reproduce(home.path(), &args);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(70), "{text}");
    assert!(text.contains("not on this machine"), "{text}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("DARN seed 1: FAILED with exit code 69"), "{said}");
}
