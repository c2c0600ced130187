//! Layers of networks.
use candle_core::{Device, Result, Tensor};
use gumbel_kernels::*;

use super::Flops::{Each, Total};
use super::{ELEMENTARY, Input, Operation, constant, variable};

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

/// 16 sequences of 128 words.
const WORDS: usize = 2048;

fn words() -> Result<Tensor> {
    Tensor::arange(0, WORDS as u32, &Device::Cpu)
}

pub(super) fn all() -> Vec<Operation> {
    let mut list = vec![
        // A first layer: no gradient in the data.
        layer(
            [constant(&[100, 784]), variable(&[512, 784]), variable(&[512])],
            2,
            "100x784->512, first layer",
        ),
        layer([variable(&[100, 512]), variable(&[784, 512]), variable(&[784])], 3, "100x512->784"),
        layer([variable(&[320, 200]), variable(&[784, 200]), variable(&[784])], 3, "320x200->784"),
    ];
    list.extend(language());
    list.push(Operation::new(
        "unfold 4x4, stride 2",
        [variable(&[100, 14, 14, 32])],
        Each(0.),
        |i| unfold(&i[0], Window { size: 4, stride: 2, padding: 1 }),
        |i| convolution::reference_unfold(&i[0], Window { size: 4, stride: 2, padding: 1 }),
    ));
    list
}

/// Of a transformer of width 256.
fn language() -> Vec<Operation> {
    vec![
        Operation::new(
            "layer_norm",
            [variable(&[WORDS, 256]), variable(&[256]), variable(&[256])],
            Each(20.),
            |i| layer_norm(&i[0], &i[1], &i[2], 1e-5),
            |i| layer_norm::reference(&i[0], &i[1], &i[2], 1e-5),
        ),
        Operation::new(
            "gelu",
            [variable(&[WORDS, 1024])],
            Each(2. * ELEMENTARY + 20.),
            |i| gelu(&i[0]),
            |i| gelu::reference(&i[0]),
        ),
        // Two products forward, five backward, of which causality leaves a half.
        Operation::new(
            "attention causal, 4 heads",
            [variable(&[16, 128, 768])],
            Total(7. * (16 * 128 * 128 * 256) as f64),
            |i| attention(&i[0], 4, AttentionMask::Causal),
            |i| attention::reference(&i[0], 4, AttentionMask::Causal),
        ),
        Operation::new(
            "embedding",
            [variable(&[10_000, 256])],
            Each(0.),
            |i| embedding(&i[0], &words()?),
            |i| embedding::reference(&i[0], &words()?),
        )
        .of_size("2048 of 10000x256"),
        Operation::new(
            "cross_entropy",
            [variable(&[WORDS, 10_000])],
            Each(2. * ELEMENTARY + 6.),
            |i| cross_entropy(&i[0], &words()?),
            |i| cross_entropy::reference(&i[0], &words()?),
        ),
        Operation::new(
            "linear_cross_entropy",
            [variable(&[WORDS, 256]), variable(&[10_000, 256])],
            Total(6. * (WORDS * 256 * 10_000) as f64),
            |i| linear_cross_entropy(&i[0], &i[1], &words()?),
            |i| linear_cross_entropy::reference(&i[0], &i[1], &words()?),
        ),
        Operation::new(
            "gumbel_softmax_embedding",
            [variable(&[WORDS, 256]), variable(&[10_000, 256]), variable(&[10_000, 64])],
            // Logits forward and backward, two gradients, and as much for the vectors; the draw is made twice.
            Total((WORDS * 10_000) as f64 * (8. * 256. + 6. * 64.)),
            |i| {
                gumbel_softmax_embedding(&i[0], &i[1], &i[2], 0.5, Forward::Soft, Key::from_seed(5))
            },
            |i| {
                gumbel_softmax_embedding::reference(
                    &i[0],
                    &i[1],
                    &i[2],
                    0.5,
                    Forward::Soft,
                    Key::from_seed(5),
                )
            },
        ),
    ]
}
