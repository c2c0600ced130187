//! The operations on NVIDIA GPUs.
//!
//! `kernels.cu` is compiled at run time for the GPU at hand by NVRTC, a library of CUDA, and
//! kept in the user's cache. What has no kernel there is computed by its twin. Single precision only; the twin takes other
//! types. A row without a category left is NaN, not an error, because the CPU does not wait for a GPU's numbers.
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
mod losses;
#[cfg(feature = "cuda")]
mod node;
#[cfg(feature = "cuda")]
mod operations;
#[cfg(feature = "cuda")]
mod program;

#[cfg(feature = "cuda")]
pub use device::cuda_device;
#[cfg(feature = "cuda")]
pub(crate) use embedding::embedding;
#[cfg(feature = "cuda")]
pub(crate) use launch::takes;
#[cfg(feature = "cuda")]
pub(crate) use layer_norm::layer_norm;
#[cfg(feature = "cuda")]
pub(crate) use losses::{categorical_kl, cross_entropy};
#[cfg(feature = "cuda")]
pub(crate) use operations::{adam, bernoulli_log_prob, fill, gumbel_softmax, log_softmax, softmax};

/// Everything that runs on the GPU.
const SOURCE: &str = include_str!("kernels.cu");
