//! Run directories, here written by hand, read back: means over seeds with their bands as a figure, and the page of a run.
//!
//! `cargo run -p gumbel-report --example figure [FOLDER]`
use std::fs;
use std::path::{Path, PathBuf};

use gumbel_report::{
    Axes, Comparison, Error, Panel, Record, Result, find_runs, mean_and_interval, run_page, svg,
};

fn write(path: &Path, text: &str) -> Result<()> {
    let failed = |source| Error::Io { path: path.to_path_buf(), source };
    path.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed)?;
    fs::write(path, text).map_err(failed)
}

/// What a run leaves: its configuration, its status, and a line of metrics now and then.
fn write_run(runs: &Path, temperature: f64, seed: u32) -> Result<()> {
    let run = runs.join(format!("vae/tau-{temperature}-s{seed}"));
    write(&run.join("config.toml"), &format!("seed = {seed}\ntemperature = {temperature}\n"))?;
    write(&run.join("STATUS"), "done\n")?;
    let line = |step: u32| {
        let noise = f64::from((seed * 7 + step / 100 * 3) % 5) - 2.;
        let nats = -100. - 80. * temperature * (-f64::from(step) / 300.).exp() + noise;
        format!("{{\"step\":{step},\"split\":\"valid\",\"bound\":{nats}}}\n")
    };
    write(&run.join("metrics.jsonl"), &(1..=10).map(|i| line(i * 100)).collect::<String>())
}

/// Two configurations under three seeds.
fn write_runs(runs: &Path) -> Result<()> {
    for (temperature, seed) in [0.5, 1.].into_iter().flat_map(|t| (1..=3).map(move |s| (t, s))) {
        write_run(runs, temperature, seed)?;
    }
    Ok(())
}

/// All runs below a folder, grouped by what differs beside the seed.
fn read_runs(runs: &Path) -> Result<Comparison> {
    let directories = find_runs(&[runs.to_path_buf()])?;
    let records: Result<_> = directories.iter().map(|directory| Record::read(directory)).collect();
    Ok(Comparison::new(records?))
}

/// The bound of each group over the steps, with 95 % bands over seeds, as an SVG.
fn figure(comparison: &Comparison) -> Result<String> {
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
fn main() -> Result<()> {
    let here = || std::env::temp_dir().join("gumbel-report-figure");
    let folder = std::env::args_os().nth(1).map_or_else(here, PathBuf::from);
    write_runs(&folder.join("runs"))?;
    let comparison = read_runs(&folder.join("runs"))?;
    for group in &comparison.groups {
        if let Some(last) = group.last("valid", "bound") {
            let (mean, half) = (last.mean, last.half_width.unwrap_or(f64::NAN));
            println!("{}: {mean:.2} ± {half:.2} nats over {} seeds", group.name, last.count);
        }
    }
    write(&folder.join("figure.svg"), &figure(&comparison)?)?;
    write(&folder.join("run.html"), &run_page(&comparison.groups[0].runs[0], &[])?)?;
    println!("figure.svg and run.html are in {}", folder.display());
    Ok(())
}

#[test]
fn runs_come_back_as_means_over_seeds_and_as_pages() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    write_runs(folder.path())?;
    let comparison = read_runs(folder.path())?;
    assert_eq!(comparison.keys, ["temperature"]);
    let names: Vec<&str> = comparison.groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names, ["temperature: 0.5", "temperature: 1.0"]);
    let group = &comparison.groups[1];
    let last: Vec<f64> = group.runs.iter().filter_map(|run| run.last("valid", "bound")).collect();
    assert!(last.len() == 3 && group.last("valid", "bound") == mean_and_interval(&last));
    let line = group.curve("valid", "bound");
    assert!(line.points.len() == 10 && line.band.iter().all(|half| *half > 0.), "{line:?}");
    // Each group has its band, its line and its name; a page has the result and the configuration.
    let figure = figure(&comparison)?;
    assert_eq!((figure.matches("<polygon").count(), figure.matches("<polyline").count()), (2, 2));
    assert!(names.iter().all(|name| figure.contains(name)), "{figure}");
    let page = run_page(&group.runs[0], &[])?;
    assert!(page.contains("temperature = 1") && page.contains("<svg"), "{page}");
    Ok(())
}
