//! Rectified Adam.
use gumbel_kernels::optimizer::AdamStep;

use crate::AdamConfig;

/// Step `t` (from 1) of Liu et al. (2020), algorithm 2, with decoupled weight decay.
///
/// With `ρ∞ = 2/(1 - β₂) - 1` and `ρ = ρ∞ - 2t β₂ᵗ/(1 - β₂ᵗ)`, the length of the equivalent moving
/// average: where `ρ > 5`, `θ ← θ - lr · r · m̂ / √v̂` with
/// `r² = (ρ - 4)(ρ - 2) ρ∞ / ((ρ∞ - 4)(ρ∞ - 2) ρ)`, else `θ ← θ - lr · m̂`. The paper adapts from `ρ > 4`
/// on; the limit 5 and the place of `ε`, beside the uncorrected `√v`, are those of its authors' code and
/// of PyTorch.
pub(super) fn step(config: AdamConfig, learning_rate: f64, t: u64) -> AdamStep {
    let AdamConfig { beta1, beta2, epsilon, weight_decay } = config;
    let t = t as f64;
    let shrink = 1. - learning_rate * weight_decay;
    let rate = learning_rate / (1. - beta1.powf(t));
    let power = beta2.powf(t);
    let limit = 2. / (1. - beta2) - 1.;
    let length = limit - 2. * t * power / (1. - power);
    if length <= 5. {
        return AdamStep { beta1, beta2, shrink, rate, scale: 0., epsilon: 1. };
    }
    let rectification =
        ((length - 4.) * (length - 2.) * limit / ((limit - 4.) * (limit - 2.) * length)).sqrt();
    let rate = rate * rectification * (1. - power).sqrt();
    AdamStep { beta1, beta2, shrink, rate, scale: 1., epsilon }
}
