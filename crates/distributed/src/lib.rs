//! Several processes that train one model: who they are, and what they tell one another.
//!
//! A process is a *rank* of a *world*. [`join`] finds out from the launcher's environment which one this process is, and connects it
//! to the others through an engine that exists (MPI with the feature `mpi`, NCCL with `nccl`); alone it is [`Single`]. Sums over all ranks are made in
//! a fixed order, see [`Communicator::sum`], so that they have the same bits for however many ranks compute them.
mod environment;
mod error;
mod join;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "nccl")]
mod nccl;
mod single;
mod sum;
mod threads;

use std::fmt::Debug;

use candle_core::Tensor;

pub use environment::{Launched, launched};
pub use error::{Error, Result};
pub use join::join;
#[cfg(feature = "mpi")]
pub use mpi::Mpi;
#[cfg(feature = "nccl")]
pub use nccl::Nccl;
pub use single::Single;
pub use sum::halves;
pub use threads::{Threads, on_threads};

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
