//! A training step by several processes: measured as far as this machine goes, modelled beyond.
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use gumbel_distributed::{Communicator, join};
use gumbel_experiments::say;
use serde::{Deserialize, Serialize};

use crate::table;

/// Between machines, where they are not this one.
pub(crate) struct Network {
    /// Seconds of a message.
    pub(crate) latency: f64,
    /// Bytes per second.
    pub(crate) bandwidth: f64,
}

/// What two processes measured between them.
#[derive(Serialize, Deserialize)]
struct Link {
    /// Seconds of an exchange of some bytes.
    latency: f64,
    /// Seconds of a sum over both, by the number of its elements.
    sums: Vec<(usize, f64)>,
}

/// Elements of the sums that are timed.
const SUMS: [usize; 5] = [1 << 10, 1 << 14, 1 << 18, 1 << 22, 1 << 24];
/// The processes of the model.
const RANKS: [usize; 5] = [1, 2, 8, 64, 512];
/// Micro-batches of a step: at least one for each process.
const PARTS: usize = 2;
const STEPS: u64 = 60;
/// Models with their program, the options that make a step large, and the examples of one.
const MODELS: [(&str, &str, &[&str]); 2] = [
    (
        "VAE, 784–(20×10)–784, batch 1024",
        "vae",
        &["--set", "batch_size=1024", "--set", "evaluation.final_samples=1"],
    ),
    ("language model, 64 wide, batch 256", "lm", &["--set", "batch_size=256"]),
];

/// Measures what is between this process and another one, and prints it.
pub(crate) fn link() -> Result<()> {
    const MESSAGES: u32 = 2000;
    let world = join(None)?;
    for _ in 0..100 {
        world.all_gather_bytes(&[1; 8])?;
    }
    let start = Instant::now();
    for _ in 0..MESSAGES {
        world.all_gather_bytes(&[1; 8])?;
    }
    // Lengths first, then what was said: two messages.
    let latency = start.elapsed().as_secs_f64() / f64::from(2 * MESSAGES);
    let sums = SUMS.iter().map(|n| Ok((*n, timed(&*world, *n)?))).collect::<Result<_>>()?;
    if world.rank() == 0 {
        say(&serde_json::to_string(&Link { latency, sums })?);
    }
    Ok(())
}

/// Seconds of a sum of `n` elements: the fastest of five.
fn timed(world: &dyn Communicator, n: usize) -> Result<f64> {
    let x = Tensor::ones(n, DType::F32, &Device::Cpu)?;
    let mut fastest = f64::INFINITY;
    for _ in 0..6 {
        world.barrier()?;
        let start = Instant::now();
        world.sum(&x)?;
        fastest = fastest.min(start.elapsed().as_secs_f64());
    }
    Ok(fastest)
}

/// The tables of processes.
pub(crate) fn section(network: &Network) -> Result<String> {
    if !cfg!(feature = "mpi") || Command::new("mpirun").arg("--version").output().is_err() {
        return Ok(
            "\n## Processes\n\nNot measured: needs `mpirun`, and a build with `--features mpi`.\n"
                .to_owned(),
        );
    }
    let program = std::env::current_exe()?;
    let said = mpirun(2, &program, &["--one", "link"].map(str::to_owned))?;
    let line =
        said.lines().find(|line| line.starts_with('{')).context("no measurement of the link")?;
    let link: Link = serde_json::from_str(line)?;
    let mut text = format!(
        "\n## Processes\n\nTwo processes on this machine, one thread each, through MPI: a message of some bytes takes {:.1} µs; a sum of gradients over \
         both, in its fixed order:\n",
        1e6 * link.latency
    );
    let rows = link.sums.iter().map(|(n, seconds)| {
        let bytes = volume(2, *n);
        vec![
            format!("{n}"),
            format!("{:.3}", 1e3 * seconds),
            format!("{:.2}", bytes / seconds / 1e9),
        ]
    });
    text.push_str(&table(
        &["elements", "ms", "GB/s that leave a process"],
        &rows.collect::<Vec<_>>(),
    ));
    let fastest = link.sums.iter().map(|(n, seconds)| volume(2, *n) / seconds).fold(0., f64::max);
    let here = Network { latency: link.latency, bandwidth: fastest };
    for (name, program, options) in MODELS {
        text.push_str(&of_model(name, program, options, &here, network)?);
    }
    Ok(text)
}

