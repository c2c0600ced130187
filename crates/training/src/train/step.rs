//! What a program computes for a run that trains.
use candle_core::{DType, Tensor};
use gumbel_metrics::Report;

use crate::{Error, Evaluation, MicroBatch, Result};

/// What a micro-batch of a training step, by default the whole batch, returns.
#[derive(Debug)]
pub struct Step {
    /// What is to become small, a scalar.
    pub loss: Tensor,
    /// The learning rate of this step, the same for each of its micro-batches.
    pub learning_rate: f64,
    /// Numbers to write where this step ends an interval.
    pub report: Report,
}

/// Computes the loss of a micro-batch.
pub(super) type StepFn<'a> = dyn FnMut(MicroBatch) -> Result<Step> + 'a;
/// Evaluates the model between two steps.
pub(super) type EvaluateFn<'a> = dyn FnMut(&mut Evaluation<'_>) -> Result<()> + 'a;

/// The loss as a number.
pub(super) fn scalar(loss: &Tensor) -> Result<f64> {
    if loss.elem_count() != 1 {
        let shape = loss.shape();
        return Err(Error::caller(70, format!("the loss has shape {shape:?}, make it a scalar")));
    }
    Ok(loss.detach().flatten_all()?.get(0)?.to_dtype(DType::F64)?.to_scalar()?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_loss_is_one_number_of_any_type_and_shape() {
        let loss = Tensor::new(&[[2.5f32]], &Device::Cpu).unwrap();
        assert_eq!(scalar(&loss).unwrap(), 2.5);
        let loss = Tensor::new(&[1f64, 2.], &Device::Cpu).unwrap();
        assert!(scalar(&loss).unwrap_err().to_string().contains("[2]"));
    }
}
