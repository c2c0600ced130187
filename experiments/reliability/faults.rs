//! Rows 3 and 4: an operating system that says no. A fault is that of the k-th call of each thread.
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::run::{copy, differences, look_at_checkpoints, science, tear_newest_checkpoint};
use crate::scorecard::Outcome;
use crate::world::{Ended, WATCHED, World};

/// What is made to fail, one call of one of them at a time.
const CALLS: [&str; 8] =
    ["openat", "write", "fsync", "mkdir", "rename", "unlinkat", "getdents64", "ftruncate"];
const ERRORS: [&str; 3] = ["EIO", "ENOSPC", "EINTR"];

/// A run of six steps, and what it is after nine.
struct Before {
    run: PathBuf,
    expected: std::collections::BTreeMap<String, String>,
}

/// Steps that are done before, and at the end.
const DONE: u64 = 6;
const STEPS: u64 = 9;

/// Lets every call fail once, in the part of a run that saves, logs, evaluates and reports.
pub(crate) fn injected_errors(world: &World) -> Result<Outcome> {
    let probe = ["-f", "--seccomp-bpf", "-o", "/dev/null", "true"];
    if !Command::new("strace").args(probe).output().is_ok_and(|tried| tried.status.success()) {
        return Ok(Outcome::Left("strace is not installed, or not allowed".to_owned()));
    }
    let run = world.train("vae", "before", &[&WATCHED[..], &["--steps", "6"]].concat())?;
    let straight = world.train("vae", "straight", &[&WATCHED[..], &["--steps", "9"]].concat())?;
    let before = Before { run, expected: science(&straight, STEPS)? };
    let (mut faults, mut refused, mut complaints) = (0, 0, Vec::new());
    for call in CALLS {
        for error in ERRORS.iter().take(world.pick(1, 3)) {
            for number in (1..).step_by(world.pick(15, 1)) {
                let fault = format!("{call}:error={error}:when={number}");
                let Some((code, wrong)) = one_fault(world, &before, call, &fault)? else { break };
                faults += 1;
                refused += usize::from(code != Some(0));
                complaints.extend(wrong.map(|wrong| format!("{fault}: {wrong}")));
            }
        }
    }
    let least = world.pick(12, 500);
    if faults < least {
        complaints.push(format!("only {faults} faults, {least} were wanted"));
    }
    let figure = format!(
        "{faults} faults, {refused} ended the program with a message, the rest did no harm; {} lost something",
        complaints.len()
    );
    Ok(Outcome::of(figure, &complaints))
}

/// A run that goes on under a fault, and again without: its first exit code, and what is wrong; nothing where the fault did not occur.
fn one_fault(
    world: &World,
    before: &Before,
    call: &str,
    fault: &str,
) -> Result<Option<(Option<i32>, Option<String>)>> {
    let run = world.folder("fault")?.join("run");
    copy(&before.run, &run)?;
    let trace = world.path("trace");
    let vae = world.file_of("vae")?;
    let (trace_text, run_text) = (trace.display().to_string(), run.display().to_string());
    let resume = ["--quiet", "--steps", "9", "--resume", &run_text];
    let strace = ["-f", "--seccomp-bpf", "-qq", "-o", &trace_text, "-e", &format!("trace={call}")];
    let inject = ["-e", &format!("inject={fault}"), &vae.display().to_string()];
    let options = [&strace[..], &inject, &resume].concat();
    let ended: Ended = world.shielded(Command::new("strace"), &options).output()?.into();
    let text = std::fs::read_to_string(&trace).context("reading what strace wrote")?;
    if !text.contains("(INJECTED)") {
        return Ok(None);
    }
    if world.sabotage {
        tear_newest_checkpoint(&run)?;
    }
    let wrong = after_fault(world, before, (&run, call), &ended, &resume)?;
    Ok(Some((ended.code, wrong)))
}

