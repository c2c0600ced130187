//! Numbers on a GPU, and kernels at work on them.
#![expect(unsafe_code, reason = "memory that a kernel fills, and arguments as C has them")]
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaSlice, CudaView, DeviceRepr, LaunchConfig,
};
use candle_core::cuda_backend::{CudaDType, CudaDevice, WrapErr};
use candle_core::{CudaStorage, DType, Device, Layout, Result, Shape, Storage, Tensor, bail};

use super::program::program;
use crate::Key;
use crate::gpu::Value;

/// Threads of a block.
const THREADS: u32 = 256;
/// Blocks of a kernel that goes through its numbers in strides, at most: enough for every processor of a large GPU.
const MOST_BLOCKS: u64 = 4096;
/// The same where many tensors share a launch.
const MOST_BLOCKS_OF_EACH: u32 = 512;
/// Rows of more are shared by a block.
const LONG: usize = 1024;

/// Whether the kernels take these tensors.
pub(crate) fn takes<const N: usize>(tensors: [&Tensor; N]) -> bool {
    let kind = |x: &Tensor| x.device().is_cuda() && x.dtype() == DType::F32;
    tensors.iter().all(|x| kind(x) && x.device().same_device(tensors[0].device()))
}

pub(super) fn device(tensor: &Tensor) -> Result<CudaDevice> {
    match tensor.device() {
        Device::Cuda(device) => Ok(device.clone()),
        other => bail!("expected a tensor on a CUDA device, got one on {:?}", other.location()),
    }
}

/// A kernel by its name.
pub(super) fn kernel(device: &CudaDevice, name: &str) -> Result<CudaFunction> {
    let capability = device.cuda_stream().context().compute_capability().w()?;
    let module = concat!("gumbel-kernels ", env!("CARGO_PKG_VERSION"));
    let kernel = device.get_or_load_custom_func(name, module, program(capability)?)?;
    Ok(kernel.into_cuda_function())
}

/// The numbers of a contiguous tensor on a GPU.
pub(super) fn numbers<'a, T: CudaDType>(
    storage: &'a Storage,
    layout: &Layout,
) -> Result<CudaView<'a, T>> {
    match (storage, layout.contiguous_offsets()) {
        (Storage::Cuda(storage), Some((start, end))) => {
            Ok(storage.as_cuda_slice::<T>()?.slice(start..end))
        }
        _ => bail!("expected contiguous numbers on a CUDA device"),
    }
}

/// Calls `$body` with the numbers of contiguous copies of tensors, as arguments of a kernel.
macro_rules! with_numbers {
    (|$($x:ident),+| $body:expr) => { with_numbers!(|$($x: f32),+| $body) };
    (|$($x:ident: $t:ty),+| $body:expr) => {{
        $(let $x = $x.contiguous()?;)+
        $(let $x = $x.storage_and_layout();)+
        $(let $x = $crate::cuda::launch::numbers::<$t>(&$x.0, $x.1)?;)+
        $body
    }};
}
pub(super) use with_numbers;

/// Launches a kernel, if it has something to do.
///
/// The arguments are those of the kernel of that name in `source`, in the same order and of the same types; every
/// pointer is to as many numbers as the other arguments make the kernel read or write.
macro_rules! launch {
    ($device:ident, $name:expr, $config:expr, $($argument:expr),+) => {{
        use candle_core::cuda_backend::WrapErr;
        use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
        if let Some(config) = $config {
            let kernel = $crate::cuda::launch::kernel(&$device, $name)?;
            let stream = $device.cuda_stream();
            let mut builder = stream.launch_builder(&kernel);
            // SAFETY: see above; each call was checked against the signature, and the sizes against the shapes.
            unsafe { builder$(.arg($argument))+.launch(config) }.w()?;
        }
    }};
}
pub(super) use launch;

/// Rows and numbers of a row of a shape.
pub(super) fn rows(shape: &Shape) -> Result<(usize, usize)> {
    match shape.dims().last() {
        Some(k) if *k > 0 => Ok((shape.elem_count() / k, *k)),
        _ => bail!("expected rows of at least one number, got shape {shape:?}"),
    }
}

/// Memory for `n` numbers, each of which the kernel that follows writes.
pub(super) fn room(device: &CudaDevice, n: usize) -> Result<CudaSlice<f32>> {
    // SAFETY: numbers of any bits are numbers, and every kernel of this module writes all of its output.
    unsafe { device.alloc::<f32>(n.max(1)) }
}

impl Value {
    pub(super) fn new<T: CudaDType>(
        device: &CudaDevice,
        numbers: CudaSlice<T>,
        shape: impl Into<Shape>,
    ) -> Self {
        let storage = CudaStorage::wrap_cuda_slice(numbers, device.clone());
        Self(Storage::Cuda(storage), shape.into())
    }
}

/// Blocks of threads; none where there is nothing to do, which a kernel of rows must not be asked for.
fn blocks(count: u32) -> Option<LaunchConfig> {
    (count > 0).then_some(LaunchConfig {
        grid_dim: (count, 1, 1),
        block_dim: (THREADS, 1, 1),
        shared_mem_bytes: 0,
    })
}

/// One thread for each of `n` numbers, or several numbers for each.
pub(super) fn strides(n: usize) -> Option<LaunchConfig> {
    blocks((n as u64).div_ceil(u64::from(THREADS)).min(MOST_BLOCKS) as u32)
}

/// The same for each of some tensors, of which the largest has `n` numbers.
pub(super) fn strides_of_each(tensors: usize, n: usize) -> Option<LaunchConfig> {
    let mut config = strides(n)?;
    config.grid_dim.0 = config.grid_dim.0.min(MOST_BLOCKS_OF_EACH);
    config.grid_dim.1 = tensors as u32;
    Some(config)
}

/// Threads for `rows` rows of `k` numbers, and how many share a row.
pub(super) fn rows_of(rows: usize, k: usize) -> Result<(Option<LaunchConfig>, u32)> {
    let lanes = if k > LONG { THREADS } else { (k.max(1) as u32).next_power_of_two().min(32) };
    let count = (rows as u64 * u64::from(lanes)).div_ceil(u64::from(THREADS));
    match i32::try_from(count) {
        Ok(count) => Ok((blocks(count as u32), lanes)),
        Err(_) => bail!("{rows} rows are more than a kernel takes; use fewer than 2^31"),
    }
}

/// The same for rows of noise, of which a thread makes four numbers at once.
pub(super) fn rows_of_draws(rows: usize, k: usize) -> Result<(Option<LaunchConfig>, u32)> {
    rows_of(rows, k.div_ceil(4))
}

/// The name of a stream, as the kernels have it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Stream([u32; 4]);

// SAFETY: plain words, laid out as `struct Stream` of `arithmetic.h`.
unsafe impl DeviceRepr for Stream {}

impl From<Key> for Stream {
    fn from(key: Key) -> Self {
        Self(key.words())
    }
}
