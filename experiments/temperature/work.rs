//! The units of a study, done by several threads: each is computed by one of them, alone.
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use gumbel::Key;
use gumbel::estimators::Trace;
use gumbel::lab::{self, Exact, Measurement};
use gumbel_experiments::{loaded, say, told};
use gumbel_models::LatentVariableModel;
use gumbel_sweep::Requests;
use gumbel_training::OptimizerError;

use crate::exact::Support;
use crate::record::Table;
use crate::study::{ARITIES, Arity, Family, Learner, Sizes};
use crate::train::{ENCODER, Model, Parameters, Setting, Stopped, Trained, train};
use crate::view::View;

/// Columns of the gradients' table; the first [`GRADIENT_KEYS`] name a row.
pub(crate) const GRADIENT_HEAD: [&str; 23] = [
    "identity",
    "categories",
    "variables",
    "step",
    "estimator",
    "temperature",
    "parameters",
    "batch",
    "replicates",
    "exact_norm",
    "norm",
    "norm_error",
    "bias",
    "bias_error",
    "variance",
    "variance_error",
    "mean_squared_error",
    "mean_squared_error_error",
    "cosine",
    "cosine_error",
    "cosine_of_mean",
    "cosine_of_mean_error",
    "signal_to_noise",
];
const GRADIENT_KEYS: usize = 7;

/// Columns of the table of trained models; the first [`TRAINING_KEYS`] name a row.
pub(crate) const TRAINING_HEAD: [&str; 15] = [
    "identity",
    "categories",
    "variables",
    "estimator",
    "temperature",
    "seed",
    "steps",
    "test_elbo",
    "test_log_likelihood",
    "valid_elbo",
    "test_objective",
    "temperature_at_1_percent",
    "temperature_at_10_percent",
    "temperature_at_the_end",
    "milliseconds_per_step",
];
const TRAINING_KEYS: usize = 6;

/// The part of a model whose gradients are measured: what only draws reach, and what sees them.
const PARTS: [&str; 2] = [ENCODER, "decoder"];

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Unit {
    /// Train a model, by a learner and from a seed.
    Train(Arity, Learner, u64),
    /// Measure an estimator at a temperature, on a model that the exact gradient has trained for some steps.
    Measure(Arity, u64, Family, f64),
}

/// The seed whose models gradients are measured on.
const LOOKED_AT: u64 = 1;

impl Unit {
    /// The unit whose models gradients of an arity are measured on.
    fn looked_at(arity: Arity) -> Self {
        Self::Train(arity, Learner::Exact, LOOKED_AT)
    }

    fn is_looked_at(&self) -> bool {
        matches!(self, Self::Train(_, Learner::Exact, LOOKED_AT))
    }
}

/// Those of `units` with `text` in their description, and what they need.
pub(crate) fn wanted(units: &[Unit], text: &str) -> Vec<Unit> {
    let named = |unit: &&Unit| format!("{unit:?}").contains(text);
    let chosen: Vec<&Unit> = units.iter().filter(named).collect();
    let needed = |unit: &&Unit| {
        let measures = |other: &&Unit| match other {
            Unit::Measure(arity, ..) => Unit::looked_at(*arity) == **unit,
            Unit::Train(..) => false,
        };
        chosen.contains(unit) || chosen.iter().any(measures)
    };
    units.iter().filter(needed).cloned().collect()
}

/// All units, first what others need.
pub(crate) fn units(sizes: &Sizes) -> Vec<Unit> {
    // The exact gradient takes as long as forty others, and has no noise that seeds could show: once for each model.
    let mut units: Vec<Unit> = ARITIES.map(Unit::looked_at).to_vec();
    let learners = Learner::all(sizes.trained);
    for seed in 1..=sizes.seeds {
        for arity in ARITIES {
            units.extend(learners.iter().map(|learner| Unit::Train(arity, *learner, seed)));
        }
        if seed == LOOKED_AT {
            for arity in ARITIES {
                for step in sizes.checkpoints() {
                    for family in Family::MEASURED {
                        let each = sizes.measured.iter();
                        units.extend(each.map(|t| Unit::Measure(arity, step, family, *t)));
                    }
                }
            }
        }
    }
    units
}

/// What is there, and where.
pub(crate) struct Store {
    pub(crate) gradients: Table,
    pub(crate) training: Table,
    /// Where models are kept to be measured on.
    models: PathBuf,
    checkpoints: [u64; 4],
    /// Of the settings and the images.
    identity: String,
}

/// Keeps others from writing to the same results, until it is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    file: PathBuf,
    _locked: fs::File,
}

