//! Random numbers that depend on a [`Key`] and nothing else, and differentiable operations for models
//! with discrete latent variables, fused and with hand-written gradients.
//!
//! Each operation is one file: the CPU implementation (forward and backward), `reference` (the same
//! function from plain candle operations, its twin), and tests that hold the two together. Tensors in half
//! precision are taken, too: an operation computes in single precision and rounds its result.
//!
//! Invariants: no trace, no distribution, no state. This is the only crate with `unsafe`.
//!
//! ```
//! use candle_core::{Device, DType, Tensor};
//! use gumbel_kernels::{Key, log_softmax};
//! let noise = Key::from_seed(1).gumbel((2, 3), DType::F32, &Device::Cpu)?;
//! let log_probs = log_softmax(&noise)?;
//! # Ok::<(), candle_core::Error>(())
//! ```
pub mod add;
pub mod allocator;
pub mod attention;
mod autocast;
mod backward;
pub mod bernoulli_log_prob;
pub mod bin_concrete;
pub mod bin_concrete_density;
pub mod categorical_entropy;
pub mod categorical_kl;
#[cfg(test)]
mod check;
mod conditional_average;
pub mod conditional_sigmoid;
pub mod conditional_softmax;
pub mod convolution;
pub mod cross_entropy;
#[cfg(any(test, feature = "cuda"))]
mod cuda;
mod elementwise;
pub mod embedding;
pub mod exp_concrete;
pub mod exp_concrete_density;
pub mod expert_log_probs;
pub mod gelu;
#[cfg(any(feature = "cuda", feature = "metal"))]
mod gpu;
mod graph;
pub mod gumbel_sigmoid;
pub mod gumbel_softmax;
pub mod gumbel_softmax_embedding;
mod half;
mod key;
pub mod layer_norm;
pub mod linear;
pub mod linear_cross_entropy;
mod links;
pub mod log_softmax;
pub mod log_sum_exp;
pub mod logistic;
pub mod markov_chain;
mod math;
mod matmul;
#[cfg(any(test, feature = "metal"))]
mod metal;
pub mod noise;
pub mod one_hot;
pub mod optimizer;
mod perturbed;
mod philox;
mod reduce;
mod rows;
mod scale;
mod softmax_rows;
pub mod sparse_map;
pub mod threads;
mod vectorised;

pub use add::add;
pub use attention::{AttentionMask, attention};
pub use autocast::autocast;
pub use backward::{backward, backward_with};
pub use bernoulli_log_prob::bernoulli_log_prob;
pub use bin_concrete::{bin_concrete, bin_concrete_with_log_density};
pub use bin_concrete_density::bin_concrete_log_density;
pub use categorical_entropy::categorical_entropy;
pub use categorical_kl::categorical_kl;
pub use conditional_sigmoid::conditional_sigmoid_jacobian;
pub use conditional_softmax::conditional_softmax_jacobian;
pub use convolution::{Window, conv_transpose2d, conv2d, fold, unfold};
pub use cross_entropy::cross_entropy;
#[cfg(feature = "cuda")]
pub use cuda::cuda_device;
pub use embedding::embedding;
pub use exp_concrete::{exp_concrete, exp_concrete_with_log_density};
pub use exp_concrete_density::exp_concrete_log_density;
pub use expert_log_probs::expert_log_probs;
pub use gelu::gelu;
pub use gumbel_sigmoid::gumbel_sigmoid;
pub use gumbel_softmax::{Forward, gumbel_softmax};
pub use gumbel_softmax_embedding::gumbel_softmax_embedding;
pub use half::{compute_dtype, in_single};
pub use key::Key;
pub use layer_norm::layer_norm;
pub use linear::{Activation, linear, linear_with_activation};
pub use linear_cross_entropy::linear_cross_entropy;
pub use log_softmax::{log_softmax, softmax};
pub use log_sum_exp::log_sum_exp;
pub use logistic::{sigmoid, softplus};
pub use markov_chain::markov_chain_log_likelihood;
pub use math::{Real, ln_gamma};
pub use one_hot::one_hot_argmax;
pub use philox::philox4x32_10;
pub use scale::scale;
pub use sparse_map::{SparseMap, sparse_map};
pub use vectorised::vector_unit;
