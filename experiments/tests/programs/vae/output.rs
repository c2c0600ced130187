//! What a run leaves behind, and what it prints.
use std::fs;

use serde_json::Value;

use super::support::{World, names, read};

/// The keys of one line of JSON without nesting, in their order.
fn keys(line: &str) -> Vec<&str> {
    let parts: Vec<&str> = line.split('"').collect();
    let key = |pair: &[&'_ str]| pair[1].starts_with(':');
    parts.windows(2).filter(|pair| key(pair)).map(|pair| pair[0]).collect()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// Height and width of a PNG, of which signature, header and end are checked.
fn png_size(bytes: &[u8]) -> [u32; 2] {
    assert_eq!(bytes[..8], *b"\x89PNG\r\n\x1a\n");
    assert_eq!(bytes[12..16], *b"IHDR");
    assert_eq!(bytes[bytes.len() - 8..bytes.len() - 4], *b"IEND");
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    [number(20), number(16)]
}

#[test]
fn a_run_directory_has_every_file_and_each_says_what_it_should() {
    let world = World::new();
    let run = world.train("runs", &["--seed", "5", "--name", "tau 1"]);
    let name = run.file_name().unwrap().to_str().unwrap();
    assert!(name.contains("-tau 1-s5-"), "{name}");
    assert_eq!(
        names(&run),
        [
            "LOCK",
            "STATUS",
            "checkpoints",
            "citations.bib",
            "config.toml",
            "course.svg",
            "env.json",
            "log.txt",
            "metrics.jsonl",
            "report.html",
            "samples",
            "summary.json",
            "tb",
            "timing.jsonl"
        ]
    );
    assert_eq!(read(&run, "STATUS"), "done\n");
    assert_eq!(names(&run.join("checkpoints")), ["step-16", "step-20"]);

    let config = run.join("config.toml");
    let printed = world.run(&["--print-config", "--config", config.to_str().unwrap()]);
    assert_eq!(printed.stdout, read(&run, "config.toml"));
    assert!(read(&run, "citations.bib").contains("Jang, Eric"));
    assert!(read(&run, "log.txt").contains("checkpoint of step 16"));

    let environment = json(&read(&run, "env.json"));
    assert_eq!(environment["seed"], 5);
    assert!(environment["argv"].as_array().unwrap().iter().any(|arg| arg == "tiny.toml"));
    for split in ["train", "valid", "test"] {
        let identity = environment["identity"][format!("data.{split}")].as_str().unwrap();
        let start = format!("strokes/{split} rows=");
        assert!(identity.starts_with(&start) && identity.contains("sha256="), "{identity}");
    }
}

#[test]
fn metrics_are_lines_of_json_without_time_and_marked_as_synthetic() {
    let world = World::new();
    let run = world.train("runs", &[]);
    let metrics = read(&run, "metrics.jsonl");
    let mut heads = Vec::new();
    for line in metrics.lines() {
        let value = json(line);
        let split = value["split"].as_str().unwrap();
        heads.push(format!("{} {split}", value["step"]));
        let expected: &[&str] = match split {
            "train" => &[
                "step",
                "split",
                "synthetic_objective_no_bound",
                "synthetic_log_likelihood",
                "temperature",
            ],
            _ => &[
                "step",
                "split",
                "synthetic_bound",
                "synthetic_bound_standard_error",
                "samples",
                "synthetic_elbo",
                "synthetic_objective_no_bound",
                "synthetic_kl",
                "code_perplexity",
                "active_variables",
            ],
        };
        assert_eq!(keys(line), expected, "{line}");
        let numbers = value.as_object().unwrap().iter().filter(|(key, _)| *key != "split");
        for (key, number) in numbers {
            assert!(number.as_f64().is_some_and(f64::is_finite), "{key} in {line}");
        }
    }
    assert_eq!(
        heads,
        ["5 train", "10 train", "10 valid", "15 train", "20 train", "20 valid", "20 test"]
    );
    let timing = read(&run, "timing.jsonl");
    assert_eq!(timing.lines().count(), 4);
    assert!(timing.lines().all(|line| json(line)["seconds"].as_f64().unwrap() > 0.));
}

#[test]
fn sample_grids_are_pictures_of_the_same_size() {
    let world = World::new();
    let run = world.train("runs", &["--steps", "10"]);
    let samples = run.join("samples");
    // Eight rows of twelve images, and a row for each of four latents with its four values.
    let kinds = [("prior", [8, 12]), ("reconstructions", [8, 12]), ("traversals", [4, 4])];
    assert_eq!(names(&samples), kinds.map(|(kind, _)| format!("step-000000010-{kind}.png")));
    for (kind, size) in kinds {
        let path = samples.join(format!("step-000000010-{kind}.png"));
        // Images of 28 by 28 with a pixel around each, everything doubled.
        let size = size.map(|images| 2 * (images * 29 + 1));
        assert_eq!(png_size(&fs::read(path).unwrap()), size, "{kind}");
    }
}

#[test]
fn the_last_lines_are_the_result_and_where_it_is() {
    let world = World::new();
    let ended = world.run(&["--config", "tiny.toml", "--steps", "6"]);
    ended.says(0, &["SYNTHETIC", "step 6/6", "device: cpu"]);
    // Off a terminal there are lines, no bar and no colours.
    assert!(!ended.stderr.contains('\u{1b}') && !ended.stderr.contains('\r'), "{}", ended.stderr);

    let run = world.only_run("runs").unwrap();
    let summary = json(&read(&run, "summary.json"));
    assert_eq!((&summary["steps"], &summary["samples"]), (&6.into(), &5.into()));
    assert_eq!((&summary["dataset"], &summary["synthetic"]), (&"strokes".into(), &true.into()));
    let bound = summary["bound"].as_f64().unwrap();
    let lines: Vec<&str> = ended.stdout.lines().collect();
    let [result, place] = lines[..] else { panic!("{}", ended.stdout) };
    let start = format!("SYNTHETIC strokes: discrete test bound {bound:.2} ±");
    assert!(result.starts_with(&start) && result.contains("(K = 5)"), "{result}");
    let name = run.file_name().unwrap().to_str().unwrap();
    assert!(place.contains(name) && place.contains("summary.json"), "{place}");
}

#[test]
fn a_quiet_run_says_only_that_the_data_are_synthetic_and_the_result() {
    let world = World::new();
    let ended = world.run(&["--config", "tiny.toml", "--steps", "2", "--quiet"]);
    assert_eq!(ended.code, Some(0));
    assert!(ended.stderr.lines().all(|line| line.starts_with("warning: SYNTHETIC")));
    assert_eq!(ended.stdout.lines().count(), 2, "{}", ended.stdout);
}

/// Ten images of a user's own: of one, and of no whole row of the usual pictures.
#[test]
fn a_few_images_of_ones_own_are_enough() {
    let world = World::new();
    let line = |i: usize| format!("{{\"pixels\": [[0, {}], [255, 0]]}}\n", 25 * i);
    let lines: String = (0..10).map(line).collect();
    std::fs::write(world.path("own.jsonl"), lines).unwrap();
    let path = world.path("own.jsonl");
    let batch = "batch_size=5";
    let run = world.train("own", &["--images", path.to_str().unwrap(), "--set", batch]);
    let environment = json(&read(&run, "env.json"));
    let train = environment["identity"]["data.train"].as_str().unwrap();
    assert!(train.starts_with("own/train rows=8 size=2x2 sha256="), "{train}");
    let summary = json(&read(&run, "summary.json"));
    assert_eq!((&summary["dataset"], &summary["synthetic"]), (&"own".into(), &false.into()));
    assert!(read(&run, "report.html").contains("How often each code is used"));
}
