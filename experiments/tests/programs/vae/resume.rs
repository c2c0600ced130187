//! The same bytes, run again, resumed, or taken up from an export; killed and interrupted runs are in reliability.rs.
use std::path::Path;
use std::process::Command;

use super::support::{World, names, read, science};

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
