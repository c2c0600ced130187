//! Which `k` of `D` features does the target depend on? Selector and regression are learned together, on data
//! where the largest correlations mislead.
//!
//! The selector is a distribution over subsets of size `k`, and each prediction sees the features of one sample
//! of it. There are two ways to a gradient: SIMPLE (Ahmed et al., 2023) and the straight-through relaxation of
//! the Gumbel top-k trick (Xie and Ermon, 2019).
//!
//! `cargo run --release --example top_k_features`
#![allow(clippy::print_stdout, reason = "an example reports to its reader")]
use candle_core::{D, DType, Device, Result, Tensor, Var};
use gumbel::Key;
use gumbel::kernels::Forward;
use gumbel::structured::{PlackettLuce, Subset};

const CPU: &Device = &Device::Cpu;
/// The effects of the last four features. All others have none.
const EFFECTS: [f32; 4] = [2., -1.5, 1., -0.8];
const SIZE: usize = EFFECTS.len();
const SAMPLES: usize = 8;

/// Features `x: [B, 20]` and targets `y: [B]`. Twelve features are noise, four are blurred copies of those that
/// matter, and the last four matter.
fn data(examples: usize, key: Key) -> Result<(Tensor, Tensor)> {
    let normal = |name, columns| key.named(name).normal((examples, columns), DType::F32, CPU);
    let relevant = normal("relevant", SIZE)?;
    let copies = ((&relevant * 0.8)? + (normal("blur", SIZE)? * 0.6)?)?;
    let x = Tensor::cat(&[&normal("others", 12)?, &copies, &relevant], 1)?;
    let effects = relevant.broadcast_mul(&Tensor::new(&EFFECTS, CPU)?)?.sum(1)?;
    let y = (effects + (normal("noise", 1)?.squeeze(1)? * 0.3)?)?;
    Ok((x, y))
}

/// The places of the `SIZE` largest scores, in ascending order.
fn largest(scores: &Tensor) -> Result<Vec<u32>> {
    let mut places = scores.arg_sort_last_dim(false)?.narrow(0, 0, SIZE)?.to_vec1::<u32>()?;
    places.sort_unstable();
    Ok(places)
}

/// The features found. `select` draws `[S, D]` of zeros and ones from the selector's `logits: [D]`.
fn learn(x: &Tensor, y: &Tensor, select: fn(&Tensor, Key) -> Result<Tensor>) -> Result<Vec<u32>> {
    let features = x.dim(D::Minus1)?;
    let logits = Var::zeros(features, DType::F32, CPU)?;
    let weights = Var::zeros(features, DType::F32, CPU)?;
    let key = Key::from_seed(2);
    for step in 0..300 {
        let z = select(&logits, key.fold_in(step))?; // [S, D]
        let prediction = z.broadcast_mul(&weights)?.matmul(&x.t()?)?; // [S, B]
        let loss = prediction.broadcast_sub(y)?.sqr()?.mean_all()?;
        let gradients = loss.backward()?;
        for var in [&logits, &weights] {
            if let Some(gradient) = gradients.get(var) {
                var.set(&(var.as_tensor() - (gradient * 0.1)?)?)?;
            }
        }
    }
    largest(&logits)
}

fn simple(logits: &Tensor, key: Key) -> Result<Tensor> {
    Subset::new(logits, SIZE)?.rsample_simple(SAMPLES, key)
}

fn straight_through_top_k(logits: &Tensor, key: Key) -> Result<Tensor> {
    PlackettLuce::new(logits)?.relaxed_top_k(SIZE, 0.5, Forward::Hard, SAMPLES, key)
}

fn main() -> Result<()> {
    let (x, y) = data(256, Key::from_seed(1))?;
    let correlations = y.unsqueeze(0)?.matmul(&x)?.abs()?.squeeze(0)?;
    println!("the features that matter:    [16, 17, 18, 19]");
    println!("by the largest correlations: {:?}", largest(&correlations)?);
    println!("learned with SIMPLE:         {:?}", learn(&x, &y, simple)?);
    println!("learned with relaxed top-k:  {:?}", learn(&x, &y, straight_through_top_k)?);
    Ok(())
}

#[test]
fn the_features_that_matter_are_found_where_correlations_mislead() -> Result<()> {
    for seed in 1..4 {
        let (x, y) = data(256, Key::from_seed(seed))?;
        let correlations = y.unsqueeze(0)?.matmul(&x)?.abs()?.squeeze(0)?;
        assert_ne!(largest(&correlations)?, [16, 17, 18, 19]);
        assert_eq!(learn(&x, &y, simple)?, [16, 17, 18, 19]);
        assert_eq!(learn(&x, &y, straight_through_top_k)?, [16, 17, 18, 19]);
    }
    Ok(())
}
