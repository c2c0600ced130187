//! Options, mistakes, and the exit codes that tell them apart.
use std::fs;

use super::support::{World, names, read};

/// The files of the set `mnist`.
const MNIST: [&str; 4] = [
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
];

#[test]
fn help_has_groups_defaults_examples_and_exit_codes() {
    let help = World::new().run(&["--help"]);
    assert_eq!(help.code, Some(0));
    let lines: Vec<&str> = help.stdout.lines().collect();
    for heading in ["Configuration:", "Run:", "Machine:", "Messages:", "Data:", "Examples:"] {
        assert!(lines.contains(&heading), "no line {heading}");
    }
    // Lines are broken where the terminal ends.
    let flat = help.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "--set <KEY=VALUE>",
        "--steps <N> Same as --set train.steps=N [default: train.steps of the configuration]",
        "[default: runs]",
        "[default: one per core]",
        "strokes, mnist, fashion-mnist, binarized-mnist, omniglot",
        "GUMBEL_DATA_DIR",
        "Exit codes: 0 done, 2 wrong option",
    ] {
        assert!(flat.contains(part), "{part} is not in:\n{}", help.stdout);
    }
    assert!(lines.iter().all(|line| line.chars().count() <= 100));
}

#[test]
fn the_printed_configuration_is_a_configuration_and_prints_itself() {
    let world = World::new();
    let changes = ["--print-config", "--seed", "7", "--set", "model.latents=3", "--steps", "9"];
    let first = world.run(&changes);
    first.says(0, &[]);
    for line in ["seed = 7", "latents = 3", "steps = 9"] {
        assert!(first.stdout.lines().any(|l| l == line), "no {line} in:\n{}", first.stdout);
    }
    fs::write(world.path("printed.toml"), &first.stdout).unwrap();
    let second = world.run(&["--config", "printed.toml", "--print-config"]);
    assert_eq!(second.stdout, first.stdout);
    assert!(!world.path("runs").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn a_reader_that_goes_away_is_no_error_and_a_full_disk_is_one() {
    use std::process::Stdio;

    let world = World::new();
    let mut command = world.vae(&["--print-config"]);
    // The child writes after the only reader of the pipe is gone.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command.stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));

    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = command.stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(74));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.starts_with("error: cannot write to standard output"), "{message}");
}

#[test]
fn mistakes_exit_with_2_a_suggestion_and_nothing_begun() {
    let world = World::new();
    fs::write(world.path("typo.toml"), "sed = 1\n").unwrap();
    for (options, words) in [
        (&["--set", "model.latent=3"][..], &["model.latent", "did you mean `model.latents`"][..]),
        (&["--set", "temperature=3"], &["unknown key `temperature`", "estimator.temperature"]),
        (&["--set", "model.latents=many"], &["model.latents", "many"]),
        (&["--set", "estimator.method=gumbel-sofmax"], &["did you mean `gumbel-softmax`"]),
        (&["--set", "batch_size=0"], &["batch_size is 0", "at least 1"]),
        (&["--set", "seed"], &["KEY=VALUE"]),
        (&["--set", "model.latents=0"], &["latents", "use 1 to"]),
        (&["--set", "model.latents=1000000000000"], &["latents", "1048576"]),
        (&["--set", "estimator.samples=0"], &["samples is 0", "at least 1"]),
        (
            &["--set", "estimator.temperature={kind=\"constant\",value=-1.0}"],
            &["temperature", "-1"],
        ),
        (&["--set", "train.keep=0"], &["train.keep is 0"]),
        (&["--set", "train.optimizer.beta1=1.0"], &["train.optimizer: beta1", "got 1"]),
        (&["--init", "nowhere"], &["nowhere is no exported model"]),
        (&["--dataset", "mnits"], &["mnits", "mnist"]),
        (&["--sede", "3"], &["--sede", "--seed"]),
        (&["--threads", "0"], &["--threads"]),
        (&["--device", "gpu"], &["gpu", "auto, cpu"]),
        #[cfg(not(feature = "metal"))]
        (&["--device", "metal"], &["no Metal", "--features metal"]),
        (&["--config", "typo.toml"], &["typo.toml", "sed"]),
        (&["--resume", "nowhere"], &["nowhere", "no run directory"]),
    ] {
        let ended = world.run(options);
        ended.says(2, words);
        assert!(ended.stdout.is_empty(), "{}", ended.stdout);
        assert!(!world.path("runs").exists(), "{options:?} began a run");
    }
}

