//! The `lm` program as its users run it.
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const TINY: [&str; 2] = ["--config", "tiny"];
/// Of `slots`, as small.
const SLOTS: [&str; 10] = [
    "--corpus",
    "slots",
    "--set",
    "decoder.window=2",
    "--set",
    "latents={kind='codes', variables=8, categories=8, encoder_layers=1, prior_layers=1, scale=1.0}",
    "--set",
    "maximise='sampled-bound'",
    "--set",
    "objective={bound='guarded-elbo', batch_prior={kind='linear', start=1.0, end=0.0, steps=20}}",
];

fn lm(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lm")).args(args).output().unwrap()
}

/// A run below `out`: its directory, and what it printed.
fn trained(out: &Path, steps: &str, more: &[&str]) -> (PathBuf, String) {
    let args = ["--steps", steps, "--out", out.to_str().unwrap()];
    let output = lm(&[&TINY[..], &args, more].concat());
    if !output.status.success() {
        panic!("{more:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let run = std::fs::read_dir(out.join("lm")).unwrap().next().unwrap().unwrap().path();
    (run, String::from_utf8(output.stdout).unwrap())
}

fn summary(run: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(run.join("summary.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn every_kind_of_latents_is_trained_and_judged_on_every_language() {
    let states = "latents={kind='states', states=3, segment=4, encoder_layers=1}";
    let exact = "latents={kind='states', states=3, emission='readout', encoder_layers=0}";
    let codes =
        "latents={kind='codes', variables=2, categories=3, encoder_layers=1, prior_layers=1}";
    let segments = "latents={kind='codes', variables=1, categories=3, segment=12, encoder_layers=1, prior_layers=1}";
    let many =
        "latents={kind='codes', variables=8, categories=4, encoder_layers=1, prior_layers=1}";
    for (corpus, latents, maximise, codes_known) in [
        ("mixture", "latents={kind='none'}", "log-likelihood", false),
        ("switching", exact, "log-likelihood", true),
        ("grammar", states, "mean-field-bound", false),
        ("slots", codes, "sampled-bound", true),
        ("slots", many, "sampled-bound", true),
        ("grammar", segments, "sampled-bound", false),
    ] {
        let out = tempfile::tempdir().unwrap();
        let maximise = format!("maximise='{maximise}'");
        let more = ["--corpus", corpus, "--set", latents, "--set", &maximise];
        let (run, text) = trained(out.path(), "20", &more);
        assert!(
            text.contains("SYNTHETIC") && text.contains("exact log-likelihood of the language")
        );
        let summary = summary(&run);
        let mean = |name: &str| summary[name]["mean"].as_f64();
        assert!(mean("truth").unwrap() < 0.);
        if latents != segments && latents != many {
            let gap = mean("truth").unwrap() - mean("log_prob").unwrap();
            assert!((mean("model_gap").unwrap() - gap).abs() < 1e-3, "{summary}");
        }
        // Too many joint values to sum over: the best bound stands for the likelihood.
        assert_eq!(text.contains("what that bound lacks to the language"), latents == many);
        for bound in summary["bounds"].as_array().unwrap() {
            assert!(bound["gap"]["mean"].as_f64().unwrap() > 0., "{summary}");
        }
        assert_eq!(mean("elbo").is_some(), !maximise.contains("likelihood"), "{summary}");
        assert_eq!(summary["codes"]["normalised_mutual_information"].is_number(), codes_known);
        let page = std::fs::read_to_string(run.join("report.html")).unwrap();
        assert!(page.contains("exact log-likelihood of the language") && page.contains("Samples"));
        assert_eq!(page.contains("How often each code is used"), !latents.contains("none"));
        assert_eq!(page.contains("One code changed at a time"), !latents.contains("none"));
        assert!(std::fs::read_to_string(run.join("samples.txt")).unwrap().lines().count() >= 2);
    }
}

#[test]
fn a_run_that_goes_on_is_the_run_that_was_never_stopped() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let more = [
        "--corpus",
        "grammar",
        "--set",
        "latents.bag_of_words=true",
        "--set",
        "aids={word_dropout=0.3, bag_of_words={kind='linear', start=1, end=0, steps=10}}",
        "--set",
        "objective={bound='guarded-elbo', batch_prior={kind='linear', start=1, end=0, steps=30}, free_nats=0.1}",
    ];
    // All of it but the corpus.
    let help = [&SLOTS[2..], &more].concat();
    let (whole, _) = trained(whole.path(), "40", &help);
    let (resumed, _) = trained(parts.path(), "20", &help);
    let output = lm(&["--steps", "40", "--resume", resumed.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(summary(&whole), summary(&resumed));
}

#[test]
fn a_trained_model_writes_and_reads_by_its_codes() {
    let out = tempfile::tempdir().unwrap();
    let (run, _) = trained(out.path(), "20", &SLOTS);
    let run = run.to_str().unwrap();
    let sample = |more: &[&str]| lm(&[&["sample", run, "--count", "3"], more].concat());
    let output = sample(&["--codes", "2", "--top-k", "5", "--prompt", "the the"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.lines().count() == 3
            && text.lines().all(|line| line.starts_with("[2 ") && line.contains("]\tthe the ")),
        "{text}"
    );
    assert_eq!(sample(&["--seed", "4"]).stdout, sample(&["--seed", "4"]).stdout);
    let file = out.path().join("lines.txt");
    std::fs::write(&file, "the dog runs\nthe\n").unwrap();
    let encoded = String::from_utf8(lm(&["encode", run, file.to_str().unwrap()]).stdout).unwrap();
    assert!(encoded.lines().count() == 2 && encoded.starts_with('['), "{encoded}");
    std::fs::write(&file, "hello").unwrap();
    for (args, expected) in [
        (vec!["sample", run, "--codes", "9"], "--codes [9]"),
        (vec!["sample", run, "--temperature=-1"], "temperature"),
        (vec!["sample", run, "--length", "65"], "up to 36"),
        (vec!["sample", run, "--prompt", "hello"], "`hello` is no word"),
        (vec!["sample", "nowhere"], "no run directory"),
        (vec!["encode", run, file.to_str().unwrap()], "`hello` is no word"),
    ] {
        let output = lm(&args);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && message.contains(expected), "{message}");
    }
}

/// Of runs that noted less, whoever goes on with them adds it.
#[test]
fn a_model_of_a_run_from_before_is_used_after_a_resume() {
    let out = tempfile::tempdir().unwrap();
    let (run, _) = trained(out.path(), "20", &SLOTS);
    // All test sentences are in the bounds here.
    let all = ["--set", "evaluation.bound_sequences=20"];
    let (whole, text) = trained(&out.path().join("all"), "20", &[&SLOTS[..], &all].concat());
    assert_eq!(summary(&whole)["perplexity_samples"], 5);
    assert!(text.contains("perplexity per symbol, 5 samples"), "{text}");
    assert_eq!(summary(&run)["perplexity_samples"], 1);
    let file = run.join("env.json");
    let mut environment: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    environment["identity"].as_object_mut().unwrap().remove("data.longest").unwrap();
    std::fs::write(&file, environment.to_string()).unwrap();
    let run = run.to_str().unwrap();
    let output = lm(&["sample", run]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(65) && message.contains("--resume"), "{message}");
    assert!(lm(&["--steps", "30", "--resume", run]).status.success());
    assert!(lm(&["sample", run]).status.success());
}

#[test]
fn a_text_of_ones_own_is_read_by_its_path() {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("text.txt");
    let lines: Vec<String> = (0..60).map(|i| format!("line {} of the text", i % 9)).collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let mut runs = Vec::new();
    for (layout, tokens) in [
        ("sentences", "{kind='word'}"),
        ("running", "{kind='character'}"),
        ("running", "{kind='word'}"),
        ("sentences", "{kind='bpe', vocabulary=262}"),
    ] {
        let data = format!(
            "data={{corpus='mine', path='{}', layout='{layout}', tokens={tokens}, longest=16}}",
            file.display()
        );
        let folder = out.path().join(runs.len().to_string());
        let args = [
            "--set",
            "latents.segment=2",
            "--set",
            &data,
            "--steps",
            "20",
            "--out",
            folder.to_str().unwrap(),
        ];
        let output = lm(&[&TINY[..], &args].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("bits per character") && !text.contains("SYNTHETIC"), "{text}");
        let run = std::fs::read_dir(folder.join("lm")).unwrap().next().unwrap().unwrap().path();
        assert!(run.join("tokenizer.json").is_file());
        let summary = summary(&run);
        assert!(summary["perplexity_samples"].is_null(), "a likelihood: {summary}");
        let page = std::fs::read_to_string(run.join("report.html")).unwrap();
        assert!(page.contains("One code changed at a time"), "{page}");
        runs.push(run);
    }
    // A run has all that it takes to use its model.
    std::fs::remove_file(&file).unwrap();
    let line = out.path().join("line.txt");
    std::fs::write(&line, "text of line 3\n").unwrap();
    for run in runs {
        let run = run.to_str().unwrap();
        let output = lm(&["sample", run, "--codes", "1", "--prompt", "of"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with("[1") && text.contains("]\tof"), "{text}");
        let output = lm(&["encode", run, line.to_str().unwrap()]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with('[') && text.ends_with("]\ttext of line 3\n"), "{text}");
    }
    let output = lm(&["--set", "data={corpus='mine'}"]);
    assert_eq!(output.status.code(), Some(2));
}
