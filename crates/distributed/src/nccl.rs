//! Processes with a GPU each, which NCCL connects.
use std::fmt::Debug;
use std::rc::Rc;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::{
    CudaContext, CudaStream, DeviceRepr, ValidAsZeroBits,
};
use candle_core::cuda_backend::cudarc::nccl::{Comm, Id, NcclType};
use candle_core::cuda_backend::{CudaDType, CudaStorage};
use candle_core::op::BackpropOp;
use candle_core::{DType, Device, Storage, Tensor};

use crate::sum::{Exchange, of_tensors};
use crate::{Communicator, Error, Launched, Result};

/// Where processes without MPI find the first one; NCCL itself reads it.
const MEETING: &str = "NCCL_COMM_ID";

/// A process with a GPU, connected to the others by NCCL: tensors go from GPU to GPU.
///
/// Not tried on hardware yet.
#[derive(Debug)]
pub struct Nccl {
    comm: Comm,
    /// What connects the hosts, where something does: for all that is not on a GPU.
    hosts: Option<Rc<dyn Communicator>>,
}

fn failed(error: impl Debug) -> Error {
    Error::Engine(format!("{error:?}"))
}

impl Nccl {
    /// Whether this machine has GPUs.
    #[must_use]
    pub fn has_gpus() -> bool {
        CudaContext::device_count().is_ok_and(|count| count > 0)
    }

    /// Connects this process, with the GPU of that number; all processes meet where rank 0 says, through `hosts` or, without
    /// them, at the address in `NCCL_COMM_ID`.
    ///
    /// # Errors
    /// If there is no such GPU, or NCCL does not find the others.
    pub fn init(
        launched: Launched,
        gpu: usize,
        hosts: Option<Rc<dyn Communicator>>,
    ) -> Result<Self> {
        let Launched { rank, size, .. } = launched;
        if hosts.is_none() && std::env::var_os(MEETING).is_none() {
            return Err(Error::Engine(format!(
                "set {MEETING}=HOST:PORT to an address of the machine of rank 0, the same for all, or build with --features mpi"
            )));
        }
        let stream =
            CudaContext::new(gpu).and_then(|context| context.new_stream()).map_err(failed)?;
        // With an address in the environment every rank gets the same one.
        let own =
            if hosts.is_none() || rank == 0 { Some(Id::new().map_err(failed)?) } else { None };
        let id = match &hosts {
            None => own.ok_or_else(|| failed("no identity"))?,
            Some(hosts) => {
                let bytes = own.map_or_else(Vec::new, |id| id.internal().map(|c| c as u8).to_vec());
                let bytes: [u8; 128] = hosts.broadcast_bytes(bytes)?.try_into().map_err(failed)?;
                Id::uninit(bytes.map(|byte| byte as _))
            }
        };
        Ok(Self { comm: Comm::from_rank(stream, rank, size, id).map_err(failed)?, hosts })
    }

    fn stream(&self) -> Arc<CudaStream> {
        self.comm.stream()
    }

