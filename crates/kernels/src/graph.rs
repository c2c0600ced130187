//! Differentiable operations as nodes of candle's graph, and the way back through them.
use std::cell::RefCell;
use std::sync::Mutex;

use candle_core::backprop::GradStore;
use candle_core::op::BackpropOp;
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage, Tensor, TensorId,
};

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
    let backward = move |inputs: &[&Tensor], value: &Tensor, gradient: &Tensor| {
        let inputs = std::array::from_fn(|i| inputs[i]);
        backward(inputs, value, gradient).map(Vec::from)
    };
    let node = Node { name, value: Mutex::new(Some(value)), backward: Box::new(backward) };
    match inputs[..] {
        [x] => x.apply_op1(node),
        [x, y] => x.apply_op2(y, node),
        [x, y, z] => x.apply_op3(y, z, node),
        _ => candle_core::bail!("{name}: a node has one to three inputs, got {N}"),
    }
}

type Backward =
    dyn Fn(&[&Tensor], &Tensor, &Tensor) -> Result<Vec<Option<Tensor>>> + Send + Sync + 'static;

struct Node {
    name: &'static str,
    value: Mutex<Option<Value>>,
    backward: Box<Backward>,
}

impl Node {
    fn forward(&self) -> Result<(CpuStorage, Shape)> {
        let value = self.value.lock().ok().and_then(|mut value| value.take());
        match value {
            Some(Value(numbers, shape)) => Ok((numbers, shape)),
            None => candle_core::bail!("{}: the value of this node was taken before", self.name),
        }
    }

    fn gradients<const N: usize>(
        &self,
        inputs: [&Tensor; N],
        value: &Tensor,
        gradient: &Tensor,
    ) -> Result<[Option<Tensor>; N]> {
        let gradients = (self.backward)(&inputs, value, &gradient.contiguous()?)?;
        let mut delivered = [const { None }; N];
        for ((slot, input), gradient) in delivered.iter_mut().zip(inputs).zip(gradients) {
            if let Some(gradient) = gradient {
                *slot = deliver(input, gradient)?;
            }
        }
        Ok(delivered)
    }
}

/// Candle's trait for a node of `$inputs` inputs.
macro_rules! custom_op {
    ($trait:ident, $($input:ident),+; $($storage:ident: &CpuStorage, $layout:ident: &Layout),+; $gradients:ty) => {
        impl $trait for Node {
            fn name(&self) -> &'static str {
                self.name
            }

            fn cpu_fwd(&self, $($storage: &CpuStorage, $layout: &Layout),+) -> Result<(CpuStorage, Shape)> {
                self.forward()
            }

            fn bwd(&self, $($input: &Tensor,)+ value: &Tensor, gradient: &Tensor) -> Result<$gradients> {
                Ok(self.gradients([$($input),+], value, gradient)?.into())
            }
        }
    };
}
type Gradient = Option<Tensor>;
custom_op!(CustomOp2, x, y; _x: &CpuStorage, _lx: &Layout, _y: &CpuStorage, _ly: &Layout; (Gradient, Gradient));
custom_op!(
    CustomOp3, x, y, z;
    _x: &CpuStorage, _lx: &Layout, _y: &CpuStorage, _ly: &Layout, _z: &CpuStorage, _lz: &Layout;
    (Gradient, Gradient, Gradient)
);

impl CustomOp1 for Node {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward()
    }

    fn bwd(&self, x: &Tensor, value: &Tensor, gradient: &Tensor) -> Result<Gradient> {
        let [x] = self.gradients([x], value, gradient)?;
        Ok(x)
    }
}

thread_local! {
    /// Gradients of variables, while [`backward`] runs on this thread.
    static VARIABLES: RefCell<Option<Vec<(TensorId, Tensor)>>> = const { RefCell::new(None) };
}

/// Hands a gradient to the store of the running [`backward`], if the input is a variable and there is one; else
/// back to candle.
fn deliver(input: &Tensor, gradient: Tensor) -> Result<Option<Tensor>> {
    if !input.is_variable() {
        return Ok(Some(gradient));
    }
    VARIABLES.with_borrow_mut(|variables| {
        let Some(variables) = variables else { return Ok(Some(gradient)) };
        match variables.iter_mut().find(|(id, _)| *id == input.id()) {
            Some((_, sum)) => *sum = sum.add(&gradient)?,
            None => variables.push((input.id(), gradient)),
        }
        Ok(None)
    })
}

/// The gradients of a loss, as `loss.backward()` gives them, in less time.
///
/// Candle adds each gradient to zeros that it makes first: three passes over the memory of every parameter. Here a
/// kernel's gradient of a variable is stored as it is, and added to only where the variable was used again.
///
/// # Errors
/// Those of `loss.backward()`.
pub fn backward(loss: &Tensor) -> Result<GradStore> {
    let outer = VARIABLES.replace(Some(Vec::new()));
    let gradients = loss.backward();
    let variables = VARIABLES.replace(outer);
    let mut gradients = gradients?;
    for (id, gradient) in variables.unwrap_or_default() {
        let gradient = match gradients.get_id(id) {
            Some(other) => (other + gradient)?,
            None => gradient,
        };
        gradients.insert_id(id, gradient);
    }
    Ok(gradients)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Var};

    use super::*;
    use crate::check::{close, irregular};
    use crate::{linear, log_softmax};

    /// One variable is used by two kernels and by candle, one by candle alone, one by a kernel alone.
    #[test]
    fn gradients_are_those_of_candle() -> Result<()> {
        let variable =
            |shape: &[usize], seed| Var::from_tensor(&irregular(shape, seed, DType::F64)?);
        let (w, b, c) = (variable(&[3, 3], 1)?, variable(&[3], 2)?, variable(&[3], 3)?);
        let x = irregular(&[5, 3], 4, DType::F64)?;
        let h = linear(&linear(&x, &w, &b)?, &w, &b)?;
        let loss = (log_softmax(&h)?.broadcast_mul(&c)?.sum_all()? + w.sqr()?.sum_all()?)?;
        let (ours, theirs) = (backward(&loss)?, loss.backward()?);
        for v in [&w, &b, &c] {
            close(ours.get(v).unwrap(), theirs.get(v).unwrap(), 1e-13)?;
        }
        Ok(())
    }

    #[test]
    fn without_a_variable_there_is_no_graph() -> Result<()> {
        let x = irregular(&[5, 3], 4, DType::F64)?;
        assert!(!log_softmax(&x)?.track_op());
        Ok(())
    }
}
