//! Kernels at work on the numbers of an Apple GPU.
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::metal_backend::DeviceId;
use candle_core::{
    DType, Device, Layout, MetalDevice, MetalError, MetalStorage, Result, Shape, Storage, Tensor,
    bail,
};
use candle_metal_kernels::metal::{Buffer, ComputeCommandEncoder, ComputePipeline};
use objc2_metal::{MTLCompileOptions, MTLSize};

use super::SOURCE;
use crate::gpu::Value;

/// Threads that exchange numbers.
const EXCHANGE: usize = 32;
/// Threads of a group, at most.
const THREADS: usize = 256;

/// What the source needs of Metal.
const HEADER: &str = "#include <metal_stdlib>\nusing namespace metal;\n";

/// Compiled kernels of this process, by device.
static PIPELINES: LazyLock<Mutex<HashMap<(DeviceId, &'static str), ComputePipeline>>> =
    LazyLock::new(Mutex::default);

pub(super) fn device(tensor: &Tensor) -> Result<MetalDevice> {
    match tensor.device() {
        Device::Metal(device) => Ok(device.clone()),
        other => bail!("expected a tensor on a Metal device, got one on {:?}", other.location()),
    }
}

/// A kernel by its name.
fn pipeline(device: &MetalDevice, name: &'static str) -> Result<ComputePipeline> {
    let mut pipelines = PIPELINES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pipeline) = pipelines.get(&(device.id(), name)) {
        return Ok(pipeline.clone());
    }
    let options = MTLCompileOptions::new();
    #[expect(deprecated, reason = "its successor is not there before macOS 15")]
    options.setFastMathEnabled(false);
    let library = device
        .new_library_with_source(&[HEADER, SOURCE].concat(), Some(&options))
        .map_err(MetalError::from)?;
    let function = library.get_function(name, None).map_err(MetalError::from)?;
    let pipeline =
        device.new_compute_pipeline_state_with_function(&function).map_err(MetalError::from)?;
    pipelines.insert((device.id(), name), pipeline.clone());
    Ok(pipeline)
}

/// Runs `threads` threads of a kernel on tensors, whose numbers must be contiguous, and writes `out`. `arguments` is the
/// structure that the kernel has after its tensors.
pub(super) fn launch<A>(
    device: &MetalDevice,
    name: &'static str,
    inputs: &[&Tensor],
    out: &Buffer,
    arguments: &A,
    threads: usize,
) -> Result<()> {
    if threads == 0 {
        return Ok(());
    }
    let pipeline = pipeline(device, name)?;
    let guard = device.command_encoder()?;
    let encoder: &ComputeCommandEncoder = guard.as_ref();
    encoder.set_compute_pipeline_state(&pipeline);
    for (i, input) in inputs.iter().enumerate() {
        let (storage, layout) = input.storage_and_layout();
        let (storage, offset) = numbers(&storage, layout)?;
        encoder.set_input_buffer(i, Some(storage.buffer()), offset);
    }
    encoder.set_output_buffer(inputs.len(), Some(out), 0);
    encoder.set_bytes(inputs.len() + 1, arguments);
    let of = |width| MTLSize { width, height: 1, depth: 1 };
    let group = pipeline.max_total_threads_per_threadgroup().min(THREADS) / EXCHANGE * EXCHANGE;
    encoder.dispatch_threads(of(threads.next_multiple_of(EXCHANGE)), of(group.max(EXCHANGE)));
    Ok(())
}

/// The numbers of a contiguous tensor, and where they start, in bytes.
fn numbers<'a>(storage: &'a Storage, layout: &Layout) -> Result<(&'a MetalStorage, usize)> {
    match (storage, layout.contiguous_offsets()) {
        (Storage::Metal(storage), Some((start, _))) if storage.dtype() == DType::F32 => {
            Ok((storage, start * DType::F32.size_in_bytes()))
        }
        _ => bail!("expected contiguous numbers of single precision on a Metal device"),
    }
}

/// Memory for `n` numbers, each of which the kernel that follows writes.
pub(super) fn room(device: &MetalDevice, n: usize) -> Result<Arc<Buffer>> {
    device.new_buffer(n.max(1), DType::F32, "gumbel")
}

pub(super) fn value(device: &MetalDevice, numbers: Arc<Buffer>, shape: impl Into<Shape>) -> Value {
    let shape = shape.into();
    let storage = MetalStorage::new(numbers, device.clone(), shape.elem_count().max(1), DType::F32);
    Value(Storage::Metal(storage), shape)
}
