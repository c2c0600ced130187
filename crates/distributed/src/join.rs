//! From the environment of a launcher to a connection.
use std::rc::Rc;

#[cfg(feature = "nccl")]
use crate::Nccl;
use crate::{Communicator, Error, Launched, Result, Single, launched};
#[cfg(feature = "mpi")]
use crate::{Mpi, environment};

/// Connects this process to the others that its launcher started; [`Single`] if there are none.
///
/// `gpu` is the number of the GPU that the model is on, if it is on one. Everything that is done with the result has
/// to happen on the thread that called this, once in a process.
///
/// # Errors
/// If there are others, and they cannot be reached.
pub fn join(gpu: Option<usize>) -> Result<Rc<dyn Communicator>> {
    let Some(launched) = launched(|name| std::env::var(name).ok())? else {
        return Ok(Rc::new(Single));
    };
    let Launched { launcher, rank, size, .. } = launched;
    let connected = through_gpus(launched, through_mpi(launched)?, gpu)?;
    connected.ok_or(Error::NotBuilt { launcher, rank, size })
}

#[cfg(feature = "mpi")]
fn through_mpi(launched: Launched) -> Result<Option<Rc<dyn Communicator>>> {
    if cfg!(feature = "nccl") && launched.launcher == environment::OTHER {
        return Ok(None);
    }
    let world = Mpi::init()?;
    if world.size() != launched.size {
        let Launched { launcher, size, .. } = launched;
        return Err(Error::NotConnected { launcher, size, found: world.size() });
    }
    Ok(Some(Rc::new(world)))
}

#[cfg(not(feature = "mpi"))]
fn through_mpi(_: Launched) -> Result<Option<Rc<dyn Communicator>>> {
    Ok(None)
}

#[cfg(feature = "nccl")]
fn through_gpus(
    launched: Launched,
    hosts: Option<Rc<dyn Communicator>>,
    gpu: Option<usize>,
) -> Result<Option<Rc<dyn Communicator>>> {
    match gpu.filter(|_| Nccl::has_gpus()) {
        None => Ok(hosts),
        Some(gpu) => Ok(Some(Rc::new(Nccl::init(launched, gpu, hosts)?))),
    }
}

#[cfg(not(feature = "nccl"))]
fn through_gpus(
    _: Launched,
    hosts: Option<Rc<dyn Communicator>>,
    _: Option<usize>,
) -> Result<Option<Rc<dyn Communicator>>> {
    Ok(hosts)
}
