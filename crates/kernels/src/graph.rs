//! Differentiable operations as nodes of candle's graph, and the way back through them.
use std::cell::RefCell;
use std::sync::{Arc, Mutex, OnceLock};

use candle_core::backprop::GradStore;
use candle_core::op::BackpropOp;
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage, Tensor, TensorId,
};

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

thread_local! {
    /// Gradients of variables, while [`backward`] runs on this thread.
    static VARIABLES: RefCell<Option<Vec<(TensorId, Tensor)>>> = const { RefCell::new(None) };
}

/// Hands the gradient of an input over to its link, if it has one, or to the store of the running [`backward`], if it
/// is a variable and there is one; else back to candle. Returns what candle is to add.
fn deliver(input: &Tensor, gradient: Tensor) -> Result<Gradient> {
    if let Some(link) = links::of(input) {
        return links::hand_over(&link, gradient).map(Some);
    }
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
