//! Does a device compute what the processor does, and how fast: `device-check --device cuda:0`.
mod estimators;
mod operations;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, ensure};
use candle_core::{DType, Device, Tensor, Var};
use clap::Parser;
use gumbel::Key;
use gumbel_experiments::say;
use gumbel_kernels::optimizer::{AdamStep, AdamTensors, adam_update_all, sums_of_squares};
use gumbel_training::DeviceChoice;

use operations::{Operation, all};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Hold a device against the processor: noise, operations, gradients, updates.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The device: auto, cpu, cuda, cuda:N or metal
    #[arg(long, default_value_t)]
    device: DeviceChoice,
}

/// Repetitions of which the fastest counts.
const REPETITIONS: usize = 10;

fn main() -> ExitCode {
    let args = Args::parse();
    gumbel_kernels::threads::configure(std::thread::available_parallelism().map_or(1, usize::from));
    match check(args.device) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            say(&format!("{failed} checks failed"));
            ExitCode::FAILURE
        }
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}

/// All checks; how many failed.
fn check(choice: DeviceChoice) -> Result<usize> {
    let device = choice.open()?;
    say(&format!(
        "| check on {:?} | largest difference | allowed | ms forward and back | |",
        device.location()
    ));
    say("|---|--:|--:|--:|---|");
    let mut failed = 0;
    let mut line = |name: &str, difference: f64, allowed: f64, seconds: Option<f64>| {
        // A NaN is no small difference.
        let passed = difference <= allowed;
        failed += usize::from(!passed);
        let time = seconds.map_or_else(String::new, |seconds| format!("{:.3}", 1e3 * seconds));
        let verdict = if passed { "ok" } else { "FAILED" };
        say(&format!("| {name} | {difference:.1e} | {allowed:.0e} | {time} | {verdict} |"));
    };
    for (name, draw, allowed) in noises() {
        let of = |device: &Device| {
            numbers(&draw(Key::from_seed(1).named(name), 1_000_003, DType::F32, device)?)
        };
        line(&format!("noise: {name}"), largest(&of(&device)?, &of(&Device::Cpu)?)?, allowed, None);
    }
    for operation in all() {
        // One that fails says so, and the others go on.
        match difference(&operation, &device).and_then(|d| Ok((d, seconds(&operation, &device)?))) {
            Ok((difference, seconds)) => {
                line(&operation.name, difference, operation.allowed, Some(seconds));
            }
            Err(error) => {
                line(&format!("{}: {error}", operation.name), f64::NAN, operation.allowed, None);
            }
        }
    }
    for method in estimators::METHODS {
        let of = |device: &Device| estimators::gradients(method, device);
        let name = format!("estimator: {}", estimators::name(method));
        match of(&device).and_then(|ours| most(&ours, &of(&Device::Cpu)?)) {
            Ok(difference) => line(&name, difference, 1e-3, None),
            Err(error) => line(&format!("{name}: {error}"), f64::NAN, 1e-3, None),
        }
    }
    line("a step of Adam, of 60 tensors, and norms", adam(&device)?, 1e-5, None);
    Ok(failed)
}

type Draw = fn(Key, usize, DType, &Device) -> candle_core::Result<Tensor>;

