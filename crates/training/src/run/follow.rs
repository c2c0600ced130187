//! Processes that help the first one of their world, and write nothing.
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::layout::TENSORBOARD;
use super::{Events, Status};
use crate::environment::Environment;
use crate::{Error, Result, Run, RunArgs, Stop, config, world};

/// What the first process tells the others of its run.
#[derive(Serialize, Deserialize)]
struct Lead {
    directory: PathBuf,
    config: String,
    resumed: bool,
    done: bool,
}

fn broken(error: serde_json::Error) -> Error {
    Error::caller(70, format!("what processes tell one another is broken: {error}"))
}

/// Tells the other processes which run they help with.
pub(super) fn lead(run: &Run, config_toml: &str) -> Result<()> {
    let lead = Lead {
        directory: run.directory.clone(),
        config: config_toml.to_owned(),
        resumed: run.resumed,
        done: run.status == Status::Done,
    };
    run.world.broadcast_bytes(serde_json::to_vec(&lead).map_err(broken)?)?;
    Ok(())
}

/// The run that the first process has, for one that helps it.
pub(super) fn follow(args: &RunArgs, config_toml: &str, seed: u64) -> Result<Run> {
    let world = world();
    let told = world.broadcast_bytes(Vec::new())?;
    let lead: Lead = serde_json::from_slice(&told).map_err(broken)?;
    if lead.config != config_toml {
        return Err(Error::Usage(format!(
            "process {} has another configuration than process 0; start all with the same options",
            world.rank()
        )));
    }
    Ok(Run {
        fingerprint: config::fingerprint(config_toml)?,
        new_config: None,
        metrics: None,
        events: Events::new(lead.directory.join(TENSORBOARD)),
        timing: None,
        quiet: true,
        init: args.init.clone(),
        resumed: lead.resumed,
        status: if lead.done { Status::Done } else { Status::Running },
        environment: Environment::current(seed, args.threads()),
        environment_file: String::new(),
        stop: Stop::default(),
        directory: lead.directory,
        world,
        _lock: None,
    })
}

/// An error unless all processes have the same `value` of what results depend on.
pub(super) fn same(run: &Run, name: &str, value: &str) -> Result<()> {
    if run.world.size() == 1 {
        return Ok(());
    }
    let told = run.world.all_gather_bytes(value.as_bytes())?;
    match told.iter().position(|other| other != value.as_bytes()) {
        None => Ok(()),
        Some(rank) => Err(Error::Usage(format!(
            "process {} has {name} {value}, but process {rank} has {}; give all of them the same data",
            run.world.rank(),
            String::from_utf8_lossy(&told[rank])
        ))),
    }
}
