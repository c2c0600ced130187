//! How long the kernels and a training step take: `just bench`.
//!
//! Each operation is timed forward and backward through autograd, the fused kernel beside its twin of plain
//! candle operations, in alternation, so that both see the same machine. The median of the repeats is
//! printed, with the quartiles of the fused one. Only ratios of one run mean anything.
mod step;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use candle_core::{DType, Device, Tensor, Var};
use clap::Parser;
use gumbel_kernels::{
    Forward, Key, bernoulli_log_prob, categorical_kl, gumbel_softmax, linear, log_softmax,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Time the kernels against plain candle operations, and a training step.
#[derive(Debug, Parser)]
struct Args {
    /// Threads to compute with
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Seconds to spend on each row
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
}

/// A function of inputs that is timed forward and backward.
type Operation<'a> = &'a dyn Fn(&[Tensor]) -> candle_core::Result<Tensor>;

fn main() -> ExitCode {
    let args = Args::parse();
    gumbel_kernels::threads::configure(args.threads);
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::from(70)
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let budget = Duration::try_from_secs_f64(args.seconds)?;
    say(&format!("{} thread(s), f32, forward + backward, median microseconds", args.threads));
    say(&format!(
        "{:<36}{:>10}{:>18}{:>10}{:>8}",
        "operation", "fused", "(quartiles)", "twin", "ratio"
    ));
    let key = Key::from_seed(1);
    for (name, shape) in [
        ("3000 x 10", vec![1, 3000, 10]),
        ("4096 x 32", vec![1, 4096, 32]),
        ("64 x 50257", vec![1, 64, 50257]),
    ] {
        let logits = [normal(&shape, 1)?];
        for (kind, forward) in [("soft", Forward::Soft), ("straight-through", Forward::Hard)] {
            row(
                &format!("gumbel_softmax {kind} {name}"),
                &logits,
                &|x| gumbel_softmax(&x[0], 1, 1., forward, key),
                &|x| gumbel_kernels::gumbel_softmax::reference(&x[0], 1, 1., forward, key),
                budget,
            )?;
        }
    }
    let logits = [normal(&[2000, 10], 2)?, normal(&[2000, 10], 3)?];
    row(
        "log_softmax 2000 x 10",
        &logits[..1],
        &|x| log_softmax(&x[0]),
        &|x| gumbel_kernels::log_softmax::reference(&x[0]),
        budget,
    )?;
    row(
        "categorical_kl 2000 x 10",
        &logits,
        &|x| categorical_kl(&x[0], &x[1]),
        &|x| gumbel_kernels::categorical_kl::reference(&x[0], &x[1]),
        budget,
    )?;
    let pixels = [normal(&[100, 784], 4)?];
    let x = normal(&[100, 784], 5)?.ge(1f32)?.to_dtype(DType::F32)?;
    row(
        "bernoulli_log_prob 100 x 784",
        &pixels,
        &|l| bernoulli_log_prob(&l[0], &x),
        &|l| gumbel_kernels::bernoulli_log_prob::reference(&l[0], &x),
        budget,
    )?;
    let layer = [normal(&[100, 200], 6)?, normal(&[784, 200], 7)?, normal(&[784], 8)?];
    row(
        "linear 100 x 200 -> 784",
        &layer,
        &|l| linear(&l[0], &l[1], &l[2]),
        &|l| gumbel_kernels::linear::reference(&l[0], &l[1], &l[2]),
        budget,
    )?;
    say(&step::time(budget)?);
    Ok(())
}

fn normal(shape: &[usize], seed: u64) -> candle_core::Result<Tensor> {
    Key::from_seed(seed).normal(shape, DType::F32, &Device::Cpu)
}

/// Times both twins in alternation and prints a row.
fn row(
    name: &str,
    inputs: &[Tensor],
    fused: Operation<'_>,
    twin: Operation<'_>,
    budget: Duration,
) -> Result<()> {
    let vars = inputs.iter().map(Var::from_tensor).collect::<candle_core::Result<Vec<_>>>()?;
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let once = |f: Operation<'_>| -> Result<f64> {
        let start = Instant::now();
        f(&tensors)?.sum_all()?.backward()?;
        Ok(start.elapsed().as_secs_f64() * 1e6)
    };
    once(fused)?;
    once(twin)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let start = Instant::now();
    while start.elapsed() < budget || ours.len() < 5 {
        ours.push(once(fused)?);
        theirs.push(once(twin)?);
    }
    let ([low, median, high], [_, other, _]) = (quartiles(ours), quartiles(theirs));
    let spread = format!("({low:.0}-{high:.0})");
    say(&format!("{name:<36}{median:>10.0}{spread:>18}{other:>10.0}{:>7.1}x", other / median));
    Ok(())
}

/// The quartiles of a sample that is not empty.
fn quartiles(mut times: Vec<f64>) -> [f64; 3] {
    times.sort_by(f64::total_cmp);
    [1, 2, 3].map(|q| times.get(times.len() * q / 4).copied().unwrap_or(f64::NAN))
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its table")]
fn say(line: &str) {
    println!("{line}");
}
