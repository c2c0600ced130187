//! The loop around a training step.
mod config;
mod evaluation;
mod micro;
mod restore;

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor};
use gumbel_kernels::optimizer::first_not_finite;
use gumbel_metrics::Report;

use crate::checkpoint::{Checkpoint, State};
use crate::export::import;
use crate::optimizer::OptimizerError;
use crate::progress::Progress;
use crate::run::{Metrics, Status};
use crate::signals::Listening;
use crate::{Error, Optimizer, Params, Result, Run, clip_global_norm};

pub use config::{Precision, TrainConfig};
pub use evaluation::Evaluation;
pub(crate) use evaluation::drop_samples;
use micro::Computed;
pub use micro::MicroBatch;
use restore::{restore, share};

/// What a micro-batch of a training step, by default the whole batch, returns.
#[derive(Debug)]
pub struct Step {
    /// What is to become small, a scalar.
    pub loss: Tensor,
    /// The learning rate of this step, the same for each of its micro-batches.
    pub learning_rate: f64,
    /// Numbers to write where this step ends an interval.
    pub report: Report,
}

/// Computes the loss of a micro-batch.
type StepFn<'a> = dyn FnMut(MicroBatch) -> Result<Step> + 'a;
/// Evaluates the model between two steps.
type EvaluateFn<'a> = dyn FnMut(&mut Evaluation<'_>) -> Result<()> + 'a;

impl Run {
    /// Trains until `config.steps` steps are done, or goes on with that; [`Run::finish`] comes after it.
    ///
    /// Each step calls `step` for each of its micro-batches, then differentiates, averages, clips and updates; what `step` returns
    /// must depend on the micro-batch and on the parameters alone. The processes of a [`world`](crate::world) share the micro-batches, and
    /// all of them have to call this; only the first of them writes. `evaluate` is called every `evaluate_every` steps and at the
    /// end. Checkpoints are made before evaluations. A resumed run starts from its newest checkpoint,
    /// forgets what was written after it, and gives the same bits as one that was never stopped: the
    /// same parameters, the same `metrics.jsonl`, the same samples.
    ///
    /// A loss, a gradient or a parameter that is not finite ends the run with [`Error::NonFinite`], and
    /// is never saved. A signal (SIGINT, SIGTERM, SIGHUP, SIGUSR1) ends it after the current step with a
    /// checkpoint and [`Error::Interrupted`]. `examples_per_step` is for the throughput shown.
    pub fn train(
        &mut self,
        config: &TrainConfig,
        params: &Params,
        examples_per_step: usize,
        step: &mut StepFn<'_>,
        evaluate: &mut EvaluateFn<'_>,
    ) -> Result<()> {
        config.check()?;
        let listening = Listening::start(&self.stop())?;
        let outcome = train(self, config, params, examples_per_step, step, evaluate);
        drop(listening);
        // A second call goes on from where this one ended.
        self.resumed = true;
        let status = match &outcome {
            // Done is what `finish` says, when all results are written.
            Ok(()) => self.status.clone(),
            Err(Error::Interrupted { by, step, .. }) => {
                Status::Interrupted(format!("{by} at step {step}"))
            }
            // Refused before the first step: the run is as it was.
            Err(_) if self.status != Status::Running => self.status.clone(),
            Err(error) => Status::Failed(error.to_string()),
        };
        let written = if self.status == status { Ok(()) } else { self.set_status(status) };
        if let Err(Error::Interrupted { .. }) = &outcome {
            // All of them stop, and the one that leaves first may take the others with it.
            self.world().barrier()?;
        }
        // The error of the training is the one to know.
        outcome.and(written)
    }
}

fn train(
    run: &mut Run,
    config: &TrainConfig,
    params: &Params,
    examples_per_step: usize,
    step: &mut StepFn<'_>,
    evaluate: &mut EvaluateFn<'_>,
) -> Result<()> {
    let mut optimizer = Optimizer::new(&config.optimizer, params)?;
    let (mut start, mut imported) = (None, false);
    if run.leads() {
        start = restore(run, config, params, &mut optimizer)?;
        imported = start == Some(0) && begin_with_import(run, params)?;
    }
    let Some(start) = share(run, start, params, &mut optimizer)? else { return Ok(()) };
    run.adopt_config()?;
    run.set_status(Status::Running)?;
    let progress = Progress::start(run.quiet, start, config.steps, examples_per_step);
    let mut training =
        Training { run, config, params, optimizer, progress, done: start, saved: None };
    if imported {
        // A run that is resumed must not start from chance.
        training.save()?;
    }
    if start > 0 {
        training.saved = Some(start);
        training.evaluate_if_due(evaluate)?;
    } else if config.steps == 0 {
        training.save()?;
        training.evaluate_if_due(evaluate)?;
    }
    while training.done < config.steps {
        training.stop_if_asked()?;
        training.step(step)?;
        training.evaluate_if_due(evaluate)?;
    }
    let directory = training.run.directory().display();
    let line = format!("done: {} steps, results in {directory}", config.steps);
    training.progress.finish(&line);
    Ok(())
}

