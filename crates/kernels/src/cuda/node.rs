//! Differentiable operations on a GPU as nodes of candle's graph.
use std::sync::Mutex;

use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail,
};

use super::launch::Value;

type Backward<const N: usize> =
    dyn Fn([&Tensor; N], &Tensor, &Tensor) -> Result<[Option<Tensor>; N]> + Send + Sync;

/// An operation whose numbers are there already.
pub(super) struct Computed<const N: usize> {
    name: &'static str,
    value: Mutex<Option<Value>>,
    backward: Box<Backward<N>>,
}

/// A tensor with the given value and gradient, as [`node`](crate::graph::node) makes one on the CPU.
pub(super) fn node<const N: usize>(
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
    fn take(&self) -> Result<(CudaStorage, Shape)> {
        match self.value.lock().ok().and_then(|mut value| value.take()) {
            Some(Value(numbers, shape)) => Ok((numbers, shape)),
            None => bail!("{}: the value of this node was taken before", self.name),
        }
    }

    fn nowhere<T>(&self) -> Result<T> {
        bail!("{}: this node is for a CUDA device", self.name)
    }
}

/// Makes a node of an operation.
pub(super) trait Apply<const N: usize> {
    fn apply(self, inputs: [&Tensor; N]) -> Result<Tensor>;
}

impl Apply<1> for Computed<1> {
    fn apply(self, [x]: [&Tensor; 1]) -> Result<Tensor> {
        x.apply_op1(self)
    }
}

impl Apply<2> for Computed<2> {
    fn apply(self, [x, y]: [&Tensor; 2]) -> Result<Tensor> {
        x.apply_op2(y, self)
    }
}

impl Apply<3> for Computed<3> {
    fn apply(self, [x, y, z]: [&Tensor; 3]) -> Result<Tensor> {
        x.apply_op3(y, z, self)
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
        self.take()
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let [d] = (self.backward)([x], y, g)?;
        Ok(d)
    }
}

impl CustomOp2 for Computed<2> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.nowhere()
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.take()
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        out: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((self.backward)([x, y], out, g)?.into())
    }
}

impl CustomOp3 for Computed<3> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.nowhere()
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.take()
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        z: &Tensor,
        out: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        Ok((self.backward)([x, y, z], out, g)?.into())
    }
}
