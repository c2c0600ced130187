//! Noise and Gumbel-Softmax on Apple GPUs; all else is computed by its twin there.
//!
//! Metal compiles the source when it is first used. Single precision only; a row without a category left is NaN, not an error.
#[cfg(test)]
mod emulated;
#[cfg(feature = "metal")]
mod launch;
#[cfg(feature = "metal")]
mod operations;

#[cfg(feature = "metal")]
pub(crate) use operations::{fill, gumbel_softmax, takes};

/// Everything that runs on the GPU, but for what Metal's own header has.
const SOURCE: &str = concat!(
    include_str!("kernels.metal"),
    include_str!("../gpu/arithmetic.h"),
    include_str!("operations.metal"),
);

/// The arguments of `fill` that are no tensors, as its source has them.
#[cfg(any(test, feature = "metal"))]
#[derive(Clone, Copy)]
#[repr(C)]
struct Fill {
    n: u64,
    noise: u32,
    unused: u32,
    stream: [u32; 4],
}

/// The arguments of the kernels of rows that are no tensors, as their source has them.
#[cfg(any(test, feature = "metal"))]
#[derive(Clone, Copy)]
#[repr(C)]
struct Rows {
    rows: u64,
    /// Rows of logits, or rows that a row of logits serves.
    others: u64,
    k: u32,
    lanes: u32,
    inverse: f32,
    hard: u32,
    stream: [u32; 4],
}
