//! Updates and norms of many tensors in one launch.
#![expect(unsafe_code, reason = "kernels are launched")]
use std::cell::Cell;

use candle_core::cuda_backend::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::{DevicePtr, DevicePtrMut, DeviceRepr};
use candle_core::{CpuStorage, CudaStorage, InplaceOp1, Layout, Result, Tensor, Var, bail};

use super::launch::{device, launch, strides_of_each, with_numbers};
use crate::gpu::Value;
use crate::optimizer::{AdamStep, AdamTensors};

/// Tensors of a launch, at most: what its arguments have room for.
const MANY: usize = 96;

/// The coefficients of a step, as the kernel has them.
#[derive(Clone, Copy)]
#[repr(C)]
struct Step([f32; 8]);

// SAFETY: plain numbers, laid out as `struct AdamStep` of `source/optimizer.cu`.
unsafe impl DeviceRepr for Step {}

/// Where `COUNT` tensors of each of some parameters are, and how many numbers each has.
#[derive(Clone, Copy)]
#[repr(C)]
struct Places<const COUNT: usize> {
    pointers: [[u64; MANY]; COUNT],
    numbers: [u64; MANY],
}

// SAFETY: plain words, laid out as `struct AdamTensors` (of four) and `struct Tensors` (of one) of `source/optimizer.cu`.
unsafe impl<const COUNT: usize> DeviceRepr for Places<COUNT> {}

impl<const COUNT: usize> Places<COUNT> {
    const NONE: Self = Self { pointers: [[0; MANY]; COUNT], numbers: [0; MANY] };

    fn largest(&self) -> usize {
        self.numbers.iter().copied().max().unwrap_or(0) as usize
    }
}

/// One step of Adam, of tensors that do not overlap.
pub(crate) fn adam(tensors: &[AdamTensors<'_>], step: &AdamStep) -> Result<()> {
    let AdamStep { beta1, beta2, shrink, rate, scale, epsilon } = *step;
    let step = Step(
        [beta1, 1. - beta1, beta2, 1. - beta2, shrink, rate, scale, epsilon].map(|x| x as f32),
    );
    for tensors in tensors.chunks(MANY) {
        let device = device(tensors[0].parameter)?;
        let mut places = Places::<4>::NONE;
        // Copies live until the launch.
        let gradients =
            tensors.iter().map(|t| t.gradient.contiguous()).collect::<Result<Vec<_>>>()?;
        for (i, (t, gradient)) in tensors.iter().zip(&gradients).enumerate() {
            for (which, var) in [t.parameter, t.m, t.v].into_iter().enumerate() {
                places.pointers[which][i] = place_of_variable(var, &device)?;
            }
            places.pointers[3][i] = place(gradient, &device)?;
            places.numbers[i] = gradient.elem_count() as u64;
        }
        let config = strides_of_each(tensors.len(), places.largest());
        launch!(device, "adam", config, &places, &step);
    }
    Ok(())
}

/// The sum of the squares of each tensor, in double precision; one wait for the device.
pub(crate) fn sums_of_squares(tensors: &[&Tensor]) -> Result<Vec<f64>> {
    let mut partial = Vec::new();
    for tensors in tensors.chunks(MANY) {
        let device = device(tensors[0])?;
        let mut places = Places::<1>::NONE;
        let copies = tensors.iter().map(|t| t.contiguous()).collect::<Result<Vec<_>>>()?;
        for (i, x) in copies.iter().enumerate() {
            places.pointers[0][i] = place(x, &device)?;
            places.numbers[i] = x.elem_count() as u64;
        }
        let config = strides_of_each(tensors.len(), places.largest());
        let blocks = config.map_or(0, |config| config.grid_dim.0 as usize);
        let mut sums = device.alloc_zeros::<f64>((tensors.len() * blocks).max(1))?;
        launch!(device, "sums_of_squares", config, &places, &mut sums);
        partial.push(Value::new(&device, sums, (tensors.len(), blocks)).tensor());
    }
    let mut sums = Vec::with_capacity(tensors.len());
    for partial in partial {
        sums.extend(partial.to_vec2::<f64>()?.iter().map(|blocks| blocks.iter().sum::<f64>()));
    }
    Ok(sums)
}

/// Where the numbers of a contiguous tensor are.
///
/// The address outlives the lock of the tensor; a kernel that is launched after it takes its turn on the stream of the device,
/// which is the only one.
fn place(x: &Tensor, device: &CudaDevice) -> Result<u64> {
    let stream = device.cuda_stream();
    with_numbers!(|x| {
        let (pointer, _) = x.device_ptr(&stream);
        Ok(pointer)
    })
}

/// The same of a variable, which a kernel may change.
fn place_of_variable(x: &Var, device: &CudaDevice) -> Result<u64> {
    let find = Find { device: device.clone(), found: Cell::new(None) };
    x.inplace_op1(&find)?;
    match find.found.get() {
        Some(pointer) => Ok(pointer),
        None => bail!("an update needs a contiguous parameter, got {:?}", x.layout()),
    }
}

struct Find {
    device: CudaDevice,
    found: Cell<Option<u64>>,
}

impl InplaceOp1 for Find {
    fn name(&self) -> &'static str {
        "update"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> Result<()> {
        bail!("expected a parameter on a CUDA device")
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, layout: &Layout) -> Result<()> {
        if let Some((start, end)) = layout.contiguous_offsets() {
            let stream = self.device.cuda_stream();
            let mut numbers = storage.as_cuda_slice_mut::<f32>()?.slice_mut(start..end);
            let (pointer, _) = numbers.device_ptr_mut(&stream);
            self.found.set(Some(pointer));
        }
        Ok(())
    }
}
