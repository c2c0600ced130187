//! The loop around a training step.
use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use gumbel_kernels::optimizer::first_not_finite;
use gumbel_metrics::Report;

use super::micro::Computed;
use super::step::{EvaluateFn, StepFn};
use super::{Evaluation, TrainConfig};
use crate::checkpoint::{Checkpoint, State};
use crate::progress::Progress;
use crate::run::Metrics;
use crate::{Error, Optimizer, OptimizerError, Params, Result, Run, clip_global_norm};

/// A run in the middle of its training.
pub(super) struct Training<'a> {
    pub(super) run: &'a mut Run,
    pub(super) config: &'a TrainConfig,
    pub(super) params: &'a Params,
    pub(super) optimizer: Optimizer,
    pub(super) progress: Progress,
    /// Steps that are done.
    pub(super) done: u64,
    /// The step of the newest checkpoint.
    pub(super) saved: Option<u64>,
    /// The step of the latest evaluation, and the bytes of the metrics before it.
    pub(super) evaluated_from: Option<(u64, u64)>,
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
    pub(super) fn reports(&self) -> bool {
        self.is_due(self.done + 1, self.config.log_every)
    }

    pub(super) fn step(&mut self, step: &mut StepFn<'_>) -> Result<()> {
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
        let parameters = self.params.iter();
        let parameter = match first_non_finite(&parameters) {
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
    pub(super) fn save(&mut self) -> Result<()> {
        if self.saved == Some(self.done) {
            return Ok(());
        }
        for (kind, tensors) in [
            ("parameter", self.params.iter()),
            ("running statistic", self.params.named_statistics()),
            ("state of the optimizer", self.optimizer.named_slots()),
        ] {
            if let Some(name) = first_non_finite(&tensors)? {
                let what = format!("{kind} `{name}`");
                return Err(Error::NonFinite { what, step: self.done });
            }
        }
        self.saved = Some(self.done);
        let Some(metrics) = self.run.metrics.as_mut() else { return Ok(()) };
        // What the checkpoint says about the file must be true after a power failure, too.
        metrics.sync()?;
        // A checkpoint is of before the evaluation, also one that is made after it.
        let before = self.evaluated_from.filter(|(step, _)| *step == self.done);
        let metrics_bytes = before.map_or_else(|| metrics.bytes(), |(_, bytes)| bytes);
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

    pub(super) fn evaluate_if_due(&mut self, evaluate: &mut EvaluateFn<'_>) -> Result<()> {
        if !self.due(self.config.evaluate_every) {
            return Ok(());
        }
        self.stop_if_asked()?;
        let before = self.run.metrics.as_ref().map(Metrics::bytes);
        self.evaluated_from = before.map(|bytes| (self.done, bytes));
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
    pub(super) fn stop_if_asked(&mut self) -> Result<()> {
        let Some(by) = self.run.asked_to_stop()? else { return Ok(()) };
        self.save()?;
        let dir = self.run.directory().to_path_buf();
        Err(Error::Interrupted { by, step: self.done, dir })
    }
}

/// The name of the first tensor with a NaN or an infinity in it.
fn first_non_finite(tensors: &[(String, Var)]) -> Result<Option<&str>> {
    let all: Vec<&Tensor> = tensors.iter().map(|(_, var)| var.as_tensor()).collect();
    if all.is_empty() {
        return Ok(None);
    }
    Ok(first_not_finite(&all)?.map(|i| tensors[i].0.as_str()))
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use gumbel_kernels::Key;

    use super::*;

    #[test]
    fn the_first_parameter_that_is_not_finite_is_found() {
        let params = Params::new(Key::from_seed(1), DType::F32, &Device::Cpu);
        for name in ["a", "b", "c"] {
            params.var_builder().get(3, name).unwrap();
        }
        let found = || {
            let parameters = params.iter();
            first_non_finite(&parameters).unwrap().map(str::to_owned)
        };
        assert_eq!(found(), None);
        for (name, bad) in [("c", f32::NAN), ("b", f32::NEG_INFINITY)] {
            params.set(name, &Tensor::new(&[1., bad, 2.], &Device::Cpu).unwrap()).unwrap();
            assert_eq!(found().as_deref(), Some(name));
        }
    }
}
