//! Going on where a checkpoint was made.
use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use super::TrainConfig;
use crate::checkpoint::{Checkpoint, State, decode, encode, prune};
use crate::export::import;
use crate::run::{INIT, Status};
use crate::{Error, Optimizer, Params, Result, Run};

/// Starts of the names of tensors that one process sends to the others.
const MODEL: &str = "model.";
const OPTIMIZER: &str = "state.";

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
        run.forget(Some(0), 0)?;
        begin_with_import(run, params)?;
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
    run.forget(Some(*metrics_bytes), *step)?;
    tracing::info!("going on from step {step}");
    Ok(Some(*step))
}

/// Gives a run without a checkpoint the parameters of `--init`, if it has that.
fn begin_with_import(run: &Run, params: &Params) -> Result<()> {
    match &run.init {
        Some(folder) => {
            params.load(&import(folder)?)?;
            tracing::info!("starting from {}", folder.display());
            Ok(())
        }
        None if run.has_identity(INIT) => Err(Error::Usage(format!(
            "{} was ended before its first checkpoint, and started from --init; start a new run",
            run.directory().display()
        ))),
        None => Ok(()),
    }
}

/// Gives every process what the first one starts from: the steps that are done, none where nothing is left to do, and all tensors.
pub(super) fn share(
    run: &Run,
    start: Option<u64>,
    params: &Params,
    optimizer: &mut Optimizer,
) -> Result<Option<u64>> {
    const START: &str = "start";
    let (world, mut all) = (run.world(), BTreeMap::new());
    if world.size() == 1 {
        return Ok(start);
    }
    if run.leads() {
        let named = |kind: &'static str| move |(name, tensor)| (format!("{kind}{name}"), tensor);
        all.extend(params.tensors()?.into_iter().map(named(MODEL)));
        all.extend(optimizer.state()?.into_iter().map(named(OPTIMIZER)));
        let start = start.map_or(-1, |step| step as i64);
        all.insert(START.to_owned(), Tensor::new(start, &Device::Cpu)?);
    }
    let received = decode(&world.broadcast_bytes(encode(&all)?)?)
        .map_err(|reason| Error::caller(70, format!("what the first process sent: {reason}")))?;
    let of = |kind| -> BTreeMap<String, Tensor> {
        let named = |(name, tensor): (&String, &Tensor)| {
            Some((name.strip_prefix(kind)?.to_owned(), tensor.clone()))
        };
        received.iter().filter_map(named).collect()
    };
    if !run.leads() {
        params.load(&of(MODEL))?;
        optimizer.load_state(&of(OPTIMIZER))?;
    }
    let start = received.get(START).map(Tensor::to_scalar::<i64>).transpose()?;
    Ok(start.and_then(|step| u64::try_from(step).ok()))
}
