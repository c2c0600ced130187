//! Ranks that are threads of one process, for tests.
use std::sync::{Arc, Barrier, Mutex, PoisonError};

use candle_core::{DType, Device, Tensor};

use crate::sum::{Exchange, of_tensors};
use crate::{Communicator, Error, Result};

/// What the ranks have in common.
#[derive(Debug)]
struct Shared {
    here: Barrier,
    said: Mutex<Vec<Vec<u8>>>,
}

/// A rank that is a thread: what the other engines do between processes, without an engine. See [`on_threads`].
#[derive(Clone, Debug)]
pub struct Threads {
    rank: usize,
    size: usize,
    shared: Arc<Shared>,
}

/// Runs `rank` on as many threads as there are ranks, and returns what each of them did.
///
/// ```
/// use gumbel_distributed::{Communicator, on_threads};
/// let heard = on_threads(3, |world| world.all_gather_bytes(&[world.rank() as u8]).unwrap());
/// assert_eq!(heard[2], [[0], [1], [2]]);
/// ```
pub fn on_threads<T: Send>(size: usize, rank: impl Fn(&Threads) -> T + Sync) -> Vec<T> {
    let said = Mutex::new(vec![Vec::new(); size]);
    let shared = Arc::new(Shared { here: Barrier::new(size), said });
    std::thread::scope(|scope| {
        let start = |number| {
            let (shared, rank) = (Arc::clone(&shared), &rank);
            scope.spawn(move || rank(&Threads { rank: number, size, shared }))
        };
        let threads: Vec<_> = (0..size).map(start).collect();
        let joined = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
        joined.map(|end| end.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// The numbers of a tensor as bytes.
fn bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    let flat = tensor.flatten_all()?;
    Ok(match tensor.dtype() {
        DType::F32 => flat.to_vec1::<f32>()?.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::F64 => flat.to_vec1::<f64>()?.iter().flat_map(|x| x.to_le_bytes()).collect(),
        dtype => return Err(Error::Type(dtype)),
    })
}

impl Exchange for Threads {
    fn all_to_all(&self, blocks: &Tensor) -> Result<Tensor> {
        let all = self.all_gather_bytes(&bytes(blocks)?)?;
        let own = all.iter().flat_map(|blocks| {
            let block = blocks.len() / self.size;
            blocks[self.rank * block..][..block].to_vec()
        });
        let own: Vec<u8> = own.collect();
        Ok(Tensor::from_raw_buffer(&own, blocks.dtype(), blocks.dims(), &Device::Cpu)?)
    }

    fn all_gather(&self, part: &Tensor) -> Result<Tensor> {
        let all = self.all_gather_bytes(&bytes(part)?)?.concat();
        Ok(Tensor::from_raw_buffer(
            &all,
            part.dtype(),
            &[self.size, part.elem_count()],
            &Device::Cpu,
        )?)
    }
}

impl Communicator for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn sum(&self, tensor: &Tensor) -> Result<Tensor> {
        of_tensors(self, tensor)
    }

    fn all_gather_bytes(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let said = || self.shared.said.lock().unwrap_or_else(PoisonError::into_inner);
        said()[self.rank] = bytes.to_vec();
        self.shared.here.wait();
        let all = said().clone();
        // Nobody speaks again before everybody has listened.
        self.shared.here.wait();
        Ok(all)
    }

    fn broadcast_bytes(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        Ok(self.all_gather_bytes(&bytes)?.swap_remove(0))
    }

    fn barrier(&self) -> Result<()> {
        self.shared.here.wait();
        Ok(())
    }

    fn abort(&self, code: u8) -> ! {
        std::process::exit(code.into())
    }
}
