//! Access to the numbers of tensors on the CPU, to change them where they lie.
use std::cell::Cell;
use std::marker::PhantomData;

use candle_core::{
    CpuStorage, CudaStorage, DType, InplaceOp1, InplaceOp2, InplaceOp3, Layout, Result,
};
use candle_core::{Storage, Tensor, bail};

use crate::Real;
use crate::rows::data;

/// Below this many numbers a second thread costs more than it saves.
pub(super) const PARALLEL_ABOVE: usize = 1 << 17;

/// Numbers per parallel task and per partial sum. Fixed, so that no result depends on the threads.
pub(super) const CHUNK: usize = 1 << 15;

/// A float type of the fused updates.
pub(super) trait Float: Real {
    fn slice_mut(storage: &mut CpuStorage) -> Option<&mut Vec<Self>>;
}

macro_rules! float {
    ($t:ty, $variant:ident) => {
        impl Float for $t {
            fn slice_mut(storage: &mut CpuStorage) -> Option<&mut Vec<Self>> {
                if let CpuStorage::$variant(x) = storage { Some(x) } else { None }
            }
        }
    };
}
float!(f32, F32);
float!(f64, F64);

/// The type to run the fused loop in; `None` where only the twin can.
pub(super) fn fused_dtype(x: &Tensor) -> Option<DType> {
    let float = matches!(x.dtype(), DType::F32 | DType::F64);
    (x.device().is_cpu() && float).then_some(x.dtype())
}

pub(super) fn same_kind(name: &str, parameter: &Tensor, others: &[&Tensor]) -> Result<()> {
    for other in others {
        if other.shape() != parameter.shape() || other.dtype() != parameter.dtype() {
            bail!(
                "{name}: the parameter is {:?} {:?}, its gradient or state is {:?} {:?}",
                parameter.dtype(),
                parameter.shape(),
                other.dtype(),
                other.shape()
            );
        }
    }
    Ok(())
}

/// Calls `f` on the numbers of a tensor on the CPU.
pub(super) fn read<T: Float, R>(x: &Tensor, f: impl FnOnce(&[T]) -> Result<R>) -> Result<R> {
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => f(data(storage, layout)?),
        _ => bail!("expected a tensor on the CPU"),
    }
}

/// Calls `f` on the numbers of a contiguous tensor on the CPU, which stays locked meanwhile.
pub(super) fn write<T: Float>(x: &Tensor, f: impl FnOnce(&mut [T]) -> Result<()>) -> Result<()> {
    x.inplace_op1(&Write(Cell::new(Some(f)), PhantomData))
}

struct Write<T, F>(Cell<Option<F>>, PhantomData<T>);

impl<T: Float, F: FnOnce(&mut [T]) -> Result<()>> InplaceOp1 for Write<T, F> {
    fn name(&self) -> &'static str {
        "update"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let numbers = layout
            .contiguous_offsets()
            .zip(T::slice_mut(storage))
            .and_then(|((start, end), x)| x.get_mut(start..end));
        match (numbers, self.0.take()) {
            (Some(x), Some(f)) => f(x),
            _ => bail!("an update needs a contiguous parameter, got {layout:?}"),
        }
    }
}

/// Does nothing; candle refuses it where an operand shares memory with the first one.
pub(super) struct Apart;

impl InplaceOp2 for Apart {
    fn name(&self) -> &'static str {
        "update"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<()> {
        Ok(())
    }

    fn cuda_fwd(&self, _: &mut CudaStorage, _: &Layout, _: &CudaStorage, _: &Layout) -> Result<()> {
        Ok(())
    }
}

impl InplaceOp3 for Apart {
    fn name(&self) -> &'static str {
        "update"
    }

    fn cpu_fwd(
        &self,
        _: &mut CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<()> {
        Ok(())
    }
    fn cuda_fwd(
        &self,
        _: &mut CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<()> {
        Ok(())
    }
}