/// Made of the same random words by the same steps, so equal; but for the normal deviates, which need the sine of a library.
fn noises() -> [(&'static str, Draw, f64); 4] {
    [
        ("uniform", Key::uniform, 0.),
        ("gumbel", Key::gumbel, 0.),
        ("logistic", Key::logistic, 0.),
        ("normal", Key::normal, 1e-6),
    ]
}

fn numbers(x: &Tensor) -> Result<Vec<f32>> {
    Ok(x.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

/// The largest difference, relative to numbers above 1.
fn largest(ours: &[f32], theirs: &[f32]) -> Result<f64> {
    ensure!(ours.len() == theirs.len(), "{} numbers, not {}", ours.len(), theirs.len());
    let difference = |(a, b): (&f32, &f32)| {
        let (a, b) = (f64::from(*a), f64::from(*b));
        if a == b { 0. } else { (a - b).abs() / b.abs().max(1.) }
    };
    // `f64::max` would lose a NaN.
    Ok(ours.iter().zip(theirs).map(difference).fold(0., |m, x| if x <= m { m } else { x }))
}

/// The inputs of an operation on a device, with gradients.
fn variables(operation: &Operation, device: &Device) -> Result<Vec<Tensor>> {
    let on = |x: &Tensor| Ok(Var::from_tensor(&x.to_device(device)?)?.into_inner());
    operation.inputs()?.iter().map(on).collect()
}

/// Value and gradients of an operation on a device; the loss weighs its numbers irregularly.
fn run(operation: &Operation, device: &Device) -> Result<Vec<Tensor>> {
    let inputs = variables(operation, device)?;
    let y = (operation.compute)(&inputs)?;
    let weights =
        Key::from_seed(9).uniform(y.shape(), DType::F32, &Device::Cpu)?.to_device(device)?;
    let gradients = (&y * weights)?.sum_all()?.backward()?;
    let found = inputs.iter().filter_map(|x| gradients.get(x).cloned());
    Ok([y].into_iter().chain(found).collect())
}

fn difference(operation: &Operation, device: &Device) -> Result<f64> {
    most(&run(operation, device)?, &run(operation, &Device::Cpu)?)
}

/// The largest difference of some tensors from others.
fn most(ours: &[Tensor], theirs: &[Tensor]) -> Result<f64> {
    ensure!(ours.len() == theirs.len(), "{} results, not {}", ours.len(), theirs.len());
    let mut most = 0f64;
    for (a, b) in ours.iter().zip(theirs) {
        let here = largest(&numbers(a)?, &numbers(b)?)?;
        most = if here <= most { most } else { here };
    }
    Ok(most)
}

fn seconds(operation: &Operation, device: &Device) -> Result<f64> {
    let inputs = variables(operation, device)?;
    let mut best = f64::INFINITY;
    for _ in 0..REPETITIONS {
        device.synchronize()?;
        let start = Instant::now();
        let gradients = (operation.compute)(&inputs)?.sum_all()?.backward()?;
        device.synchronize()?;
        best = best.min(start.elapsed().as_secs_f64());
        drop(gradients);
    }
    Ok(best)
}

fn adam(device: &Device) -> Result<f64> {
    let step =
        AdamStep { beta1: 0.9, beta2: 0.99, shrink: 0.98, rate: 0.1, scale: 1.5, epsilon: 1e-3 };
    let after = |device: &Device| -> Result<Vec<f32>> {
        let tensors = (0..60u64).map(|i| {
            let n = if i == 0 { 1_000_003 } else { 10 * i as usize };
            let of = |name: &str| {
                let key = Key::from_seed(2).named(name).fold_in(i);
                key.uniform(n, DType::F32, &Device::Cpu)?.to_device(device)
            };
            let on = |name: &str| Var::from_tensor(&of(name)?);
            Ok((on("p")?, on("m")?, on("v")?, of("g")?))
        });
        let tensors = tensors.collect::<Result<Vec<_>>>()?;
        let all: Vec<_> = tensors
            .iter()
            .map(|(parameter, m, v, gradient)| AdamTensors { parameter, m, v, gradient })
            .collect();
        adam_update_all(&all, &step)?;
        let gradients: Vec<&Tensor> = tensors.iter().map(|(.., g)| g).collect();
        let mut results: Vec<f32> =
            sums_of_squares(&gradients)?.iter().map(|sum| *sum as f32).collect();
        for (p, m, v, _) in &tensors {
            results.extend([numbers(p)?, numbers(m)?, numbers(v)?].concat());
        }
        Ok(results)
    };
    largest(&after(device)?, &after(&Device::Cpu)?)
}
