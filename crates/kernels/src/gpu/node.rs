//! Differentiable operations on a GPU as nodes of candle's graph.
use std::sync::Mutex;

use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Layout, MetalStorage, Result, Shape,
    Storage, Tensor, bail,
};

use super::Value;

type Gradient = Option<Tensor>;
type Backward<const N: usize> =
    dyn Fn([&Tensor; N], &Tensor, &Tensor) -> Result<[Gradient; N]> + Send + Sync;

/// An operation whose numbers are there already.
pub(crate) struct Computed<const N: usize> {
    name: &'static str,
    value: Mutex<Option<Value>>,
    backward: Box<Backward<N>>,
}

/// A tensor with the given value and gradient, as [`node`](crate::graph::node) makes one on the CPU.
pub(crate) fn node<const N: usize>(
    name: &'static str,
    inputs: [&Tensor; N],
    value: Value,
    backward: impl Fn([&Tensor; N], &Tensor, &Tensor) -> Result<[Option<Tensor>; N]>
    + Send
    + Sync
    + 'static,
) -> Result<Tensor>
where
    Computed<N>: Apply<N>,
{
    if !inputs.iter().any(|x| x.track_op()) {
        return Ok(value.tensor());
    }
    let value = Mutex::new(Some(value));
    Computed { name, value, backward: Box::new(backward) }.apply(inputs)
}

impl<const N: usize> Computed<N> {
    fn take(&self) -> Result<Value> {
        match self.value.lock().ok().and_then(|mut value| value.take()) {
            Some(value) => Ok(value),
            None => bail!("{}: the value of this node was taken before", self.name),
        }
    }

    fn cuda(&self) -> Result<(CudaStorage, Shape)> {
        match self.take()? {
            Value(Storage::Cuda(numbers), shape) => Ok((numbers, shape)),
            _ => self.nowhere(),
        }
    }

    fn metal(&self) -> Result<(MetalStorage, Shape)> {
        match self.take()? {
            Value(Storage::Metal(numbers), shape) => Ok((numbers, shape)),
            _ => self.nowhere(),
        }
    }

    fn nowhere<T>(&self) -> Result<T> {
        bail!("{}: the value of this node is on another device", self.name)
    }
}

/// Makes a node of an operation.
pub(crate) trait Apply<const N: usize> {
    fn apply(self, inputs: [&Tensor; N]) -> Result<Tensor>;
}

/// Candle's trait for a [`Computed`] of some inputs.
macro_rules! custom_op {
    ($n:literal, $trait:ident, $apply:ident, $first:ident $(, $input:ident: $cpu:ident, $cuda:ident, $metal:ident)*; $gradients:ty) => {
        impl Apply<$n> for Computed<$n> {
            fn apply(self, [$first $(, $input)*]: [&Tensor; $n]) -> Result<Tensor> {
                $first.$apply($($input,)* self)
            }
        }

        impl $trait for Computed<$n> {
            fn name(&self) -> &'static str {
                self.name
            }

            fn cpu_fwd(
                &self,
                _: &CpuStorage,
                _: &Layout,
                $(_: &$cpu, _: &Layout,)*
            ) -> Result<(CpuStorage, Shape)> {
                self.nowhere()
            }

            fn cuda_fwd(
                &self,
                _: &CudaStorage,
                _: &Layout,
                $(_: &$cuda, _: &Layout,)*
            ) -> Result<(CudaStorage, Shape)> {
                self.cuda()
            }

            fn metal_fwd(
                &self,
                _: &MetalStorage,
                _: &Layout,
                $(_: &$metal, _: &Layout,)*
            ) -> Result<(MetalStorage, Shape)> {
                self.metal()
            }

            fn bwd(
                &self,
                $first: &Tensor,
                $($input: &Tensor,)*
                out: &Tensor,
                g: &Tensor,
            ) -> Result<$gradients> {
                Ok((self.backward)([$first $(, $input)*], out, g)?.into())
            }
        }
    };
}

custom_op!(2, CustomOp2, apply_op2, x, y: CpuStorage, CudaStorage, MetalStorage; (Gradient, Gradient));
custom_op!(3, CustomOp3, apply_op3, x, y: CpuStorage, CudaStorage, MetalStorage, z: CpuStorage, CudaStorage, MetalStorage; (Gradient, Gradient, Gradient));

impl Apply<1> for Computed<1> {
    fn apply(self, [x]: [&Tensor; 1]) -> Result<Tensor> {
        x.apply_op1(self)
    }
}

impl CustomOp1 for Computed<1> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.nowhere()
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.cuda()
    }

    fn metal_fwd(&self, _: &MetalStorage, _: &Layout) -> Result<(MetalStorage, Shape)> {
        self.metal()
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, g: &Tensor) -> Result<Gradient> {
        let [d] = (self.backward)([x], y, g)?;
        Ok(d)
    }
}
