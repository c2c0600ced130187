//! The same bytes, whatever happens to the process on the way.
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gumbel_kernels::Key;

use crate::support::{World, names, read, science};

const LEAVE_ONE_OUT: &[&str] = &["--set", "estimator={method=\"leave-one-out\",samples=2}"];
const NVIL: &[&str] = &["--set", "estimator={method=\"nvil\",hidden=5}"];
const RELAX: &[&str] = &["--set", "estimator={method=\"relax\",hidden=5}"];

/// Every step of these runs shows in `metrics.jsonl`, and takes some milliseconds, so that a signal hits
/// the step that it is meant for.
const WATCHED: &[&str] = &[
    "--config",
    "tiny.toml",
    "--quiet",
    "--set",
    "batch_size=200",
    "--set",
    "train.log_every=1",
    "--set",
    "train.evaluate_every=20",
    "--checkpoint-every",
    "3",
];

fn spawn(world: &World, options: &[&str]) -> Child {
    let mut command = world.vae(options);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// The last step that a run has written down.
fn last_step(run: &Path) -> u64 {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    let complete = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
    let line = complete.lines().last().and_then(|line| line.strip_prefix("{\"step\":"));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
}

/// Looks every millisecond until it is so, or the process has ended.
fn wait_until(child: &mut Child, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() && child.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < Duration::from_secs(120), "nothing happens");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Kills the process, unless it has ended by itself.
fn kill(mut child: Child) -> usize {
    let alive = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    usize::from(alive)
}

/// Starts a run and waits until it has done some steps.
fn begin(world: &World, out: &str, options: &[&str], steps: u64) -> (Child, PathBuf) {
    let mut child = spawn(world, &[WATCHED, options, &["--out", out]].concat());
    wait_until(&mut child, || world.only_run(out).is_some_and(|run| last_step(&run) >= steps));
    (child, world.only_run(out).unwrap())
}

fn terminate(mut child: Child) -> Option<i32> {
    let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
    child.wait().unwrap().code()
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let world = World::new();
    let first = science(&world.train("a", &[]), 20);
    assert_eq!(first, science(&world.train("b", &["--name", "other"]), 20));
    let other = science(&world.train("c", &["--seed", "2"]), 20);
    for file in ["metrics.jsonl", "checkpoints/step-20/model.safetensors"] {
        assert_ne!(first[file], other[file]);
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let world = World::new();
    // Matrix products below 40 million multiply-adds stay on one thread; 500 x 128 x 784 are 50 million,
    // in training and, as 100 images of 5 samples each, in the evaluation on the test set.
    let large = ["--set", "model.decoder=[128]", "--set", "batch_size=500", "--steps", "4"];
    let train = |threads: &str| {
        science(&world.train(threads, &[&large[..], &["--threads", threads]].concat()), 4)
    };
    let one = train("1");
    assert_eq!(one, train("2"));
    assert_eq!(one, train("3"));
}

/// Kills a run at the start, at moments spread over its steps, in evaluations and at the end.
fn kill_again_and_again(estimator: &[&str], seed: u64) {
    const STEPS: u64 = 60;
    let world = World::new();
    let options = [estimator, &["--steps", "60"]].concat();
    world.train("straight", &[&WATCHED[2..], &options].concat());
    let expected = science(&world.only_run("straight").unwrap(), STEPS);

    // The first moment at which there is something to resume.
    let mut child = spawn(&world, &[WATCHED, &options, &["--out", "killed"]].concat());
    let config = |run: PathBuf| run.join("config.toml").exists();
    wait_until(&mut child, || world.only_run("killed").is_some_and(config));
    let mut kills = kill(child);
    let run = world.only_run("killed").unwrap();
    let resume = ["--quiet", "--resume", run.to_str().unwrap()];
    kills += kill(spawn(&world, &resume));

    for (index, step) in [1, 7, 14, 20, 27, 33, 40, 46, 53, STEPS].into_iter().enumerate() {
        let mut child = spawn(&world, &resume);
        wait_until(&mut child, || last_step(&run) >= step);
        // Between two steps is a checkpoint, or an evaluation, which takes longer.
        let longest = if step % 20 == 0 { 100_000. } else { 8_000. };
        let pause = longest * Key::from_seed(seed).uniform_at(index as u64);
        std::thread::sleep(Duration::from_micros(pause as u64));
        kills += kill(child);
    }
    assert!(kills >= 8, "{kills} kills are few: make the run longer");
    world.resume(&run, &[]);
    assert_eq!(science(&run, STEPS), expected);
    assert_eq!(read(&run, "STATUS"), "done\n");
    let mut kept = names(&run.join("checkpoints"));
    kept.retain(|name| !["step-57", "step-60"].contains(&name.as_str()));
    assert!(kept.is_empty(), "left over: {kept:?}");
}

#[test]
fn killed_gumbel_softmax_runs_end_with_the_bytes_of_one_that_was_left_alone() {
    kill_again_and_again(&[], 1);
}

#[test]
fn killed_runs_with_learned_baselines_end_with_the_bytes_of_one_that_was_left_alone() {
    kill_again_and_again(NVIL, 2);
}

#[test]
fn killed_runs_with_learned_control_variates_end_with_the_bytes_of_one_that_was_left_alone() {
    kill_again_and_again(RELAX, 4);
}

#[test]
fn killed_leave_one_out_runs_end_with_the_bytes_of_one_that_was_left_alone() {
    kill_again_and_again(LEAVE_ONE_OUT, 3);
}

#[test]
fn sigterm_ends_a_run_with_75_and_it_goes_on_as_if_nothing_had_happened() {
    let world = World::new();
    // Without end, so that the signal comes in time however slow this test is.
    let (child, run) = begin(&world, "stopped", &["--steps", "1000000"], 10);
    assert_eq!(terminate(child), Some(75));
    let status = read(&run, "STATUS");
    let step = status.strip_prefix("interrupted: SIGTERM at step ").unwrap().trim_end();
    assert!(names(&run.join("checkpoints")).contains(&format!("step-{step}")), "{status}");
    assert!(!run.join("summary.json").exists());

    let last = step.parse::<u64>().unwrap() + 30;
    let steps = last.to_string();
    world.resume(&run, &["--quiet", "--steps", &steps]);
    assert_eq!(read(&run, "STATUS"), "done\n");
    let straight = world.train("straight", &[&WATCHED[2..], &["--steps", &steps]].concat());
    assert_eq!(science(&run, last), science(&straight, last));
}

#[test]
fn a_second_process_on_a_run_gets_75_and_does_not_disturb_the_first() {
    let world = World::new();
    let (child, run) = begin(&world, "runs", &["--steps", "1000000"], 2);
    let second = world.run(&["--resume", run.to_str().unwrap()]);
    second.says(75, &["in use", &format!("process {}", child.id())]);
    let before = last_step(&run);
    assert_eq!(read(&run, "STATUS"), "running\n");
    assert_eq!(terminate(child), Some(75));
    assert!(last_step(&run) >= before);
}

#[test]
fn a_finished_run_has_nothing_left_to_do() {
    let world = World::new();
    let run = world.train("runs", &[]);
    let before = science(&run, 20);
    let ended = world.resume(&run, &[]);
    assert!(ended.stdout.starts_with("nothing was left to do"), "{}", ended.stdout);
    assert!(ended.stdout.contains(run.to_str().unwrap()), "{}", ended.stdout);
    assert_eq!(science(&run, 20), before);
    assert_eq!(read(&run, "STATUS"), "done\n");
}

#[test]
fn more_steps_make_a_finished_run_into_the_longer_one() {
    let world = World::new();
    let short = world.train("short", &[]);
    world.resume(&short, &["--steps", "30"]);
    let long = world.train("long", &["--steps", "30"]);

    // The result of the shorter run is forgotten, too: step 20 is no longer the last one.
    assert_eq!(science(&short, 30), science(&long, 30));
    assert_eq!(read(&short, "config.toml"), read(&long, "config.toml"));
}

/// A model that is given away and taken up again has the same bound, to the bit; and trains from there.
#[test]
fn an_exported_model_evaluates_to_the_same_numbers() {
    let world = World::new();
    let first = world.train("first", &[]);
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runs"));
        command.args(args).current_dir(world.path(".")).output().unwrap()
    };
    let (from, to) = (first.display().to_string(), world.path("model").display().to_string());
    assert!(run(&["export", &from, &to]).status.success());
    assert_eq!(run(&["export", &from, &to]).status.code(), Some(2), "never overwritten");
    assert_eq!(
        names(&world.path("model")),
        [
            "README.md",
            "citations.bib",
            "config.json",
            "config.toml",
            "model.safetensors",
            "summary.json"
        ]
    );
    let config = world.path("model/config.toml").display().to_string();
    let again = |out: &str, more: &[&str]| {
        let options =
            [&["--config", &config, "--init", &to, "--quiet", "--out", out], more].concat();
        let ended = world.run(&options);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        world.only_run(out).unwrap()
    };
    let same = again("same", &["--steps", "0"]);
    // The objective is that of a temperature, which has its schedule by steps.
    let test = |run: &Path| {
        let text = read(run, "metrics.jsonl");
        let line = text.lines().find(|line| line.contains("\"split\":\"test\"")).unwrap();
        let parts = line.split(',').skip(1).filter(|part| !part.contains("objective"));
        parts.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(test(&same), test(&first));
    assert_ne!(test(&again("more", &[])), test(&first));
    let ended = world.run(&["--config", &config, "--init", "nowhere"]);
    ended.says(2, &["nowhere is no exported model"]);
}
