//! A relaxed draw and its gradient, as there are more of something.
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use candle_core::{D, DType, Device, Tensor, Var};
use gumbel::Key;
use gumbel_experiments::say;
use gumbel_kernels::{Forward, backward, gumbel_softmax, log_softmax};

use crate::table;

/// Samples, batch, variables, categories.
type Size = [usize; 4];

/// Elements of a draw where the number of categories is what grows.
const ELEMENTS: usize = 1 << 22;
const CATEGORIES: [usize; 5] = [16, 256, 4096, 65_536, 262_144];
/// What grows from here, one letter at a time.
const USUAL: Size = [1, 64, 32, 16];
const FACTORS: [usize; 3] = [1, 4, 16];
/// What is measured.
const DRAWS: [&str; 3] = ["gumbel-softmax", "straight-through", "log-softmax"];

/// The tables.
pub(crate) fn section() -> Result<String> {
    let mut text = format!(
        "\n## A draw and its gradient\n\nForward and backward of one operation in single precision: nanoseconds per element (fastest of five), and bytes per element \
         that the process had at most beyond its start, logits (4), draw (4), and both gradients (8) among them, and what a process has anyway, which shows where there are few. Each number is of \
         a process of its own. Logits for the softmax are repeated for each sample.\n\nMore categories, {ELEMENTS} elements in all:\n"
    );
    let sizes = CATEGORIES.map(|k| [1, ELEMENTS / k, 1, k]);
    text.push_str(&rows(&CATEGORIES.map(|k| format!("K = {k}")), &sizes)?);
    for (place, letter) in ["S", "B", "N", "K"].into_iter().enumerate() {
        let sizes = FACTORS.map(|factor| {
            let mut size = USUAL;
            size[place] *= factor;
            size
        });
        let [s, b, n, k] = USUAL;
        text.push_str(&format!("\nMore of {letter}, from S, B, N, K = {s}, {b}, {n}, {k}:\n"));
        let heads = sizes.map(|size| format!("{letter} = {}", size[place]));
        text.push_str(&rows(&heads, &sizes)?);
    }
    Ok(text)
}

fn rows(heads: &[String], sizes: &[Size]) -> Result<String> {
    let heads: Vec<&str> = [""].into_iter().chain(heads.iter().map(String::as_str)).collect();
    let mut rows = Vec::new();
    for draw in DRAWS {
        let mut row = vec![draw.to_owned()];
        for size in sizes {
            row.push(measured(draw, *size)?);
        }
        rows.push(row);
    }
    Ok(table(&heads, &rows))
}

fn measured(draw: &str, size: Size) -> Result<String> {
    let size = size.map(|n| n.to_string()).join(",");
    let output = Command::new(std::env::current_exe()?)
        .args(["--one", &format!("{draw},{size}")])
        .output()
        .context("measuring in a process of its own")?;
    if !output.status.success() {
        bail!("{draw} of {size}: {}", String::from_utf8_lossy(&output.stdout));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Measures one and prints the result.
pub(crate) fn one(what: &str) -> Result<()> {
    let (draw, size) = what.split_once(',').context("use DRAW,S,B,N,K")?;
    let size: Vec<usize> = size.split(',').map(str::parse).collect::<Result<_, _>>()?;
    let [s, b, n, k] = size[..] else { bail!("use DRAW,S,B,N,K") };
    let before = memory("VmRSS:")?;
    let logits =
        Var::from_tensor(&Key::from_seed(1).normal((1, b, n, k), DType::F32, &Device::Cpu)?)?;
    let mut fastest = f64::INFINITY;
    for repetition in 0..6 {
        let start = Instant::now();
        let drawn = of(draw, &logits, s, Key::from_seed(2).fold_in(repetition))?;
        let gradients = backward(&drawn.narrow(D::Minus1, 0, 1)?.sum_all()?)?;
        drop((drawn, gradients));
        // The first one also pays for its memory.
        if repetition > 0 {
            fastest = fastest.min(start.elapsed().as_secs_f64());
        }
    }
    let elements = (s * b * n * k) as f64;
    let bytes = (memory("VmHWM:")? - before) * 1024.;
    say(&format!("{:.2} ns, {:.1} B", 1e9 * fastest / elements, bytes / elements));
    Ok(())
}

fn of(draw: &str, logits: &Tensor, samples: usize, key: Key) -> Result<Tensor> {
    Ok(match draw {
        "gumbel-softmax" => gumbel_softmax(logits, samples, 0.5, Forward::Soft, key)?,
        "straight-through" => gumbel_softmax(logits, samples, 0.5, Forward::Hard, key)?,
        "log-softmax" => log_softmax(&logits.repeat((samples, 1, 1, 1))?)?,
        _ => bail!("there is no draw `{draw}`"),
    })
}

/// A number of kibibytes that the kernel keeps of this process.
fn memory(name: &str) -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
