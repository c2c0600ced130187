//! Run directories, here written by hand, read back: means over seeds with their bands as a figure, and the page of a run.
//!
//! `cargo run -p gumbel-report --example figure [FOLDER]`
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use gumbel_report::{Axes, Comparison, Panel, Record, find_runs, run_page, svg};

/// What a run leaves: its configuration, its status, and a line of metrics now and then.
fn write_run(runs: &Path, temperature: f64, seed: u32) -> std::io::Result<()> {
    let run = runs.join(format!("vae/tau-{temperature}-s{seed}"));
    let line = |step: u32| {
        let noise = f64::from((seed * 7 + step / 100 * 3) % 5) - 2.;
        let nats = -100. - 80. * temperature * (-f64::from(step) / 300.).exp() + noise;
        format!("{{\"step\":{step},\"split\":\"valid\",\"bound\":{nats}}}\n")
    };
    fs::create_dir_all(&run)?;
    fs::write(run.join("config.toml"), format!("seed = {seed}\ntemperature = {temperature}\n"))?;
    fs::write(run.join("STATUS"), "done\n")?;
    fs::write(run.join("metrics.jsonl"), (1..=10).map(|i| line(i * 100)).collect::<String>())
}

/// Two configurations under three seeds, written and read: all runs, grouped by what differs beside the seed.
fn runs(folder: &Path) -> Result<Comparison, Box<dyn Error>> {
    for (temperature, seed) in [0.5, 1.].into_iter().flat_map(|t| (1..=3).map(move |s| (t, s))) {
        write_run(folder, temperature, seed)?;
    }
    let records: Result<_, _> =
        find_runs(&[folder.to_owned()])?.iter().map(|run| Record::read(run)).collect();
    Ok(Comparison::new(records?))
}

/// The bound of each group over the steps, with 95 % bands over seeds, as an SVG.
fn figure(comparison: &Comparison) -> gumbel_report::Result<String> {
    let mut panel = Panel { title: "bound on valid".to_owned(), lines: Vec::new() };
    for group in &comparison.groups {
        let mut line = group.curve("valid", "bound");
        line.name.clone_from(&group.name);
        panel.lines.push(line);
    }
    let axes = Axes { x: "step".to_owned(), y: "nats".to_owned(), log_x: false, log_y: false };
    svg(&[panel], &axes)
}

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<(), Box<dyn Error>> {
    let here = || std::env::temp_dir().join("gumbel-report-figure");
    let folder = std::env::args_os().nth(1).map_or_else(here, PathBuf::from);
    let comparison = runs(&folder.join("runs"))?;
    for group in &comparison.groups {
        let last = group.last("valid", "bound").ok_or("no bound")?;
        let half = last.half_width.ok_or("one seed alone")?;
        println!("{}: {:.2} ± {half:.2} nats over {} seeds", group.name, last.mean, last.count);
    }
    fs::write(folder.join("figure.svg"), figure(&comparison)?)?;
    fs::write(folder.join("run.html"), run_page(&comparison.groups[0].runs[0], &[])?)?;
    println!("figure.svg and run.html are in {}", folder.display());
    Ok(())
}

#[test]
fn runs_come_back_as_means_over_seeds_and_as_pages() -> Result<(), Box<dyn Error>> {
    let comparison = runs(tempfile::tempdir()?.path())?;
    let names: Vec<&str> = comparison.groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names, ["temperature: 0.5", "temperature: 1"]);
    let group = &comparison.groups[1];
    let last: Vec<f64> = group.runs.iter().filter_map(|run| run.last("valid", "bound")).collect();
    assert_eq!(last.len(), 3);
    assert_eq!(group.last("valid", "bound").unwrap().mean, last.iter().sum::<f64>() / 3.);
    assert!(group.curve("valid", "bound").band.iter().all(|half| *half > 0.));
    // Each group has its band, the dots of its line, and its name.
    let figure = figure(&comparison)?;
    assert_eq!((figure.matches("<polygon").count(), figure.matches("<circle").count()), (2, 20));
    assert!(names.iter().all(|name| figure.contains(name)), "{figure}");
    let page = run_page(&group.runs[0], &[])?;
    assert!(page.contains("temperature = 1") && page.contains("<svg"), "{page}");
    Ok(())
}
