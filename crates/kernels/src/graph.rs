//! Differentiable operations as nodes of candle's graph.
use std::sync::{Arc, Mutex, OnceLock};

use candle_core::op::BackpropOp;
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage, Tensor, TensorId,
};

use crate::backward::deliver;
use crate::links;

/// Numbers on the CPU that are not a tensor yet.
pub(crate) struct Value(pub(crate) CpuStorage, pub(crate) Shape);

impl Value {
    pub(crate) fn tensor(self) -> Tensor {
        Tensor::from_storage(Storage::Cpu(self.0), self.1, BackpropOp::none(), false)
    }
}

/// The [`Value`] of a shape whose numbers, a `Vec<$t>`, `$body` computes from those of tensors on the CPU, which
/// are slices in it. `$t` is the float type of the first of them.
macro_rules! compute {
    ($name:expr, $shape:expr, $t:ident, |$($x:ident),+| $body:expr) => {{
        let shape = candle_core::Shape::from($shape);
        $(let $x = $x.contiguous()?;)+
        let dtype = [$($x.dtype()),+][0];
        $(let $x = $x.storage_and_layout();)+
        let numbers = match dtype {
            candle_core::DType::F32 => {
                type $t = f32;
                $(let $x = $crate::graph::numbers::<$t>(&$x.0, $x.1)?;)+
                candle_core::CpuStorage::F32($body)
            }
            candle_core::DType::F64 => {
                type $t = f64;
                $(let $x = $crate::graph::numbers::<$t>(&$x.0, $x.1)?;)+
                candle_core::CpuStorage::F64($body)
            }
            other => candle_core::bail!(
                "{} is for float tensors, got {other:?}; convert with to_dtype",
                $name
            ),
        };
        $crate::graph::Value(numbers, shape)
    }};
}
pub(crate) use compute;

/// Whether the kernels of this crate compute with tensors: where all of them are on the CPU. Others are for the twin.
pub(crate) fn fusible<const N: usize>(tensors: [&Tensor; N]) -> bool {
    tensors.iter().all(|tensor| tensor.device().is_cpu())
}

/// The numbers of a contiguous tensor on the CPU.
pub(crate) fn numbers<'a, T: candle_core::WithDType>(
    storage: &'a Storage,
    layout: &Layout,
) -> Result<&'a [T]> {
    match storage {
        Storage::Cpu(storage) => crate::rows::data(storage, layout),
        _ => candle_core::bail!("expected a tensor on the CPU"),
    }
}

/// A tensor with the given value and gradient: `backward(inputs, value, gradient of the value)` gives those of the
/// inputs, `None` for one that is not tracked.
///
/// The value is computed before it becomes a node, so that forward and backward pass can share what they like
/// by capture. Where no input is tracked there is no node, and nothing is kept.
pub(crate) fn node<const N: usize>(
    name: &'static str,
    inputs: [&Tensor; N],
    value: Value,
    backward: impl Fn([&Tensor; N], &Tensor, &Tensor) -> Result<[Option<Tensor>; N]>
    + Send
    + Sync
    + 'static,
) -> Result<Tensor> {
    if !inputs.iter().any(|x| x.track_op()) {
        return Ok(value.tensor());
    }
    let output = Arc::new(OnceLock::new());
    let from = inputs.map(|x| links::of(x).unwrap_or_else(|| x.clone()));
    let gradients = {
        let (inputs, output) = (inputs.map(Tensor::clone), output.clone());
        move |link: &Tensor, count: &Tensor| {
            let gradient = links::receive(link, count)?;
            let Some(output) = output.get() else { candle_core::bail!("{name}: no output") };
            let gradients = backward(inputs.each_ref(), output, &gradient)?;
            let pairs = inputs.iter().zip(gradients);
            pairs.map(|(x, g)| g.map_or(Ok(None), |g| deliver(x, g))).collect()
        }
    };
    let link = Link { name, gradients: Box::new(gradients) };
    let link = match &from[..] {
        [x] => x.apply_op1(link),
        [x, y] => x.apply_op2(y, link),
        [x, y, z] => x.apply_op3(y, z, link),
        _ => candle_core::bail!("{name}: a node has one to three inputs, got {N}"),
    }?;
    let (id, value) = (Arc::new(OnceLock::new()), Mutex::new(Some(value)));
    let tensor = link.apply_op1(Output { name, value, id: id.clone() })?;
    links::register(&tensor, &link);
    let _ = id.set(tensor.id());
    // Not the tensor itself, which refers to the link: both would live for ever.
    let _ = output.set(tensor.detach());
    Ok(tensor)
}

/// What candle is to add to a gradient.
type Gradient = Option<Tensor>;
type Gradients = dyn Fn(&Tensor, &Tensor) -> Result<Vec<Option<Tensor>>> + Send + Sync + 'static;

/// The gradient function of a node, as an operation with a scalar result.
struct Link {
    name: &'static str,
    gradients: Box<Gradients>,
}

impl Link {
    fn gradients<const N: usize>(&self, link: &Tensor, count: &Tensor) -> Result<[Gradient; N]> {
        let mut delivered = (self.gradients)(link, count)?.into_iter();
        Ok(std::array::from_fn(|_| delivered.next().flatten()))
    }
}

/// The numbers of a node, as an operation on its link.
struct Output {
    name: &'static str,
    value: Mutex<Option<Value>>,
    /// Of the tensor, once there is one.
    id: Arc<OnceLock<TensorId>>,
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(id) = self.id.get() {
            links::forget(*id);
        }
    }
}

impl CustomOp1 for Output {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let value = self.value.lock().ok().and_then(|mut value| value.take());
        match value {
            Some(Value(numbers, shape)) => Ok((numbers, shape)),
            None => candle_core::bail!("{}: the value of this node was taken before", self.name),
        }
    }

    fn bwd(&self, link: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Gradient> {
        links::hand_over(link, gradient.contiguous()?).map(Some)
    }
}

/// Candle's trait for a [`Link`] with some number of inputs.
macro_rules! custom_op {
    ($trait:ident, [$($input:ident),+], [$($storage:ident, $layout:ident),+], $gradients:ty) => {
        impl $trait for Link {
            fn name(&self) -> &'static str {
                self.name
            }

            fn cpu_fwd(
                &self,
                $(_: &$storage, _: &$layout),+
            ) -> Result<(CpuStorage, Shape)> {
                Ok((CpuStorage::F32(vec![0.]), Shape::from(())))
            }

            fn bwd(&self, $(_: &$input,)+ link: &Tensor, count: &Tensor) -> Result<$gradients> {
                Ok(self.gradients(link, count)?.into())
            }
        }
    };
}
custom_op!(
    CustomOp2,
    [Tensor, Tensor],
    [CpuStorage, Layout, CpuStorage, Layout],
    (Gradient, Gradient)
);
custom_op!(
    CustomOp3,
    [Tensor, Tensor, Tensor],
    [CpuStorage, Layout, CpuStorage, Layout, CpuStorage, Layout],
    (Gradient, Gradient, Gradient)
);

impl CustomOp1 for Link {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.]), Shape::from(())))
    }

    fn bwd(&self, _: &Tensor, link: &Tensor, count: &Tensor) -> Result<Gradient> {
        let [x] = self.gradients(link, count)?;
        Ok(x)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::check::irregular;
    use crate::log_softmax;

    #[test]
    fn without_a_variable_there_is_no_graph() -> Result<()> {
        let x = irregular(&[5, 3], 4, DType::F64)?;
        assert!(!log_softmax(&x)?.track_op());
        Ok(())
    }
}