/// Gives a new run the parameters of `--init`; whether there are some.
fn begin_with_import(run: &mut Run, params: &Params) -> Result<bool> {
    const IDENTITY: &str = "init";
    match run.init.clone() {
        Some(folder) => {
            params.load(&import(&folder)?)?;
            run.record_identity(IDENTITY, &folder.display().to_string())?;
            tracing::info!("starting from {}", folder.display());
            Ok(true)
        }
        None if run.has_identity(IDENTITY) => Err(Error::Usage(format!(
            "{} was ended before its first checkpoint, and started from --init; start a new run",
            run.directory().display()
        ))),
        None => Ok(false),
    }
}

/// A run in the middle of its training.
struct Training<'a> {
    run: &'a mut Run,
    config: &'a TrainConfig,
    params: &'a Params,
    optimizer: Optimizer,
    progress: Progress,
    /// Steps that are done.
    done: u64,
    /// The step of the newest checkpoint.
    saved: Option<u64>,
}

impl Training<'_> {
    /// Whether something that happens every so many steps, and at the end, happens now.
    fn due(&self, every: u64) -> bool {
        self.is_due(self.done, every)
    }

    fn is_due(&self, done: u64, every: u64) -> bool {
        done == self.config.steps || (every > 0 && done.is_multiple_of(every))
    }

    /// Whether the numbers of the step that is computed now will be written.
    fn reports(&self) -> bool {
        self.is_due(self.done + 1, self.config.log_every)
    }

    fn step(&mut self, step: &mut StepFn<'_>) -> Result<()> {
        let Computed { loss, learning_rate, mut report, mut grads } = self.compute(step)?;
        if !loss.is_finite() {
            return Err(self.non_finite_loss(&report));
        }
        if !(learning_rate >= 0. && learning_rate.is_finite()) {
            let step = self.done;
            return Err(Error::Usage(format!(
                "the learning rate at step {step} is {learning_rate}, use a finite one, at least 0"
            )));
        }
        if let Some(norm) = self.update(&mut grads, learning_rate)? {
            report = report.number("grad_norm", norm);
        }
        self.done += 1;
        self.progress.advance(self.done);
        if self.due(self.config.log_every) {
            if report.is_empty() {
                report = report.number("loss", loss);
            }
            self.log(&report)?;
        }
        if self.due(self.config.checkpoint_every) {
            self.save()?;
        }
        Ok(())
    }

    /// Clips and updates; the norm of the gradients if they are clipped.
    fn update(&mut self, grads: &mut GradStore, learning_rate: f64) -> Result<Option<f64>> {
        let clip = |norm| clip_global_norm(self.params, grads, norm);
        let norm = self.config.clip_norm.map(clip).transpose();
        let updated = norm.and_then(|norm| {
            self.optimizer.step(self.params, grads, learning_rate)?;
            Ok(norm)
        });
        updated.map_err(|error| match error {
            OptimizerError::NotFinite { name } => {
                let what = format!("the gradient of `{name}`");
                Error::NonFinite { what, step: self.done }
            }
            error => error.into(),
        })
    }

    /// Why the loss is not finite: the first parameter, then the first number of the report that is not.
    fn non_finite_loss(&self, report: &Report) -> Error {
        let step = self.done;
        let parameter = match first_non_finite(self.params) {
            Ok(name) => name.map(|name| format!("the loss, and parameter `{name}` it comes from,")),
            Err(error) => return error,
        };
        let reported = || {
            let scalars = report.scalars().ok()?;
            let (name, _) = scalars.into_iter().find(|(_, value)| !value.is_finite())?;
            Some(format!("the loss, and `{name}` of its report,"))
        };
        let what = parameter.or_else(reported).unwrap_or_else(|| "the loss".to_owned());
        Error::NonFinite { what, step }
    }

    fn log(&mut self, report: &Report) -> Result<()> {
        if !self.run.leads() {
            return Ok(());
        }
        let scalars = report.scalars()?;
        self.run.record(self.done, "train", &scalars)?;
        let pace = self.progress.interval(self.done, &scalars);
        let line = serde_json::json!({
            "step": self.done,
            "seconds": pace.seconds,
            "examples_per_second": pace.examples_per_second,
        });
        self.run.time(&line.to_string())
    }

    /// Writes a checkpoint of the steps done, unless there is one already.
    fn save(&mut self) -> Result<()> {
        if self.saved == Some(self.done) {
            return Ok(());
        }
        if let Some(name) = first_non_finite(self.params)? {
            let what = format!("parameter `{name}`");
            return Err(Error::NonFinite { what, step: self.done });
        }
        self.saved = Some(self.done);
        let Some(metrics) = self.run.metrics.as_mut() else { return Ok(()) };
        // What the checkpoint says about the file must be true after a power failure, too.
        metrics.sync()?;
        let metrics_bytes = metrics.bytes();
        let fingerprint = self.run.fingerprint.clone();
        let checkpoint = Checkpoint {
            state: State::new(self.done, metrics_bytes, fingerprint),
            model: self.params.tensors()?,
            optimizer: self.optimizer.state()?,
        };
        checkpoint.save(&self.run.checkpoints(), self.config.keep)?;
        tracing::debug!("checkpoint of step {}", self.done);
        Ok(())
    }

    fn evaluate_if_due(&mut self, evaluate: &mut EvaluateFn<'_>) -> Result<()> {
        if !self.due(self.config.evaluate_every) {
            return Ok(());
        }
        self.stop_if_asked()?;
        let before = self.run.metrics.as_ref().map(Metrics::bytes);
        let last = self.done == self.config.steps;
        let outcome = evaluate(&mut Evaluation::new(self.run, self.done, last));
        if let Err(Error::Interrupted { .. }) = outcome {
            // As if the evaluation had not begun; the resumed run begins with it.
            self.run.forget(before, self.done)?;
            self.stop_if_asked()?;
        }
        outcome
    }

    /// If somebody asked: a checkpoint, and an error that ends the training.
    fn stop_if_asked(&mut self) -> Result<()> {
        let Some(by) = self.run.asked_to_stop()? else { return Ok(()) };
        self.save()?;
        let dir = self.run.directory().to_path_buf();
        Err(Error::Interrupted { by, step: self.done, dir })
    }
}