#[test]
fn a_set_that_is_not_there_exits_with_69_and_says_what_to_do() {
    let world = World::new();
    let ended = world.run(&["--dataset", "mnist"]);
    let places = ["sets/mnist", "data/mnist", "cache/gumbel/datasets/mnist"];
    ended.says(69, &places);
    ended.says(69, &MNIST);
    ended.says(
        69,
        &[
            "9912422 bytes",
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "--data-dir",
            "--dataset strokes",
        ],
    );
    assert!(!world.path("runs").exists());
}

#[test]
fn a_file_cut_short_exits_with_65_and_is_named() {
    let world = World::new();
    let folder = world.path("sets").join("mnist");
    fs::create_dir_all(&folder).unwrap();
    for name in MNIST {
        fs::write(folder.join(name), [0x1f, 0x8b, 8, 0, 0, 0]).unwrap();
    }
    let ended = world.run(&["--dataset", "mnist"]);
    ended.says(65, &[folder.join(MNIST[0]).to_str().unwrap(), "found 6 bytes", "9912422 bytes"]);
    assert!(!world.path("runs").exists());
}

#[test]
fn a_place_that_cannot_be_written_exits_with_74_and_is_named() {
    let world = World::new();
    fs::write(world.path("file"), "").unwrap();
    let ended = world.run(&["--config", "tiny.toml", "--out", "file/runs"]);
    ended.says(74, &["cannot create", "file/runs"]);
}

#[test]
fn a_resumed_run_refuses_another_model_and_fewer_steps_and_stays_done() {
    let world = World::new();
    let run = world.train("runs", &["--steps", "3"]);
    let before = read(&run, "config.toml");
    let resume = ["--resume", run.to_str().unwrap(), "--steps", "4"];
    let changes = ["--set", "model.latents=5", "--seed", "2"];
    let ended = world.run(&[&resume[..], &changes].concat());
    ended.says(2, &["model.latents: 4 -> 5", "seed: 1 -> 2", "free to change are train.steps"]);
    assert_eq!(read(&run, "config.toml"), before);
    let shorter = world.run(&["--resume", run.to_str().unwrap(), "--steps", "2"]);
    shorter.says(2, &["3 steps", "larger --steps"]);
    assert_eq!(read(&run, "STATUS"), "done\n");
}

#[test]
fn a_run_that_diverges_exits_with_77_and_keeps_the_last_good_checkpoint() {
    let world = World::new();
    // 1e-3 for one step, then more than single precision has.
    let rate = "learning_rate={kind=\"linear\",start=1e-3,end=1e39,steps=1}";
    let options = ["--config", "tiny.toml", "--set", rate, "--checkpoint-every", "1"];
    let ended = world.run(&options);
    ended.says(77, &["not finite at step 2", "lower the learning rate"]);
    assert!(ended.stdout.is_empty(), "{}", ended.stdout);

    let run = world.only_run("runs").unwrap();
    let status = read(&run, "STATUS");
    assert!(status.starts_with("failed: ") && status.contains("not finite"), "{status}");
    let good = names(&run.join("checkpoints"));
    assert_eq!(good, ["step-1"]);
    assert!(!run.join("summary.json").exists());
    // It can be read, and the run ends well where it was still good.
    let ended = world.resume(&run, &["--steps", "1"]);
    assert!(ended.stdout.contains("discrete test bound"), "{}", ended.stdout);
    assert_eq!(read(&run, "STATUS"), "done\n");
}
