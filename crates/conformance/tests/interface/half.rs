//! Storage in half precision with single precision inside: the results are those of the rounded inputs.
use candle_core::{DType, Result, Tensor, Var};
use gumbel::distributions::{Bernoulli, BinConcrete, Categorical, ExpConcrete, InvertibleGaussian};
use gumbel::estimators::{Divergence, Trace};
use gumbel::kernels::Forward;
use gumbel::objectives::Elbo;
use gumbel::structured::{PlackettLuce, gumbel_sinkhorn};
use gumbel::{Key, SampleMode, codebook_lookup, gumbel_softmax, sample_categorical};

use crate::{CPU, assert_close, estimators, gradient, numbers};

const HALVES: [DType; 2] = [DType::BF16, DType::F16];

fn rounded(shape: &[usize], seed: u64, dtype: DType) -> Result<Tensor> {
    (Key::from_seed(seed).normal(shape, DType::F32, CPU)? * 4.)?.to_dtype(dtype)
}

/// A function of posterior and prior logits, and its name.
type Quantity = (&'static str, fn(&Tensor, &Tensor) -> Result<Tensor>);

const KEY: fn() -> Key = || Key::from_seed(3);

/// What is returned in single precision.
const CLASSES: [Quantity; 9] = [
    ("log_prob", |q, _| {
        let q = Categorical::from_logits(q)?;
        q.log_prob(&q.sample(5, KEY())?)
    }),
    ("entropy", |q, _| Categorical::from_logits(q)?.entropy()),
    ("kl", |q, p| Categorical::from_logits(q)?.kl(&Categorical::from_logits(p)?)),
    ("log_probs", |q, _| Categorical::from_logits(q)?.log_probs()),
    ("log_density", |q, p| {
        let (q, p) = (ExpConcrete::new(q, 0.3)?, ExpConcrete::new(p, 0.5)?);
        let (y, log_q) = q.rsample_with_log_density(5, KEY())?;
        p.log_density(&y)? - log_q
    }),
    ("log_density of a sample", |q, _| {
        // The sample is rounded where it is stored; a rounded one in single precision gives the same.
        let q = ExpConcrete::new(q, 0.5)?;
        q.log_density(&rounded(&[5, 2, 3, 4], 9, DType::BF16)?)
    }),
    ("log_density_simplex", |q, _| {
        let x = Key::from_seed(8).uniform((5, 2, 3, 4), DType::BF16, CPU)?;
        ExpConcrete::new(q, 0.5)?.log_density_simplex(&x)
    }),
    ("Concrete entropy", |q, _| ExpConcrete::new(q, 0.3)?.entropy()),
    ("Concrete kl", |q, p| ExpConcrete::new(q, 0.5)?.kl(&ExpConcrete::new(p, 0.5)?)),
];

const BITS: [Quantity; 8] = [
    ("log_prob", |q, _| {
        let q = Bernoulli::from_logits(q)?;
        q.log_prob(&q.sample(5, KEY())?)
    }),
    ("entropy", |q, _| Bernoulli::from_logits(q)?.entropy()),
    ("kl", |q, p| Bernoulli::from_logits(q)?.kl(&Bernoulli::from_logits(p)?)),
    ("log_density", |q, p| {
        let (q, p) = (BinConcrete::new(q, 0.3)?, BinConcrete::new(p, 0.5)?);
        let (v, log_q) = q.rsample_with_log_density(5, KEY())?;
        p.log_density(&v)? - log_q
    }),
    ("log_density_unit", |q, _| {
        let x = Key::from_seed(8).uniform((5, 2, 3), DType::F32, CPU)?.affine(0.9, 0.05)?;
        BinConcrete::new(q, 0.3)?.log_density_unit(&x.to_dtype(DType::BF16)?)
    }),
    ("Concrete entropy", |q, _| BinConcrete::new(q, 0.3)?.entropy()),
    ("Concrete mean", |q, _| BinConcrete::new(q, 0.3)?.mean()),
    ("Concrete kl", |q, p| BinConcrete::new(q, 0.3)?.kl(&BinConcrete::new(p, 0.5)?)),
];

/// Value in single precision, bit by bit; gradients that reach the variables in their own dtype.
#[test]
fn probabilities_densities_and_entropies_are_those_of_the_rounded_logits() -> Result<()> {
    for (quantities, shape) in [(&CLASSES[..], &[1, 2, 3, 4][..]), (&BITS, &[1, 2, 3])] {
        for half in HALVES {
            let logits = [rounded(shape, 1, half)?, rounded(shape, 2, half)?];
            for (name, quantity) in quantities {
                let run = |dtype: DType| {
                    let [q, p] = logits.each_ref().map(|t| Var::from_tensor(&t.to_dtype(dtype)?));
                    let (q, p) = (q?, p?);
                    let y = quantity(&q, &p)?;
                    assert_eq!(y.dtype(), DType::F32, "{name}");
                    let gradients = [gradient(&y, &q)?, gradient(&y, &p)?];
                    for gradient in &gradients {
                        assert_eq!(gradient.dtype(), dtype, "{name}");
                    }
                    let [a, b] = gradients.map(|g| numbers(&g.to_dtype(half)?));
                    Ok::<_, candle_core::Error>((numbers(&y)?, a?, b?))
                };
                assert_eq!(run(half)?, run(DType::F32)?, "{name} in {half:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn samples_come_in_the_dtype_of_the_logits_and_are_the_rounded_ones() -> Result<()> {
    type Sample = (&'static str, fn(&Tensor) -> Result<Tensor>);
    let samples: [Sample; 17] = [
        ("sample", |l| Categorical::from_logits(l)?.sample(5, KEY())),
        ("mode", |l| Categorical::from_logits(l)?.mode()),
        ("uniform", |l| Categorical::uniform_like(&Categorical::from_logits(l)?)?.sample(5, KEY())),
        ("from_probs", |l| Categorical::from_probs(&l.abs()?)?.sample(5, KEY())),
        ("rsample", |l| ExpConcrete::new(l, 0.5)?.rsample(5, KEY())),
        ("relax", |l| Categorical::from_logits(l)?.relax(0.5)?.rsample(5, KEY())),
        ("Concrete mode", |l| ExpConcrete::new(l, 0.5)?.mode()),
        ("bits", |l| Bernoulli::from_logits(&l.squeeze(0)?)?.sample(2, KEY())),
        ("relaxed bits", |l| BinConcrete::new(&l.squeeze(0)?, 0.5)?.rsample(2, KEY())),
        ("soft", |l| gumbel_softmax(l, 0.5, false, 1, KEY())),
        ("hard", |l| gumbel_softmax(l, 0.5, true, 1, KEY())),
        ("learned", |l| gumbel_softmax(l, &Tensor::new(0.5f32, CPU)?, false, 1, KEY())),
        ("Gaussian", |l| InvertibleGaussian::new(l, &l.zeros_like()?, 0.5, 1.)?.rsample(5, KEY())),
        ("Sinkhorn", |l| gumbel_sinkhorn(&l.narrow(3, 0, 3)?, 0.5, 1., 5, 2, KEY())),
        ("soft top 2", |l| PlackettLuce::new(l)?.relaxed_top_k(2, 0.5, Forward::Soft, 3, KEY())),
        ("hard top 2", |l| PlackettLuce::new(l)?.relaxed_top_k(2, 0.5, Forward::Hard, 3, KEY())),
        ("mean", |l| sample_categorical(l, 0.5, SampleMode::Mean, 1, KEY())),
    ];
    for half in HALVES {
        let logits = rounded(&[1, 2, 3, 4], 4, half)?;
        for (name, sample) in samples {
            let (stored, single) = (sample(&logits)?, sample(&logits.to_dtype(DType::F32)?)?);
            assert_eq!((stored.dtype(), single.dtype()), (half, DType::F32), "{name}");
            assert_eq!(numbers(&stored)?, numbers(&single.to_dtype(half)?)?, "{name} in {half:?}");
        }
    }
    Ok(())
}

#[test]
fn a_lookup_is_summed_in_single_precision() -> Result<()> {
    for half in HALVES {
        let (weights, codebook) =
            (rounded(&[3, 2, 400], 5, half)?, rounded(&[2, 400, 6], 6, half)?);
        let single =
            codebook_lookup(&weights.to_dtype(DType::F32)?, &codebook.to_dtype(DType::F32)?)?;
        let stored = codebook_lookup(&weights, &codebook)?;
        assert_eq!(numbers(&stored)?, numbers(&single.to_dtype(half)?)?);
    }
    Ok(())
}

/// Draws that reach the model are rounded, and so is its likelihood; everything between is not.
#[test]
fn every_estimator_takes_a_model_in_half_precision() -> Result<()> {
    let weights = rounded(&[2, 3], 5, DType::BF16)?;
    for divergence in [Divergence::Analytic, Divergence::Sampled] {
        let objective = Elbo { divergence, beta: 1. };
        let run = |which: usize, dtype: DType| {
            let logits =
                Var::from_tensor(&rounded(&[1, 2, 2, 3], 6, DType::BF16)?.to_dtype(dtype)?)?;
            let weights = weights.to_dtype(dtype)?;
            let program = |trace: &mut Trace<'_>| {
                let q = Categorical::from_logits(&logits)?;
                let z = trace.sample("classes", &q, &Categorical::uniform_like(&q)?)?;
                assert_eq!(z.dtype(), dtype);
                let bits = Bernoulli::from_logits(&logits.narrow(3, 0, 1)?.squeeze(3)?)?;
                let b = trace.sample("bits", &bits, &Bernoulli::uniform_like(&bits)?)?;
                trace.observe("label", &bits, &Tensor::ones((1, 2, 2), dtype, CPU)?)?;
                let score = z.broadcast_mul(&weights)?.sum((2, 3))?;
                (score.sqr()? * 0.125)?.neg()? + b.sum(2)?
            };
            let estimator = &estimators::all(&program)?[which];
            let surrogate = estimator.surrogate(&program, &objective, Key::from_seed(7))?;
            assert_eq!(surrogate.bound.dtype(), DType::F32);
            let gradient = gradient(&surrogate.loss, &logits)?;
            assert_eq!(gradient.dtype(), dtype);
            Ok::<_, candle_core::Error>((
                format!("{estimator:?}"),
                numbers(&surrogate.bound)?,
                numbers(&gradient)?,
            ))
        };
        for which in 0..estimators::COUNT {
            let (name, bound, gradient) = match run(which, DType::BF16) {
                Err(error) if error.to_string().contains("has no density") => continue,
                result => result?,
            };
            let (_, exact_bound, exact_gradient) = run(which, DType::F32)?;
            assert_close(&name, &bound, &exact_bound, 0.02);
            let size = exact_gradient.iter().fold(0f64, |a, x| a.max(x.abs()));
            for (a, b) in gradient.iter().zip(&exact_gradient) {
                assert!((a - b).abs() < 0.03 * size, "{name}: {a} against {b} of {size}");
            }
        }
    }
    Ok(())
}
