//! Several processes that train one model: who they are, and what they tell one another.
//!
//! A process is a *rank* of a *world*. [`join`] finds out from the launcher's environment which one this process is, and connects it
//! to the others through an engine that exists (MPI with the feature `mpi`, NCCL with `nccl`); alone it is [`Single`]. Sums over all ranks are made in
//! a fixed order, see [`Communicator::sum`], so that they have the same bits for however many ranks compute them.
mod environment;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "nccl")]
mod nccl;
mod single;
mod sum;
mod threads;

use std::fmt::Debug;
use std::rc::Rc;

use candle_core::{DType, Tensor};

pub use environment::{Launched, launched};
#[cfg(feature = "mpi")]
pub use mpi::Mpi;
#[cfg(feature = "nccl")]
pub use nccl::Nccl;
pub use single::Single;
pub use sum::halves;
pub use threads::{Threads, on_threads};

/// What can go wrong between ranks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The launcher started several processes, and this one cannot talk to the others.
    #[error(
        "{launcher} started {size} processes of which this is number {rank}, and this build cannot connect them; build it with --features mpi, \
         or let each be alone with --no-distributed"
    )]
    NotBuilt {
        /// The program that started them.
        launcher: &'static str,
        /// Number of this process.
        rank: usize,
        /// How many there are.
        size: usize,
    },
    /// The engine did not connect what the launcher started.
    #[error(
        "{launcher} started {size} processes, but MPI connects {found}; start them with the mpirun of the MPI that this was built with, or \
         with srun --mpi=pmix"
    )]
    NotConnected {
        /// The program that started them.
        launcher: &'static str,
        /// How many it started.
        size: usize,
        /// How many found one another.
        found: usize,
    },
    /// A number in the launcher's environment that is none.
    #[error(
        "the environment variable {name} is `{value}`; it has to be a number, with the rank below the number of ranks"
    )]
    Environment {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// The engine does not start, or fails.
    #[error("the processes cannot be connected: {0}")]
    Engine(String),
    /// A tensor of a type that is not sent.
    #[error("tensors between processes are of type F32 or F64, not {0:?}")]
    Type(DType),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// What this crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One process among those that train a model together.
///
/// All methods but [`rank`](Self::rank), [`size`](Self::size) and [`abort`](Self::abort) are collective: they return when every rank has called
/// them, in the same order. Tensors are of single or double precision and contiguous.
pub trait Communicator: Debug {
    /// Number of this process, from 0.
    fn rank(&self) -> usize;

    /// How many processes there are.
    fn size(&self) -> usize;

    /// What every rank has to say, in their order.
    fn all_gather_bytes(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// What rank 0 has to say; the `bytes` of the others are not looked at.
    fn broadcast_bytes(&self, bytes: Vec<u8>) -> Result<Vec<u8>>;

    /// The sum of the tensors of all ranks, on every rank; of one shape, in single or double precision.
    ///
    /// Each rank sums a stretch of the elements, in the order of [`halves`], and then they are put together: `2 (W - 1) / W` of the tensor
    /// leave each of `W` ranks, which is no more than a ring needs, but the order in which numbers are added does not depend on who adds
    /// them.
    ///
    /// # Errors
    /// If the tensor is of another type.
    fn sum(&self, tensor: &Tensor) -> Result<Tensor>;

    /// Waits until every rank is here.
    fn barrier(&self) -> Result<()>;

    /// Ends all processes, each with exit code `code`.
    fn abort(&self, code: u8) -> !;
}

/// Connects this process to the others that its launcher started; [`Single`] if there are none.
///
/// `gpu` is the number of the GPU that the model is on, if it is on one. Everything that is done with the result has to happen on the thread that called this, once in
/// a process.
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
