//! Rare values are drawn at their rate.
use candle_core::{DType, Result, Tensor};
use gumbel::distributions::{Bernoulli, Categorical};
use gumbel::{Key, gumbel_softmax};
use gumbel_conformance::{Z_CRITICAL, binomial_z};

use super::{CPU, numbers};

/// PyTorch in bf16 draws this class 6.7 times too rarely: its noise ends at 4.84.
#[test]
fn a_rare_class_is_drawn_at_its_rate_in_half_precision() -> Result<()> {
    let n = 2_000_000;
    let p = 1. / (1. + 6f64.exp()); // 2.47e-3
    for dtype in [DType::BF16, DType::F16] {
        let logits = Tensor::new(&[[[[0f32, -6.]]]], CPU)?.to_dtype(dtype)?;
        let check = |what: &str, rare: &Tensor| -> Result<()> {
            assert_eq!(rare.dtype(), dtype);
            let count = numbers(rare)?.iter().filter(|x| **x > 0.5).count();
            let z = binomial_z(count, n, p);
            assert!(z.abs() < Z_CRITICAL, "{what}: {count} of {n}, z = {z:.1}");
            Ok(())
        };
        let sample = Categorical::from_logits(&logits)?.sample(n, Key::from_seed(8))?;
        check("Categorical", &sample.narrow(3, 1, 1)?)?;
        let rows = logits.reshape((1, 2))?.broadcast_as((n, 2))?;
        let hard = gumbel_softmax(&rows, 0.5, true, 1, Key::from_seed(9))?;
        check("gumbel_softmax", &hard.narrow(1, 1, 1)?)?;
        let bits = Bernoulli::from_logits(&logits.narrow(3, 1, 1)?.squeeze(3)?)?;
        check("Bernoulli", &bits.sample(n, Key::from_seed(10))?)?;
    }
    Ok(())
}

const RARE: f64 = 1e-6;

/// Trials for which 22 rare events are expected, so that none at all would be 4.7 standard errors away.
const TRIALS: usize = 22_000_000;

fn assert_rare(count: f32) {
    let z = binomial_z(count as usize, TRIALS, RARE);
    assert!(z.abs() < Z_CRITICAL, "{count}, z = {z:.1}");
    assert!(binomial_z(0, TRIALS, RARE) < -Z_CRITICAL);
}

/// 44 classes have that probability each, beside one that takes the rest.
#[test]
fn a_class_of_probability_one_in_a_million_is_drawn_at_its_rate() -> Result<()> {
    let (rare, chunks) = (44u32, 10u32);
    let mut logits = vec![(RARE / (1. - f64::from(rare) * RARE)).ln() as f32; rare as usize + 1];
    logits[0] = 0.;
    let logits = Tensor::new(logits, CPU)?.reshape((1, 1, 1, ()))?;
    let q = Categorical::from_logits(&logits)?;
    let mut count = 0.;
    for chunk in 0..chunks {
        let z =
            q.sample(TRIALS / (chunks * rare) as usize, Key::from_seed(11).fold_in(chunk.into()))?;
        count += z.narrow(3, 1, rare as usize)?.sum_all()?.to_scalar::<f32>()?;
    }
    assert_rare(count);
    Ok(())
}

#[test]
fn a_bit_of_probability_one_in_a_million_is_drawn_at_its_rate() -> Result<()> {
    let logit = (RARE.ln() - (-RARE).ln_1p()) as f32;
    let q = Bernoulli::from_logits(&Tensor::new(&[[[logit]]], CPU)?)?;
    let mut count = 0.;
    for chunk in 0..22 {
        let bits = q.sample(TRIALS / 22, Key::from_seed(12).fold_in(chunk))?;
        count += bits.sum_all()?.to_scalar::<f32>()?;
    }
    assert_rare(count);
    Ok(())
}
