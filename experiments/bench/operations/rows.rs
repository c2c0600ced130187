//! Functions of the rows of a matrix, and of each number.
use gumbel_kernels::*;

use super::Flops::Each;
use super::{ELEMENTARY, Input, Operation, bits, constant, variable};

/// W3a, W3b, W3c: rows of a vocabulary, of a codebook, of a small latent.
const SAMPLES: [Input; 3] =
    [variable(&[1, 64, 50257]), variable(&[1, 4096, 32]), variable(&[1, 3000, 10])];

fn key() -> Key {
    Key::from_seed(8)
}

pub(super) fn all() -> Vec<Operation> {
    let mut list = Vec::new();
    for logits in SAMPLES {
        // Random bits, two logarithms, an exponential.
        let flops = Each(4. * ELEMENTARY + 8.);
        list.push(Operation::new(
            "gumbel_softmax soft",
            [logits],
            flops,
            |i| gumbel_softmax(&i[0], 1, 1., Forward::Soft, key()),
            |i| gumbel_softmax::reference(&i[0], 1, 1., Forward::Soft, key()),
        ));
        list.push(Operation::new(
            "gumbel_softmax straight-through",
            [logits],
            flops,
            |i| gumbel_softmax(&i[0], 1, 1., Forward::Hard, key()),
            |i| gumbel_softmax::reference(&i[0], 1, 1., Forward::Hard, key()),
        ));
    }
    list.extend(laws());
    list.extend(draws());
    list.extend(pixels());
    list
}

/// The laws of 100 × 30 latents with 10 values each.
fn laws() -> Vec<Operation> {
    const LOGITS: Input = variable(&[3000, 10]);
    vec![
        Operation::new(
            "log_softmax",
            [LOGITS],
            Each(2. * ELEMENTARY + 6.),
            |i| log_softmax(&i[0]),
            |i| log_softmax::reference(&i[0]),
        ),
        Operation::new(
            "softmax",
            [LOGITS],
            Each(ELEMENTARY + 8.),
            |i| softmax(&i[0]),
            |i| log_softmax::softmax_reference(&i[0]),
        ),
        Operation::new(
            "log_sum_exp",
            [LOGITS],
            Each(2. * ELEMENTARY + 4.),
            |i| log_sum_exp(&i[0], 1),
            |i| log_sum_exp::reference(&i[0]),
        ),
        Operation::new(
            "categorical_kl",
            [LOGITS, LOGITS],
            Each(4. * ELEMENTARY + 12.),
            |i| categorical_kl(&i[0], &i[1]),
            |i| categorical_kl::reference(&i[0], &i[1]),
        ),
        Operation::new(
            "categorical_entropy",
            [LOGITS],
            Each(2. * ELEMENTARY + 8.),
            |i| categorical_entropy(&i[0]),
            |i| categorical_entropy::reference(&i[0]),
        ),
        Operation::new(
            "sparse_map sparsemax",
            [LOGITS],
            Each(10.),
            |i| sparse_map(&i[0], SparseMap::Sparsemax),
            |i| sparse_map::reference(&i[0], SparseMap::Sparsemax),
        ),
        Operation::new(
            "sparse_map entmax-1.5",
            [LOGITS],
            Each(10.),
            |i| sparse_map(&i[0], SparseMap::Entmax15),
            |i| sparse_map::reference(&i[0], SparseMap::Entmax15),
        ),
    ]
}

/// Draws of such latents.
fn draws() -> Vec<Operation> {
    vec![
        Operation::new(
            "one_hot_argmax",
            [constant(&[3000, 10])],
            Each(2.),
            |i| one_hot_argmax(&i[0]),
            |i| one_hot::reference(&i[0]),
        )
        .forward_only(),
        Operation::new(
            "conditional_softmax_jacobian, 10 draws",
            [constant(&[1, 100, 30, 10]), constant(&[1, 100, 30, 10])],
            Each(10. * (3. * ELEMENTARY + 8.)),
            |i| conditional_softmax_jacobian(&i[0], &one_hot_argmax(&i[1])?, &i[1], 0.5, 10, key()),
            |i| {
                let one_hot = one_hot::reference(&i[1])?;
                conditional_softmax::reference(&i[0], &one_hot, &i[1], 0.5, 10, key())
            },
        )
        .forward_only(),
        Operation::new(
            "conditional_sigmoid_jacobian, 10 draws",
            [constant(&[1, 320, 200]), bits(&[1, 320, 200]), constant(&[1, 320, 200])],
            Each(10. * (2. * ELEMENTARY + 8.)),
            |i| conditional_sigmoid_jacobian(&i[0], &i[1], &i[2], 0.5, 10, key()),
            |i| conditional_sigmoid::reference(&i[0], &i[1], &i[2], 0.5, 10, key()),
        )
        .forward_only(),
        Operation::new(
            "exp_concrete",
            [variable(&[1, 100, 30, 10])],
            Each(4. * ELEMENTARY + 8.),
            |i| exp_concrete(&i[0], 1, 0.5, key()),
            |i| exp_concrete::reference(&i[0], 1, 0.5, key()),
        ),
        Operation::new(
            "exp_concrete_log_density",
            [variable(&[1, 100, 30, 10]), variable(&[1, 100, 30, 10])],
            Each(2. * ELEMENTARY + 8.),
            |i| exp_concrete_log_density(&i[0], &i[1], 0.5),
            |i| exp_concrete_density::reference(&i[0], &i[1], 0.5),
        ),
    ]
}

/// Of 5 × 64 images, or their 200 latents.
fn pixels() -> Vec<Operation> {
    vec![
        Operation::new(
            "bernoulli_log_prob",
            [variable(&[320, 784]), bits(&[320, 784])],
            Each(3. * ELEMENTARY + 6.),
            |i| bernoulli_log_prob(&i[0], &i[1]),
            |i| bernoulli_log_prob::reference(&i[0], &i[1]),
        ),
        Operation::new(
            "sigmoid",
            [variable(&[320, 200])],
            Each(ELEMENTARY + 5.),
            |i| sigmoid(&i[0]),
            |i| logistic::sigmoid_reference(&i[0]),
        ),
        Operation::new(
            "softplus",
            [variable(&[320, 200])],
            Each(3. * ELEMENTARY + 4.),
            |i| softplus(&i[0]),
            |i| logistic::softplus_reference(&i[0]),
        ),
        Operation::new(
            "gumbel_sigmoid soft",
            [variable(&[1, 320, 200])],
            Each(4. * ELEMENTARY + 6.),
            |i| gumbel_sigmoid(&i[0], 1, 0.5, Forward::Soft, key()),
            |i| gumbel_sigmoid::reference(&i[0], 1, 0.5, Forward::Soft, key()),
        ),
        Operation::new(
            "bin_concrete",
            [variable(&[1, 320, 200])],
            Each(3. * ELEMENTARY + 3.),
            |i| bin_concrete(&i[0], 1, 0.5, key()),
            |i| bin_concrete::reference(&i[0], 1, 0.5, key()),
        ),
        Operation::new(
            "bin_concrete_log_density",
            [variable(&[1, 320, 200]), variable(&[1, 320, 200])],
            Each(3. * ELEMENTARY + 8.),
            |i| bin_concrete_log_density(&i[0], &i[1], 0.5),
            |i| bin_concrete_density::reference(&i[0], &i[1], 0.5),
        ),
    ]
}
