//! A loss together with everything it depends on, for another library to repeat.
use std::collections::HashMap;

use anyhow::{Context, Result};
use candle_core::Tensor;
use gumbel_kernels::optimizer::sum_of_squares;
use gumbel_training::Params;

/// One evaluation of a loss.
pub(crate) struct Example {
    /// Parameters by name, data and noise.
    pub(crate) tensors: HashMap<String, Tensor>,
    pub(crate) loss: f64,
    /// Euclidean length of the gradient in all parameters.
    pub(crate) gradient_norm: f64,
}

impl Example {
    /// Of a loss in `params`, with the other tensors that it depends on.
    pub(crate) fn new<const N: usize>(
        loss: &Tensor,
        params: &Params,
        others: [(&str, &Tensor); N],
    ) -> Result<Self> {
        let gradients = loss.backward()?;
        let mut squares = 0.;
        for (name, var) in params.iter() {
            let gradient = gradients.get(&var).with_context(|| format!("`{name}`: no gradient"))?;
            squares += sum_of_squares(gradient)?;
        }
        let mut tensors: HashMap<String, Tensor> = params.tensors()?.into_iter().collect();
        for (name, tensor) in others {
            tensors.insert(name.to_owned(), tensor.contiguous()?);
        }
        let loss = f64::from(loss.to_scalar::<f32>()?);
        Ok(Self { tensors, loss, gradient_norm: squares.sqrt() })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use crate::workloads::{by_name, names};

    /// Loss and length of the gradient that PyTorch 2.13.0 computes from the same weights, data and noise:
    /// `bench --dump DIR && python3 experiments/bench/parity.py DIR`.
    const PYTORCH: &[(&str, f64, f64)] =
        &[("W1", 543.706787, 15.004796), ("W2", 574.598511, 25.211252), ("W4", 9.269419, 0.629008)];

    #[test]
    fn losses_and_gradients_equal_those_of_pytorch() {
        for name in names() {
            let example = by_name(name, &Device::Cpu).unwrap().example().unwrap();
            let peer = PYTORCH.iter().find(|(known, ..)| *known == name);
            match (example, peer) {
                (Some(ours), Some((_, loss, gradient_norm))) => {
                    let close = |a: f64, b: f64| (a / b - 1.).abs() < 1e-4;
                    assert!(close(ours.loss, *loss), "{name}: {} {loss}", ours.loss);
                    let length = ours.gradient_norm;
                    assert!(close(length, *gradient_norm), "{name}: {length} {gradient_norm}");
                }
                (None, None) => {}
                _ => panic!("{name}: an example and its value belong together"),
            }
        }
    }
}
