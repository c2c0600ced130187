//! Training, from its start or from where it was stopped.
use super::TrainConfig;
use super::restore::{restore, share};
use super::step::{EvaluateFn, StepFn};
use super::training::Training;
use crate::progress::Progress;
use crate::run::Status;
use crate::signals::Listening;
use crate::{Error, Optimizer, Params, Result, Run};

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
    let mut start = None;
    if run.leads() {
        start = restore(run, config, params, &mut optimizer)?;
    }
    let Some(start) = share(run, start, params, &mut optimizer)? else { return Ok(()) };
    run.adopt_config()?;
    run.set_status(Status::Running)?;
    let progress = Progress::start(run.quiet, start, config.steps, examples_per_step);
    let mut training = Training {
        run,
        config,
        params,
        optimizer,
        progress,
        done: start,
        saved: None,
        evaluated_from: None,
    };
    if start == 0 && training.run.init.is_some() {
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
