//! The units of a study, done by several threads.
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use gumbel::Key;
use gumbel::estimators::Trace;
use gumbel::lab::{self, Exact, Measurement};
use gumbel_experiments::{loaded, say, told, whole_or_none};
use gumbel_models::LatentVariableModel;
use gumbel_sweep::Requests;
use gumbel_training::OptimizerError;

use crate::exact::Support;
use crate::store::{PARTS, Store, gradient_row, training_row};
use crate::study::Family;
use crate::train::{Model, Parameters, Setting, Stopped, Trained, train};
use crate::units::{LOOKED_AT, Unit};

/// Does the units that are not done, on `threads` threads; whether all are done.
///
/// # Errors
/// If some failed; the others are done.
pub(crate) fn work(
    units: &[Unit],
    store: &Mutex<Store>,
    setting: Setting<'_>,
    threads: usize,
) -> Result<bool> {
    let mut requests = Requests::listen()?;
    let todo: Vec<&Unit> = units.iter().filter(|unit| !lock(store).has(unit)).collect();
    let progress = Mutex::new(Progress { all: todo.len(), done: 0, failed: 0 });
    // What others need, and then the others.
    let (first, rest): (Vec<&Unit>, Vec<&Unit>) =
        todo.into_iter().partition(|unit| unit.is_looked_at());
    for phase in [first, rest] {
        let next = Mutex::new(phase.into_iter());
        std::thread::scope(|scope| -> Result<()> {
            let mut workers = Vec::new();
            for _ in 0..threads {
                let worker = std::thread::Builder::new().stack_size(64 << 20);
                workers.push(worker.spawn_scoped(scope, || {
                    loop {
                        let unit = lock(&next).next();
                        let Some(unit) = unit else { break };
                        if !perform_and_say(unit, store, setting, &progress) {
                            break;
                        }
                    }
                })?);
            }
            while workers.iter().any(|worker| !worker.is_finished()) {
                if requests.any() {
                    setting.stop.store(true, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        })?;
    }
    let failed = lock(&progress).failed;
    anyhow::ensure!(failed == 0, "{failed} units failed; the same command tries again");
    Ok(!setting.stop.load(Ordering::Relaxed))
}

/// How far the work is.
struct Progress {
    all: usize,
    done: usize,
    failed: usize,
}

/// Does a unit and says what became of it; whether to go on.
fn perform_and_say(
    unit: &Unit,
    store: &Mutex<Store>,
    setting: Setting<'_>,
    progress: &Mutex<Progress>,
) -> bool {
    if setting.stop.load(Ordering::Relaxed) {
        return false;
    }
    let start = Instant::now();
    let outcome = perform(unit, store, setting);
    let seconds = start.elapsed().as_secs_f64();
    let mut progress = lock(progress);
    match outcome {
        Ok(text) => {
            progress.done += 1;
            say(&format!("{} of {}: {text} ({seconds:.1} s)", progress.done, progress.all));
        }
        Err(error) if error.is::<Stopped>() => return false,
        Err(error) => {
            progress.failed += 1;
            say(&format!("{unit:?} failed: {}", told(&error)));
        }
    }
    true
}

/// A poisoned lock holds what it held.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does a unit, records it, and says what came out.
fn perform(unit: &Unit, store: &Mutex<Store>, setting: Setting<'_>) -> Result<String> {
    match unit {
        Unit::Train(arity, learner, seed) => {
            let mut look = |step, model: &Model| match unit.is_looked_at() {
                true => keep(model, &lock(store).model_file(*arity, step)),
                false => Ok(()),
            };
            let trained = match train(*arity, learner, *seed, setting, &mut look) {
                Err(error) if diverged(&error) => Trained::DIVERGED,
                trained => trained?,
            };
            let mut store = lock(store);
            let row = training_row(store.training_name(*arity, learner, *seed), &trained, setting);
            store.training.add([row])?;
            let (estimator, rule) = (learner.estimator(), learner.rule());
            Ok(format!("{arity} {estimator} {rule} seed {seed}: {:.2}", trained.test_elbo))
        }
        Unit::Measure(arity, step, family, temperature) => {
            let model = Model::new(*arity, LOOKED_AT, setting)?;
            let file = lock(store).model_file(*arity, *step);
            let parameters: Parameters =
                candle_core::safetensors::load(&file, &candle_core::Device::Cpu)
                    .with_context(|| format!("reading {}", file.display()))?
                    .into_iter()
                    .collect();
            model.params.load(&parameters)?;
            let measured = measure(&model, *family, *temperature, setting)?;
            let mut store = lock(store);
            let row = |(part, m): (&&str, &Measurement)| {
                let name = store.gradient_name(*arity, *step, *family, *temperature, part);
                gradient_row(name, m, setting)
            };
            let rows: Vec<_> = PARTS.iter().zip(&measured).map(row).collect();
            store.gradients.add(rows)?;
            let relative = |x: f64| x / measured[0].exact_norm();
            Ok(format!(
                "{arity} step {step} {} {temperature}: relative bias {:.3}, relative deviation {:.3}",
                family.name(),
                relative(measured[0].bias.value),
                relative(measured[0].variance.value.sqrt())
            ))
        }
    }
}

fn diverged(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(OptimizerError::NotFinite { .. }))
}

/// Keeps a model to measure gradients on: the whole file or none.
fn keep(model: &Model, file: &Path) -> Result<()> {
    let tensors = model.params.tensors()?.into_iter().collect();
    whole_or_none(file, |fresh| Ok(candle_core::safetensors::save(&tensors, fresh)?))
}

/// Bias and variance against the exact gradient, on one batch of training images.
fn measure(
    model: &Model,
    family: Family,
    temperature: f64,
    setting: Setting<'_>,
) -> Result<Vec<Measurement>> {
    let Setting { data, sizes, .. } = setting;
    let key = Key::from_seed(LOOKED_AT);
    let device = candle_core::Device::Cpu;
    let x = loaded(data.train.batch(0, sizes.batch, key.named("measured"), &device))?;
    let support = Support::of(&model.vae, &x)?;
    let known = support.decoded(&model.vae)?.know(&model.vae, &x)?;
    let grads = known.elbo.mean_all()?.neg()?.backward()?;
    let groups = PARTS
        .iter()
        .map(|part| Ok(Exact::new(model.part(part), &grads)?))
        .collect::<Result<Vec<_>>>()?;
    let program = |trace: &mut Trace<'_>| model.vae.log_likelihood(&x, trace);
    let objective = family.objective().at(0);
    let estimator = family.estimator(temperature)?;
    // The same noise for all: common random numbers.
    let key = key.named("measurement");
    Ok(lab::measure(&*estimator, (&program, &*objective), &groups, sizes.replicates, key)?)
}
