//! Processes that MPI connects.
use std::ops::AddAssign;

use candle_core::{DType, Tensor};
use mpi::datatype::PartitionMut;
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator as _, CommunicatorCollectives as _, Equivalence, Root as _};

use crate::sum::of_rows;
use crate::{Communicator, Error, Result};

/// Elements of a sum that are on their way at a time: they stay in the cache.
const PIECE: usize = 1 << 17;

/// Bytes of one message: counts of MPI have 31 bits.
const MESSAGE: usize = 1 << 30;

/// A process that `mpirun`, `srun --mpi=pmix` or another launcher of MPI started.
///
/// An error of MPI itself ends all processes, as MPI does by default. All calls come from the thread that called [`Mpi::init`].
pub struct Mpi {
    world: SimpleCommunicator,
    /// Ends MPI when it is dropped: after the communicator.
    _universe: Universe,
}

impl std::fmt::Debug for Mpi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mpi({} of {})", self.rank(), self.size())
    }
}

impl Mpi {
    /// Starts MPI in this process, which can be done once.
    ///
    /// # Errors
    /// If it was started before.
    pub fn init() -> Result<Self> {
        let (universe, _) = mpi::initialize_with_threading(mpi::Threading::Funneled)
            .ok_or_else(|| Error::Engine("MPI was started before in this process".to_owned()))?;
        Ok(Self { world: universe.world(), _universe: universe })
    }

    /// The sum over all ranks, in place.
    fn sum_in_place<T: Equivalence + Copy + Default + AddAssign>(&self, values: &mut [T]) {
        let size = self.size();
        let mut received = vec![T::default(); PIECE.next_multiple_of(size)];
        let mut add = |piece: &mut [T]| {
            let received = &mut received[..piece.len()];
            let stretch = piece.len() / size;
            self.world.all_to_all_into(&piece[..], &mut received[..]);
            of_rows(received, stretch);
            self.world.all_gather_into(&received[..stretch], piece);
        };
        let whole = values.len() - values.len() % size;
        let (pieces, rest) = values.split_at_mut(whole);
        pieces.chunks_mut(PIECE.next_multiple_of(size)).for_each(&mut add);
        if !rest.is_empty() {
            let mut padded = vec![T::default(); size];
            padded[..rest.len()].copy_from_slice(rest);
            add(&mut padded);
            rest.copy_from_slice(&padded[..rest.len()]);
        }
    }
}

impl Communicator for Mpi {
    fn rank(&self) -> usize {
        self.world.rank().unsigned_abs() as usize
    }

    fn size(&self) -> usize {
        self.world.size().unsigned_abs() as usize
    }

    fn sum(&self, tensor: &Tensor) -> Result<Tensor> {
        let (flat, shape, device) = (tensor.flatten_all()?, tensor.shape(), tensor.device());
        Ok(match tensor.dtype() {
            DType::F32 => {
                let mut values = flat.to_vec1::<f32>()?;
                self.sum_in_place(&mut values);
                Tensor::from_vec(values, shape, device)?
            }
            DType::F64 => {
                let mut values = flat.to_vec1::<f64>()?;
                self.sum_in_place(&mut values);
                Tensor::from_vec(values, shape, device)?
            }
            dtype => return Err(Error::Type(dtype)),
        })
    }

    fn all_gather_bytes(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut lengths = vec![0u64; self.size()];
        self.world.all_gather_into(&(bytes.len() as u64), &mut lengths[..]);
        let total: u64 = lengths.iter().sum();
        if total >= MESSAGE as u64 {
            let text = format!("{total} bytes at once from all ranks, use less than {MESSAGE}");
            return Err(candle_core::Error::Msg(text).into());
        }
        let counts: Vec<i32> = lengths.iter().map(|length| *length as i32).collect();
        let starts: Vec<i32> = counts
            .iter()
            .scan(0, |end, count| {
                let start = *end;
                *end += count;
                Some(start)
            })
            .collect();
        let mut all = vec![0u8; total as usize];
        let mut places = PartitionMut::new(&mut all[..], counts, starts);
        self.world.all_gather_varcount_into(bytes, &mut places);
        let mut rest = &all[..];
        let of_each = lengths.iter().map(|length| {
            let (own, after) = rest.split_at(*length as usize);
            rest = after;
            own.to_vec()
        });
        Ok(of_each.collect())
    }

    fn broadcast_bytes(&self, mut bytes: Vec<u8>) -> Result<Vec<u8>> {
        let root = self.world.process_at_rank(0);
        let mut length = bytes.len() as u64;
        root.broadcast_into(&mut length);
        bytes.resize(length as usize, 0);
        for part in bytes.chunks_mut(MESSAGE) {
            root.broadcast_into(part);
        }
        Ok(bytes)
    }

    fn barrier(&self) -> Result<()> {
        self.world.barrier();
        Ok(())
    }

    fn abort(&self, code: u8) -> ! {
        self.world.abort(code.into())
    }
}