/// Bytes that leave each of so many processes for a sum of `n` elements: an exchange and a collection.
fn volume(ranks: usize, n: usize) -> f64 {
    2. * (ranks - 1) as f64 / ranks as f64 * 4. * n as f64
}

/// Seconds that the sum of a step takes: messages to all others, twice, and its volume; and what all tell one another, twice.
fn communication(ranks: usize, n: usize, network: &Network) -> f64 {
    if ranks == 1 {
        return 0.;
    }
    let messages = 2. * (ranks - 1) as f64 + 4. * (ranks as f64).log2();
    messages * network.latency + volume(ranks, n) / network.bandwidth
}

fn of_model(
    name: &str,
    program: &str,
    options: &[&str],
    here: &Network,
    network: &Network,
) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let binary = std::env::current_exe()?.with_file_name(program);
    let mut measured = Vec::new();
    let mut parameters = 0;
    for ranks in [1, 2] {
        let out = folder.path().join(ranks.to_string());
        let mut all: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        all.extend(["--quiet", "--threads", "1", "--set"].map(str::to_owned));
        all.push(format!("train.micro_batches={PARTS}"));
        all.extend(["--set", "train.log_every=10", "--steps"].map(str::to_owned));
        all.extend([STEPS.to_string(), "--out".to_owned(), out.display().to_string()]);
        mpirun(ranks, &binary, &all)?;
        let run = only(&out.join(program))?;
        measured.push(seconds_of_step(&run)?);
        parameters = trained(&run)?;
    }
    let (alone, both) = (measured[0], measured[1]);
    let mut text = format!(
        "\n{name}: {parameters} parameters. A step takes {:.1} ms by one process of one thread and {:.1} ms by two ({:.2} times as fast); the model \
         says {:.1} ms.\n",
        1e3 * alone,
        1e3 * both,
        alone / both,
        1e3 * (alone / 2. + communication(2, parameters, here)),
    );
    let rows = RANKS.map(|ranks| {
        let talk = communication(ranks, parameters, network);
        // The same batch for each process, and the same batch for all of them.
        let weak = 1. / (1. + talk / alone);
        let strong = alone / (alone / ranks as f64 + talk);
        vec![
            ranks.to_string(),
            format!("{:.3}", 1e3 * talk),
            format!("{:.0} %", 100. * weak),
            format!("{strong:.1}"),
        ]
    });
    text.push_str(&format!(
        "Modelled for machines that are {:.0} µs and {:.1} GB/s apart, each as fast as this one with a thread:\n",
        1e6 * network.latency,
        network.bandwidth / 1e9
    ));
    let heads = [
        "processes",
        "ms to sum and agree",
        "efficiency, this batch for each",
        "times as fast, this batch for all",
    ];
    text.push_str(&table(&heads, &rows));
    Ok(text)
}

/// Runs a program as so many processes; what they print.
fn mpirun(ranks: usize, program: &Path, options: &[String]) -> Result<String> {
    let output = Command::new("mpirun")
        .args(["--oversubscribe", "-np", &ranks.to_string()])
        .arg(program)
        .args(options)
        .envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")])
        .output()
        .context("mpirun")?;
    if !output.status.success() {
        bail!("{} by {ranks}: {}", program.display(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn only(folder: &Path) -> Result<PathBuf> {
    let mut entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    Ok(entries.next().context("no run")??.path())
}

/// From the time between two lines, the first of which also has what happens once.
fn seconds_of_step(run: &Path) -> Result<f64> {
    #[derive(Deserialize)]
    struct Line {
        step: u64,
        seconds: f64,
    }
    let text = std::fs::read_to_string(run.join("timing.jsonl"))?;
    let lines: Vec<Line> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let fastest = lines
        .windows(2)
        .map(|pair| (pair[1].seconds - pair[0].seconds) / (pair[1].step - pair[0].step) as f64);
    let fastest = fastest.fold(f64::INFINITY, f64::min);
    if fastest.is_finite() { Ok(fastest) } else { bail!("no times in {}", run.display()) }
}

/// How many numbers are trained.
fn trained(run: &Path) -> Result<usize> {
    let checkpoint = run.join(format!("checkpoints/step-{STEPS}/model.safetensors"));
    let tensors = candle_core::safetensors::load(checkpoint, &Device::Cpu)?;
    Ok(tensors.values().map(Tensor::elem_count).sum())
}
