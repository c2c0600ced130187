//! An operation with its inputs, ready to be run.
use candle_core::{DType, Device, Result, Tensor, Var};
use gumbel::Key;
use gumbel_kernels::backward_with;

use super::{Flops, Function, Input, Operation, Pass, Values};

/// What a pass has to do, whoever writes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    /// Bytes that are read or written.
    pub(crate) bytes: f64,
    /// Bytes of all tensors together.
    pub(crate) working_set: f64,
    /// Additions, multiplications and the like.
    pub(crate) flops: f64,
}

/// An operation with its inputs.
pub(crate) struct Prepared {
    inputs: Vec<Tensor>,
    /// The gradient in the result, where a backward pass is wanted.
    gradient: Option<Tensor>,
    pub(crate) work: Work,
}

impl Prepared {
    pub(crate) fn new(operation: &Operation) -> Result<Self> {
        let inputs: Vec<Tensor> =
            (0..).zip(&operation.inputs).map(|(i, input)| draw(input, i)).collect::<Result<_>>()?;
        let result = (operation.fused)(&inputs)?;
        let backward = operation.pass == Pass::ForwardAndBackward;
        let gradient = || standard(Key::from_seed(7), result.dims());
        let gradient = backward.then(gradient).transpose()?;
        let work = work(operation, &inputs, &result);
        Ok(Self { inputs, gradient, work })
    }

    /// One pass of either twin.
    pub(crate) fn run(&self, function: Function) -> Result<()> {
        let result = function(&self.inputs)?;
        if let Some(gradient) = &self.gradient {
            backward_with(&result, gradient)?;
        }
        Ok(())
    }
}

/// Uniform numbers of mean 0 and variance 1: no operation takes another time for normal ones, which take long to make
/// where instructions are counted.
fn standard(key: Key, shape: &[usize]) -> Result<Tensor> {
    let uniform = key.uniform(shape, DType::F32, &Device::Cpu)?;
    uniform.affine(12f64.sqrt(), -(3f64.sqrt()))
}

fn draw(input: &Input, index: u64) -> Result<Tensor> {
    let (key, shape) = (Key::from_seed(6).fold_in(index), input.shape);
    let tensor = match input.values {
        Values::Standard => standard(key, shape)?,
        Values::Uniform => key.uniform(shape, DType::F32, &Device::Cpu)?,
        Values::Bits => {
            key.uniform(shape, DType::F32, &Device::Cpu)?.lt(0.13f32)?.to_dtype(DType::F32)?
        }
    };
    if input.variable { Ok(Var::from_tensor(&tensor)?.as_tensor().clone()) } else { Ok(tensor) }
}

/// The least traffic: forward, each input is read and the result written; backward, the inputs (or as much that was
/// kept of them) and the gradient of the result are read, and the gradient of each variable is written.
fn work(operation: &Operation, inputs: &[Tensor], result: &Tensor) -> Work {
    let bytes = |tensor: &Tensor| (tensor.elem_count() * tensor.dtype().size_in_bytes()) as f64;
    let read: f64 = inputs.iter().map(bytes).sum();
    let variables: f64 = inputs.iter().filter(|t| t.is_variable()).map(bytes).sum();
    let forward = read + bytes(result);
    let (total, working_set) = match operation.pass {
        Pass::Forward => (forward, forward),
        Pass::InPlace => (read + variables, read),
        Pass::ForwardAndBackward => (2. * forward + variables, forward + bytes(result) + variables),
    };
    let flops = match operation.flops {
        Flops::Total(flops) => flops,
        Flops::Each(flops) => flops * inputs.first().unwrap_or(result).elem_count() as f64,
    };
    Work { bytes: total, working_set, flops }
}

#[cfg(test)]
mod tests {
    use super::super::{constant, variable};
    use super::*;

    fn add(inputs: &[Tensor]) -> Result<Tensor> {
        &inputs[0] + &inputs[1]
    }

    #[test]
    fn traffic_is_counted_by_pass() -> Result<()> {
        let operation =
            || Operation::new("sum", [variable(&[10]), constant(&[10])], Flops::Each(3.), add, add);
        let work = |operation: &Operation| Prepared::new(operation).map(|p| p.work);
        let both = work(&operation())?;
        // Three tensors of 40 bytes forward; the same, and one gradient, backward.
        assert_eq!((both.bytes, both.working_set, both.flops), (280., 200., 30.));
        assert_eq!(work(&operation().forward_only())?.bytes, 120.);
        assert_eq!(work(&operation().in_place())?.bytes, 120.);
        Ok(())
    }
}
