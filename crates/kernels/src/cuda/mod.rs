//! The operations on NVIDIA GPUs.
//!
//! What is in `source` is compiled at run time for the GPU at hand by NVRTC, a library of CUDA, and
//! kept in the user's cache. What has no kernel there is computed by its twin. Single precision only; the twin takes other
//! types. A row without a category left is NaN, not an error, because the CPU does not wait for a GPU's numbers.
#[cfg(feature = "cuda")]
mod concrete;
#[cfg(feature = "cuda")]
mod concrete_density;
#[cfg(feature = "cuda")]
mod device;
#[cfg(feature = "cuda")]
mod embedding;
#[cfg(test)]
mod emulated;
#[cfg(feature = "cuda")]
mod launch;
#[cfg(feature = "cuda")]
mod layer_norm;
#[cfg(feature = "cuda")]
mod linear;
#[cfg(feature = "cuda")]
mod losses;
#[cfg(feature = "cuda")]
mod operations;
#[cfg(feature = "cuda")]
mod optimizer;
#[cfg(feature = "cuda")]
mod program;

#[cfg(feature = "cuda")]
pub use device::cuda_device;
#[cfg(feature = "cuda")]
pub(crate) use {
    concrete::{
        bin_concrete, bin_concrete_with_log_density, exp_concrete, exp_concrete_with_log_density,
        gumbel_sigmoid,
    },
    concrete_density::{bin_concrete_log_density, exp_concrete_log_density},
    embedding::embedding,
    launch::takes,
    layer_norm::layer_norm,
    linear::linear,
    losses::{categorical_kl, cross_entropy},
    operations::{
        attention_softmax, bernoulli_log_prob, fill, gumbel_softmax, log_softmax, softmax,
    },
    optimizer::{adam, sums_of_squares},
};

/// Everything that runs on the GPU.
const SOURCE: &str = concat!(
    include_str!("source/prelude.cu"),
    include_str!("../gpu/arithmetic.h"),
    include_str!("source/noise.cu"),
    include_str!("source/rows.cu"),
    include_str!("source/softmax.cu"),
    include_str!("source/concrete.cu"),
    include_str!("source/losses.cu"),
    include_str!("source/layers.cu"),
    include_str!("source/linear.cu"),
    include_str!("source/optimizer.cu"),
);