fn scalar(loss: &Tensor) -> Result<f64> {
    if loss.elem_count() != 1 {
        let shape = loss.shape();
        return Err(Error::caller(70, format!("the loss has shape {shape:?}, make it a scalar")));
    }
    Ok(loss.detach().flatten_all()?.get(0)?.to_dtype(DType::F64)?.to_scalar()?)
}

/// The first parameter in name order with a NaN or an infinity in it.
fn first_non_finite(params: &Params) -> Result<Option<String>> {
    let params = params.iter();
    let tensors: Vec<&Tensor> = params.iter().map(|(_, var)| var.as_tensor()).collect();
    Ok(first_not_finite(&tensors)?.map(|i| params[i].0.clone()))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use gumbel_kernels::Key;

    use super::*;

    #[test]
    fn the_first_parameter_that_is_not_finite_is_found() {
        let params = Params::new(Key::from_seed(1), DType::F32, &Device::Cpu);
        for name in ["a", "b", "c"] {
            params.var_builder().get(3, name).unwrap();
        }
        assert_eq!(first_non_finite(&params).unwrap(), None);
        for (name, bad) in [("c", f32::NAN), ("b", f32::NEG_INFINITY)] {
            params.set(name, &Tensor::new(&[1., bad, 2.], &Device::Cpu).unwrap()).unwrap();
            assert_eq!(first_non_finite(&params).unwrap().as_deref(), Some(name));
        }
    }

    #[test]
    fn a_loss_is_one_number_of_any_type_and_shape() {
        let loss = Tensor::new(&[[2.5f32]], &Device::Cpu).unwrap();
        assert_eq!(scalar(&loss).unwrap(), 2.5);
        let loss = Tensor::new(&[1f64, 2.], &Device::Cpu).unwrap();
        assert!(scalar(&loss).unwrap_err().to_string().contains("[2]"));
    }
}