fn after_fault(
    world: &World,
    before: &Before,
    (run, call): (&Path, &str),
    ended: &Ended,
    resume: &[&str],
) -> Result<Option<String>> {
    let said_nothing = call == "write" && ended.text.is_empty() && ended.code == Some(74);
    let (newest, torn) = look_at_checkpoints(run);
    if let Some(torn) = torn.into_iter().next() {
        return Ok(Some(torn));
    }
    if newest < Some(DONE) {
        return Ok(Some(format!("the newest checkpoint is {newest:?}")));
    }
    if ended.text.contains("panicked") {
        return Ok(Some(format!("panicked: {}", ended.text)));
    }
    // The message may be what could not be written; and the loader of the system has its own words for what happens to it.
    let silent = !ended.text.contains("error") && !ended.text.contains("cannot");
    if ended.code != Some(0) && silent && !said_nothing {
        return Ok(Some(format!("{:?} without a word: {}", ended.code, ended.text)));
    }
    let again = world.run("vae", resume)?;
    if again.code != Some(0) {
        return Ok(Some(format!("does not go on: {}", again.text)));
    }
    let different = differences(&science(run, STEPS)?, &before.expected);
    Ok((!different.is_empty()).then(|| format!("ends otherwise: {different:?}")))
}

/// What is done in a small file system of its own: fill it, free some of it, go on. The exit codes come out.
const FULL: &str = r#"
mount -t tmpfs -o size=16m none "$1" || exit 99
"$2" --config vae.toml --quiet --out "$1" --checkpoint-every 3 --set train.keep=1000000 --steps 1000000 2> full.txt
echo "full $?"
run=$(echo "$1"/vae/*)
ls "$run"/checkpoints | sed s/step-// | sort -n | tail -1
rm -r "$run"/checkpoints/step-3 "$run"/checkpoints/step-6 "$run"/checkpoints/step-9
last=$(ls "$run"/checkpoints | sed s/step-// | sort -n | tail -1)
[ -z "$3" ] || for checkpoint in "$run"/checkpoints/step-*; do : > "$checkpoint/model.safetensors"; done
"$2" --resume "$run" --quiet --steps $((last + 6)) --set train.keep=1 > again.txt 2>&1
echo "again $?"
cat "$run"/STATUS
ls -A "$run"/checkpoints
"#;

/// Trains until a file system of 16 MiB is full, and goes on after some of it was freed.
pub(crate) fn full_disk(world: &World) -> Result<Outcome> {
    let place = world.folder("full")?;
    let vae = world.file_of("vae")?.display().to_string();
    let place = place.display().to_string();
    let sabotage = if world.sabotage { "torn" } else { "" };
    let script = ["sh", "-c", FULL, "sh", &place, &vae, sabotage];
    let as_root = ["--mount"];
    let as_user = ["--user", "--map-root-user", "--mount"];
    let mut outcomes = [&as_root[..], &as_user].into_iter().map(|how| -> Result<Ended> {
        let options = [how, &script].concat();
        Ok(world.shielded(Command::new("unshare"), &options).output()?.into())
    });
    let allowed = |ended: &Result<Ended>| {
        ended.as_ref().is_ok_and(|ended| ended.text.contains("full ") && ended.code != Some(99))
    };
    let Some(ended) = outcomes.find(allowed) else {
        return Ok(Outcome::Left(
            "this system does not let a small file system be made".to_owned(),
        ));
    };
    let text = ended?.text;
    let message = std::fs::read_to_string(world.path("full.txt"))?;
    let again = std::fs::read_to_string(world.path("again.txt"))?;
    ensure!(text.contains("again "), "the script did not come to its end: {text}");
    let complaints: Vec<String> = [
        (!text.contains("full 74\n")).then(|| format!("the exit code is not 74: {text}")),
        (!message.contains(&place)).then(|| format!("no path in: {message}")),
        (!message.contains("MiB free")).then(|| format!("not how much is free in: {message}")),
        (!text.contains("again 0\ndone\n")).then(|| format!("does not go on: {again}")),
        text.contains("tmp-").then(|| format!("something was left over: {text}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    let said = message.lines().find(|line| line.contains("free")).unwrap_or_default();
    let said = said.replace(&place, "…");
    Ok(Outcome::of(format!("exit 74, \"{said}\", then goes on to its end"), &complaints))
}
