//! Learn to sort by a criterion that is never told, from lists and their sorted versions, by Gumbel-Sinkhorn
//! (Mena et al., 2018).
//!
//! Each item is scored for each place by itself, and a permutation is made of the scores: a relaxed and noisy
//! one in training, which has a gradient, and the best one by exact assignment afterwards.
//!
//! `cargo run --release --example sorting`
#![allow(clippy::print_stdout, reason = "an example reports to its reader")]
use candle_core::{D, DType, Device, Result, Tensor, Var};
use gumbel::Key;
use gumbel::structured::{gumbel_sinkhorn, hard_permutation};

const CPU: &Device = &Device::Cpu;
const LENGTH: usize = 6;
/// Items are sorted by this product with their features. The sorter sees only the result.
const CRITERION: [f32; 3] = [1., -2., 0.5];
const FEATURES: usize = CRITERION.len();

/// Lists of items with normal features, and their sorted versions: `[B, n, F]` each.
fn lists(count: usize, key: Key) -> Result<(Tensor, Tensor)> {
    let x = key.normal((count, LENGTH, FEATURES), DType::F32, CPU)?;
    let values = x.broadcast_mul(&Tensor::new(&CRITERION, CPU)?)?.sum(D::Minus1)?;
    let order = values.arg_sort_last_dim(true)?.unsqueeze(D::Minus1)?;
    let sorted = x.gather(&order.broadcast_as(x.shape())?.contiguous()?, 1)?;
    Ok((x, sorted))
}

/// Each item to its place: `x: [B, n, F]`, `permutation: [.., B, n, n]` (item by place) → `[.., B, n, F]`.
fn place(x: &Tensor, permutation: &Tensor) -> Result<Tensor> {
    permutation.t()?.broadcast_matmul(x)
}

/// A vector of weights for each place, `[F, n]`: the score of an item at a place is its product with them.
fn learn(steps: u64, key: Key) -> Result<Tensor> {
    let weights = Var::zeros((FEATURES, LENGTH), DType::F32, CPU)?;
    let (temperature, noise_scale, iterations, samples) = (1., 1., 10, 1);
    for step in 0..steps {
        let key = key.fold_in(step);
        let (x, sorted) = lists(64, key.named("lists"))?;
        let scores = x.broadcast_matmul(&weights)?; // [B, n, n]
        let noise = key.named("noise");
        let soft = gumbel_sinkhorn(&scores, temperature, noise_scale, iterations, samples, noise)?;
        let loss = place(&x, &soft)?.broadcast_sub(&sorted)?.sqr()?.mean_all()?;
        if let Some(gradient) = loss.backward()?.get(&weights) {
            let rate = 10. * (1. - step as f64 / steps as f64);
            weights.set(&(weights.as_tensor() - (gradient * rate)?)?)?;
        }
    }
    Ok(weights.as_detached_tensor())
}

/// The share of the items of new lists that come to their right places.
fn accuracy(weights: &Tensor, key: Key) -> Result<f64> {
    let (x, sorted) = lists(500, key)?;
    let permutation = hard_permutation(&x.broadcast_matmul(weights)?)?;
    let right = (place(&x, &permutation)? - sorted)?.abs()?.max(D::Minus1)?.lt(1e-6)?;
    right.to_dtype(DType::F64)?.mean_all()?.to_scalar()
}

fn main() -> Result<()> {
    for steps in [0, 10, 50, 200] {
        let weights = learn(steps, Key::from_seed(1))?;
        let share = accuracy(&weights, Key::from_seed(2))?;
        println!("after {steps} steps, items of new lists in their right places: {share:.3}");
    }
    Ok(())
}

#[test]
fn items_of_new_lists_come_to_their_right_places() -> Result<()> {
    let after = |steps| accuracy(&learn(steps, Key::from_seed(1))?, Key::from_seed(2));
    let (before, early, late) = (after(0)?, after(10)?, after(200)?);
    assert!(before < 0.3 && early < 0.9 && late > 0.93, "{before} {early} {late}");
    Ok(())
}
