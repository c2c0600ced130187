//! Layers of networks.
use candle_core::{Result, Tensor};
use gumbel_kernels::linear;

use super::Flops::Total;
use super::{Input, Operation, constant, variable};

fn fused(i: &[Tensor]) -> Result<Tensor> {
    linear(&i[0], &i[1], &i[2])
}

fn twin(i: &[Tensor]) -> Result<Tensor> {
    linear::reference(&i[0], &i[1], &i[2])
}

/// `products` matrix products of `[rows, inputs]` by `[inputs, outputs]`.
fn layer(parts: [Input; 3], products: usize, size: &'static str) -> Operation {
    let (rows, outputs) = (parts[0].shape, parts[1].shape);
    let flops = 2 * products * rows[0] * rows[1] * outputs[0];
    Operation::new("linear", parts, Total(flops as f64), fused, twin).of_size(size)
}

pub(super) fn all() -> Vec<Operation> {
    vec![
        // A first layer: no gradient in the data.
        layer(
            [constant(&[100, 784]), variable(&[512, 784]), variable(&[512])],
            2,
            "100x784->512, first layer",
        ),
        layer([variable(&[100, 512]), variable(&[784, 512]), variable(&[784])], 3, "100x512->784"),
        layer([variable(&[320, 200]), variable(&[784, 200]), variable(&[784])], 3, "320x200->784"),
    ]
}
