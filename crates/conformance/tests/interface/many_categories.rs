//! A vocabulary of 262,144 categories in single precision, held against double precision.
use candle_core::{DType, Result, Tensor, Var};
use gumbel::distributions::{Categorical, ExpConcrete};
use gumbel::kernels::log_softmax;
use gumbel::{Key, gumbel_softmax};

use crate::{CPU, assert_close, gradient, numbers};

const K: usize = 262_144;

/// Two rows: as a language model has them, and one category far above a flat tail.
fn logits() -> Result<Tensor> {
    let spread = (Key::from_seed(1).normal((1, 1, 1, K), DType::F32, CPU)? * 3.)?;
    let mut flat = vec![0f32; K];
    flat[7] = 12.;
    Tensor::cat(&[spread, Tensor::from_vec(flat, (1, 1, 1, K), CPU)?], 1)
}

#[test]
fn probabilities_entropies_and_divergences_keep_their_digits() -> Result<()> {
    let single = logits()?;
    let double = single.to_dtype(DType::F64)?;
    let law = |logits: &Tensor| Categorical::from_logits(logits);
    let gap = (log_softmax(&single)?.to_dtype(DType::F64)? - log_softmax(&double)?)?;
    let gap = gap.abs()?.max_all()?.to_scalar::<f64>()?;
    assert!(gap < 1e-5, "{gap}");
    let (entropy, exact) = (law(&single)?.entropy()?, law(&double)?.entropy()?);
    assert_close("entropy", &numbers(&entropy)?, &numbers(&exact)?, 1e-5);
    let uniform = |q: &Categorical| q.kl(&Categorical::uniform_like(q)?);
    let (kl, exact) = (uniform(&law(&single)?)?, uniform(&law(&double)?)?);
    assert_close("kl", &numbers(&kl)?, &numbers(&exact)?, 2e-5);
    Ok(())
}

#[test]
fn samples_are_valid_and_have_their_probability() -> Result<()> {
    let (single, key) = (logits()?, Key::from_seed(2));
    let (q, exact) = (
        Categorical::from_logits(&single)?,
        Categorical::from_logits(&single.to_dtype(DType::F64)?)?,
    );
    let z = q.sample(3, key)?;
    assert_eq!(numbers(&z.sum(3)?)?, [1.; 6]);
    assert_eq!(numbers(&z.max(3)?)?, [1.; 6]);
    let of_exact = exact.log_prob(&z.to_dtype(DType::F64)?)?;
    assert_close("log_prob", &numbers(&q.log_prob(&z)?)?, &numbers(&of_exact)?, 1e-5);
    let soft = gumbel_softmax(&single, 0.5, false, 3, key)?;
    assert_close("sums", &numbers(&soft.sum(3)?)?, &[1.; 2], 1e-5);
    Ok(())
}

/// P(peak) = e¹² / (e¹² + K - 1) = 0.383, and the rest is spread over the tail: candle's own function never
/// draws the tail of such a law.
#[test]
fn a_flat_tail_is_drawn_at_its_rate() -> Result<()> {
    let q = Categorical::from_logits(&logits()?.narrow(1, 1, 1)?)?;
    let (rounds, mut tail, mut low) = (60, 0., 0.);
    for round in 0..rounds {
        let z = q.sample(1, Key::from_seed(3).fold_in(round))?;
        let class = z.flatten_all()?.argmax(0)?.to_scalar::<u32>()? as usize;
        tail += f64::from(class != 7);
        low += f64::from(class != 7 && class < K / 2);
    }
    let (n, p) = (rounds as f64, (K - 1) as f64 / (12f64.exp() + (K - 1) as f64));
    assert!((tail - n * p).abs() < 4.5 * (n * p * (1. - p)).sqrt(), "{tail} of {n} for {p}");
    assert!((low - tail / 2.).abs() < 4.5 * (tail / 4.).sqrt(), "{low} of {tail}");
    Ok(())
}

#[test]
fn relaxed_samples_have_a_finite_density_with_its_digits() -> Result<()> {
    let (single, key) = (Var::from_tensor(&logits()?)?, Key::from_seed(4));
    for temperature in [0.1, 1.] {
        let q = ExpConcrete::new(&single, temperature)?;
        let (y, density) = q.rsample_with_log_density(2, key)?;
        let off = ExpConcrete::normaliser(&y)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(off < 1e-5, "{off}");
        let exact = ExpConcrete::new(&single.to_dtype(DType::F64)?, temperature)?;
        let wide = key.gumbel((2, 2, 1, K), DType::F64, CPU)?;
        let expected = numbers(&exact.log_density_of_noise(&wide)?)?;
        for density in [&density, &q.log_density(&y.detach())?] {
            for (a, b) in numbers(density)?.iter().zip(&expected) {
                assert!((a / b - 1.).abs() < 1e-5, "{a} {b}");
            }
        }
        let slopes = numbers(&gradient(&q.log_density(&y.detach())?, &single)?)?;
        assert!(slopes.iter().all(|x| x.is_finite()));
        assert_close("entropy", &numbers(&q.entropy()?)?, &numbers(&exact.entropy()?)?, 1e-6);
    }
    Ok(())
}

/// The closed form takes time proportional to the number of categories.
#[test]
fn the_divergence_of_relaxed_laws_is_there_for_a_large_vocabulary() -> Result<()> {
    let normal = |seed| Key::from_seed(seed).normal((1, 1, 1, 4096), DType::F64, CPU);
    let (a, b) = (Var::from_tensor(&normal(5)?)?, normal(6)?);
    let kl = ExpConcrete::new(&a, 0.5)?.kl(&ExpConcrete::new(&b, 0.5)?)?;
    let discrete = Categorical::from_logits(&a)?.kl(&Categorical::from_logits(&b)?)?;
    assert!(numbers(&kl)?[0] > numbers(&discrete)?[0]);
    let slopes = numbers(&gradient(&kl, &a)?)?;
    assert!(slopes.iter().sum::<f64>().abs() < 1e-6 && slopes.iter().any(|x| x.abs() > 1e-3));
    Ok(())
}