    /// Row `i` of `blocks` to rank `i`, or all of it to each; one row from each.
    fn exchange<T>(&self, blocks: &Tensor, to_each: bool) -> Result<Tensor>
    where
        T: CudaDType + NcclType + DeviceRepr + ValidAsZeroBits,
    {
        let Device::Cuda(device) = blocks.device() else {
            return Err(failed("a tensor that is not on a CUDA device"));
        };
        let row = if to_each { blocks.elem_count() } else { blocks.elem_count() / self.size() };
        let mut received = Vec::with_capacity(self.size());
        for _ in 0..self.size() {
            received.push(device.alloc_zeros::<T>(row)?);
        }
        // What is sent has to be there, on whatever stream it was made.
        blocks.device().synchronize()?;
        {
            let (storage, layout) = blocks.storage_and_layout();
            let Storage::Cuda(storage) = &*storage else {
                return Err(failed("a tensor that is not on a CUDA device"));
            };
            let all = storage.as_cuda_slice::<T>()?;
            let views: Vec<_> = received.iter_mut().map(|place| place.as_view_mut()).collect();
            let mut group = self.comm.group();
            for (rank, place) in views.into_iter().enumerate() {
                let first = layout.start_offset() + if to_each { 0 } else { rank * row };
                let peer = i32::try_from(rank).map_err(failed)?;
                group.send(all.slice(first..first + row), peer).map_err(failed)?;
                group.recv(place, peer).map_err(failed)?;
            }
        }
        self.stream().synchronize().map_err(failed)?;
        let rows = received.into_iter().map(|row| {
            let length = row.len();
            let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(row, device.clone()));
            Tensor::from_storage(storage, length, BackpropOp::none(), false)
        });
        Ok(Tensor::stack(&rows.collect::<Vec<_>>(), 0)?)
    }

    fn typed(&self, tensor: &Tensor, to_each: bool) -> Result<Tensor> {
        match tensor.dtype() {
            DType::F32 => self.exchange::<f32>(tensor, to_each),
            DType::F64 => self.exchange::<f64>(tensor, to_each),
            dtype => Err(Error::Type(dtype)),
        }
    }

    /// As many bytes of every rank.
    fn gather(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let stream = self.stream();
        let send = stream.clone_htod(bytes).map_err(failed)?;
        let mut all = stream.alloc_zeros::<u8>(bytes.len() * self.size()).map_err(failed)?;
        self.comm.all_gather(&send, &mut all).map_err(failed)?;
        stream.clone_dtoh(&all).map_err(failed)
    }
}

impl Exchange for Nccl {
    fn all_to_all(&self, blocks: &Tensor) -> Result<Tensor> {
        Ok(self.typed(blocks, false)?.reshape(blocks.shape())?)
    }

    fn all_gather(&self, part: &Tensor) -> Result<Tensor> {
        self.typed(part, true)
    }
}

impl Communicator for Nccl {
    fn rank(&self) -> usize {
        self.comm.rank()
    }

    fn size(&self) -> usize {
        self.comm.world_size()
    }

    fn sum(&self, tensor: &Tensor) -> Result<Tensor> {
        of_tensors(self, tensor)
    }

    fn all_gather_bytes(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        if let Some(hosts) = &self.hosts {
            return hosts.all_gather_bytes(bytes);
        }
        let lengths = self.gather(&(bytes.len() as u64).to_le_bytes())?;
        let (lengths, _) = lengths.as_chunks::<8>();
        let lengths: Vec<usize> = lengths.iter().map(|n| u64::from_le_bytes(*n) as usize).collect();
        // All send as much as the longest.
        let longest = lengths.iter().copied().max().unwrap_or(0).max(1);
        let mut padded = bytes.to_vec();
        padded.resize(longest, 0);
        let all = self.gather(&padded)?;
        Ok(all.chunks(longest).zip(lengths).map(|(one, length)| one[..length].to_vec()).collect())
    }

    fn broadcast_bytes(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        if let Some(hosts) = &self.hosts {
            return hosts.broadcast_bytes(bytes);
        }
        let own = if self.rank() == 0 { bytes } else { Vec::new() };
        let length = self.all_gather_bytes(&(own.len() as u64).to_le_bytes())?.swap_remove(0);
        let length = u64::from_le_bytes(length.try_into().map_err(failed)?) as usize;
        let stream = self.stream();
        let mut sent = own;
        sent.resize(length.max(1), 0);
        let mut all = stream.clone_htod(&sent).map_err(failed)?;
        self.comm.broadcast_in_place(&mut all, 0).map_err(failed)?;
        let mut received = stream.clone_dtoh(&all).map_err(failed)?;
        received.truncate(length);
        Ok(received)
    }

    fn barrier(&self) -> Result<()> {
        match &self.hosts {
            Some(hosts) => hosts.barrier(),
            None => self.gather(&[0]).map(drop),
        }
    }

    fn abort(&self, code: u8) -> ! {
        if let Some(hosts) = &self.hosts {
            hosts.abort(code);
        }
        // The launcher ends those that wait for this one.
        std::process::exit(code.into())
    }
}
