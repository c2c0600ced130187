//! Adam: adaptive moment estimation.
use gumbel_kernels::optimizer::AdamStep;

use crate::AdamConfig;

/// Step `t` (from 1) of Kingma and Ba (2015), algorithm 1, with decoupled weight decay.
///
/// `θ ← (1 - lr·λ) θ - lr · m̂ / (√v̂ + ε)` with `m̂ = m / (1 - β₁ᵗ)` and `v̂ = v / (1 - β₂ᵗ)`.
pub(super) fn step(config: AdamConfig, learning_rate: f64, t: u64) -> AdamStep {
    let AdamConfig { beta1, beta2, epsilon, weight_decay } = config;
    let t = t as f64;
    AdamStep {
        beta1,
        beta2,
        shrink: 1. - learning_rate * weight_decay,
        rate: learning_rate / (1. - beta1.powf(t)),
        scale: (1. - beta2.powf(t)).sqrt().recip(),
        epsilon,
    }
}