impl Claim {
    /// # Errors
    /// If another process has claimed the folder.
    pub(crate) fn on(results: &Path) -> Result<Self> {
        let file = results.join(".temperature.lock");
        fs::create_dir_all(results).with_context(|| format!("making {}", results.display()))?;
        let locked =
            fs::File::create(&file).with_context(|| format!("making {}", file.display()))?;
        let folder = results.display();
        locked
            .try_lock()
            .with_context(|| format!("another study writes to {folder}; wait for it"))?;
        Ok(Self { file, _locked: locked })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Nothing is wrong if it stays.
        let _ = fs::remove_file(&self.file);
    }
}

impl Store {
    pub(crate) fn open(
        results: &Path,
        models: PathBuf,
        checkpoints: [u64; 4],
        identity: String,
    ) -> Result<Self> {
        for folder in [results, &models] {
            fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        let file = |name: &str| results.join(format!("temperature-{name}.csv"));
        Ok(Self {
            gradients: Table::open(&file("gradients"), &GRADIENT_HEAD, GRADIENT_KEYS)?,
            training: Table::open(&file("training"), &TRAINING_HEAD, TRAINING_KEYS)?,
            models,
            checkpoints,
            identity,
        })
    }

    /// The rows of this study.
    pub(crate) fn view(&self) -> View<'_> {
        View {
            gradients: &self.gradients,
            training: &self.training,
            identity: &self.identity,
            checkpoints: self.checkpoints,
        }
    }

    /// Whether a unit is done.
    pub(crate) fn has(&self, unit: &Unit) -> bool {
        match unit {
            Unit::Train(arity, learner, seed) => {
                let done = self.training.has(&self.training_name(*arity, learner, *seed));
                // What gradients are measured on may be missing although the result is there.
                let kept = |step: &u64| self.model_file(*arity, *step).is_file();
                done && (!unit.is_looked_at() || self.checkpoints.iter().all(kept))
            }
            Unit::Measure(arity, step, family, temperature) => {
                let name = |part| self.gradient_name(*arity, *step, *family, *temperature, part);
                PARTS.iter().all(|part| self.gradients.has(&name(part)))
            }
        }
    }

    fn training_name(&self, arity: Arity, learner: &Learner, seed: u64) -> Vec<String> {
        let Arity { categories, variables } = arity;
        let (categories, variables) = (categories.to_string(), variables.to_string());
        let names = [learner.estimator().to_owned(), learner.rule(), seed.to_string()];
        [self.identity.clone(), categories, variables].into_iter().chain(names).collect()
    }

    fn gradient_name(
        &self,
        arity: Arity,
        step: u64,
        family: Family,
        temperature: f64,
        part: &str,
    ) -> Vec<String> {
        vec![
            self.identity.clone(),
            arity.categories.to_string(),
            arity.variables.to_string(),
            step.to_string(),
            family.name().to_owned(),
            temperature.to_string(),
            part.to_owned(),
        ]
    }

    /// The model after a step.
    fn model_file(&self, arity: Arity, step: u64) -> PathBuf {
        self.models.join(format!("{}-{}-{step}.safetensors", self.identity, arity.categories))
    }
}

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
    let fresh = file.with_extension("new");
    candle_core::safetensors::save(&tensors, &fresh)
        .map_err(anyhow::Error::from)
        .and_then(|()| Ok(fs::rename(&fresh, file)?))
        .with_context(|| format!("writing {}", file.display()))
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

fn training_row(name: Vec<String>, trained: &Trained, setting: Setting<'_>) -> Vec<String> {
    let numbers = [
        trained.test_elbo,
        trained.test_log_likelihood,
        trained.valid_elbo,
        trained.test_objective,
    ];
    let tail = trained.temperatures.into_iter().chain([1e3 * trained.seconds_per_step]);
    name.into_iter()
        .chain([setting.sizes.steps.to_string()])
        .chain(numbers.into_iter().chain(tail).map(number))
        .collect()
}

fn gradient_row(name: Vec<String>, m: &Measurement, setting: Setting<'_>) -> Vec<String> {
    let estimates = [m.norm, m.bias, m.variance, m.mean_squared_error, m.cosine, m.cosine_of_mean];
    name.into_iter()
        .chain([setting.sizes.batch.to_string(), m.replicates.to_string(), number(m.exact_norm())])
        .chain(estimates.iter().flat_map(|e| [e.value, e.error]).map(number))
        .chain([number(m.signal_to_noise())])
        .collect()
}

/// Seven digits; nothing where there is no number.
fn number(x: f64) -> String {
    if x.is_finite() { format!("{x:.6e}") } else { String::new() }
}
