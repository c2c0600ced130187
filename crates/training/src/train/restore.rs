//! Going on where a checkpoint was made.
use super::{TrainConfig, drop_samples};
use crate::checkpoint::{Checkpoint, State, prune};
use crate::run::Status;
use crate::{Error, Optimizer, Params, Result, Run};

/// Brings run, parameters and optimizer to where the newest checkpoint was made.
///
/// Returns the steps that are done; none if there is nothing left to do, and no file is touched then.
pub(super) fn restore(
    run: &mut Run,
    config: &TrainConfig,
    params: &Params,
    optimizer: &mut Optimizer,
) -> Result<Option<u64>> {
    let checkpoint = if run.resumed { Checkpoint::newest(&run.checkpoints())? } else { None };
    let Some(checkpoint) = checkpoint else {
        // Of a run that was killed before its first checkpoint nothing is kept.
        run.metrics.truncate(0)?;
        drop_samples(run, 0)?;
        return Ok(Some(0));
    };
    let State { step, metrics_bytes, config_sha256, .. } = &checkpoint.state;
    if *config_sha256 != run.fingerprint {
        let root = run.checkpoints();
        let reason = "made with another configuration; undo the change of config.toml";
        return Err(Error::corrupt(&root.join(format!("step-{step}")), reason));
    }
    params.load(&checkpoint.model)?;
    optimizer.load_state(&checkpoint.optimizer)?;
    if *step > config.steps {
        let steps = config.steps;
        return Err(Error::Usage(format!(
            "{step} steps of this run are done, so it cannot end at step {steps}; use a larger --steps"
        )));
    }
    if *step == config.steps && run.status == Status::Done {
        tracing::info!("nothing to do: all {step} steps are done; use a larger --steps to go on");
        return Ok(None);
    }
    // A process that was killed after a checkpoint may have left an old one behind.
    prune(&run.checkpoints(), *step, config.keep.max(1));
    run.metrics.truncate(*metrics_bytes)?;
    drop_samples(run, *step)?;
    tracing::info!("going on from step {step}");
    Ok(Some(*step))
}
