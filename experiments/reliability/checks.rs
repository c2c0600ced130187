//! Rows 13, 14, 16, 17 and 18: what the project's own tests and tools say.
use std::process::Command;

use anyhow::Result;

use crate::scorecard::Outcome;
use crate::world::{Ended, World};

/// The root of the workspace, where these checks are run.
const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn cargo(miri_flags: &str, arguments: &[&str]) -> Result<Ended> {
    let mut command = Command::new("cargo");
    // As its user would call it, whatever has started this program.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_")
            && name != "CARGO_HOME"
            && name != "CARGO_TARGET_DIR"
        {
            command.env_remove(name);
        }
    }
    command.env("MIRIFLAGS", miri_flags);
    Ok(command.args(arguments).current_dir(WORKSPACE).output()?.into())
}

/// How many tests passed and failed, all suites together.
fn tally(text: &str) -> (u64, u64) {
    let count = |line: &str, word: &str| -> u64 {
        let before = line.split(word).next().unwrap_or_default();
        before.split_whitespace().last().and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    let lines = text.lines().filter(|line| line.starts_with("test result: "));
    lines.fold((0, 0), |(passed, failed), line| {
        (passed + count(line, " passed"), failed + count(line, " failed"))
    })
}

fn tests(world: &World, arguments: &[&str], what: &str) -> Result<Outcome> {
    if world.quick {
        return Ok(Outcome::Left("these tests are part of `cargo test --workspace`".to_owned()));
    }
    // All packages, so that what `cargo test --workspace` has built is there.
    let ended = cargo("", &[&["test", "--workspace", "--locked"], arguments].concat())?;
    let (passed, failed) = tally(&ended.text);
    let none = passed == 0 || world.sabotage;
    let complaint = (ended.code != Some(0) || none).then(|| {
        let last = ended.text.lines().rev().find(|line| !line.is_empty()).unwrap_or_default();
        format!("{failed} failed: {last}")
    });
    let complaints: Vec<String> = complaint.into_iter().collect();
    Ok(Outcome::of(format!("{passed} tests of {what}"), &complaints))
}

/// A hub that answers wrongly.
pub(crate) fn network(world: &World) -> Result<Outcome> {
    tests(world, &["--lib", "--", "hub::", "download::"], "a hub with 13 faults")
}

/// Several who fetch the same file.
pub(crate) fn concurrent_downloads(world: &World) -> Result<Outcome> {
    tests(world, &["--lib", "--", "several_at_once"], "several processes that fetch one file")
}

/// Gradients against enumeration, samplers against their laws.
pub(crate) fn estimators(world: &World) -> Result<Outcome> {
    let which = ["golden", "gradients", "laws", "samplers", "stability"];
    let which: Vec<&str> = which.iter().flat_map(|name| ["--test", *name]).collect();
    tests(world, &which, "gradients, samplers and golden values")
}

/// The unsafe code of the kernels, interpreted.
pub(crate) fn unsafe_code(world: &World) -> Result<Outcome> {
    if world.quick {
        return Ok(Outcome::Left("`just miri` takes minutes".to_owned()));
    }
    let recipe = include_str!("../../justfile");
    let miri = recipe.lines().find_map(|line| line.trim().strip_prefix("MIRIFLAGS="));
    let Some((flags, command)) =
        miri.and_then(|line| line.trim_start_matches('"').split_once("\" cargo "))
    else {
        return Ok(Outcome::Missed("the recipe `miri` is not in the justfile".to_owned()));
    };
    if cargo("", &["+nightly", "miri", "--version"])?.code != Some(0) {
        return Ok(Outcome::Left("needs `rustup +nightly component add miri rust-src`".to_owned()));
    }
    let ended = cargo(flags, &command.split(' ').collect::<Vec<_>>())?;
    let (passed, failed) = tally(&ended.text);
    let undefined = ended.text.matches("Undefined Behavior").count();
    let bad = ended.code != Some(0) || passed == 0 || world.sabotage;
    let complaints: Vec<String> =
        bad.then(|| format!("{failed} failed, {undefined} undefined")).into_iter().collect();
    Ok(Outcome::of(
        format!("{passed} tests under Miri, {undefined} undefined behaviour"),
        &complaints,
    ))
}

/// Share of deliberate mistakes in readers and checkpoints that a test notices.
pub(crate) fn mutation_score(world: &World) -> Result<Outcome> {
    if world.quick {
        return Ok(Outcome::Left("`just mutants` takes hours".to_owned()));
    }
    let text = std::fs::read_to_string(format!("{WORKSPACE}/mutants.out/outcomes.json"));
    let Ok(text) = text else {
        return Ok(Outcome::Left("`just mutants` was not run here".to_owned()));
    };
    let outcomes: serde_json::Value = serde_json::from_str(&text)?;
    let count = |name: &str| outcomes[name].as_u64().unwrap_or(0);
    let (caught, missed) = (count("caught") + count("timeout"), count("missed"));
    let share = caught as f64 / (caught + missed).max(1) as f64;
    let low = share < 0.85 || world.sabotage;
    let complaints: Vec<String> =
        low.then(|| format!("{missed} were not noticed")).into_iter().collect();
    Ok(Outcome::of(
        format!("{:.1} % of {} mistakes noticed", 100. * share, caught + missed),
        &complaints,
    ))
}

#[cfg(test)]
mod tests_of_this {
    use super::*;

    #[test]
    fn results_of_all_suites_are_added_up() {
        let text = "running 3 tests\ntest result: ok. 3 passed; 0 failed; 1 ignored; 0 measured\n\
                    x\ntest result: FAILED. 12 passed; 2 failed; 0 ignored";
        assert_eq!(tally(text), (15, 2));
        assert_eq!(tally("error: could not compile"), (0, 0));
    }
}
