//! Samplers against their laws: distribution functions, tails, rounding, densities, independence.
//!
//! Seeds are fixed: a red test is a change of the code and not bad luck. With new seeds, about one
//! Kolmogorov–Smirnov test in a thousand and one count in 150 000 would fail.
use candle_core::{DType, Device, Result, Tensor};
use gumbel::distributions::{Bernoulli, BinConcrete, Categorical, ExpConcrete};
use gumbel::{Key, gumbel_softmax};
use gumbel_conformance::{
    KOLMOGOROV_SMIRNOV_CRITICAL, Z_CRITICAL, binomial_z, correlation_z, kolmogorov_smirnov,
    mean_and_error, normal_cdf,
};

const CPU: &Device = &Device::Cpu;

/// Draws of a Kolmogorov–Smirnov test.
const DRAWS: usize = 1_000_000;

fn logistic_cdf(x: f64) -> f64 {
    1. / (1. + (-x).exp())
}

fn gumbel_cdf(x: f64) -> f64 {
    (-(-x).exp()).exp()
}

type Draw = fn(Key, usize, DType, &Device) -> Result<Tensor>;

/// A source of standard noise, its law, and points with `10^-3`, `10^-4`, `10^-5` of the mass beyond.
struct Noise {
    name: &'static str,
    draw: Draw,
    cdf: fn(f64) -> f64,
    /// Quantile function of the lower tail, and of the upper tail.
    tails: [fn(f64) -> f64; 2],
}

/// Quantiles of the normal distribution at the three levels.
fn normal_quantile(p: f64) -> f64 {
    let exponent = (-p.log10()).round() as usize;
    [3.090_232_306_167_813_5, 3.719_016_485_455_709, 4.264_890_793_922_825][exponent - 3]
}

const NOISES: [Noise; 4] = [
    Noise {
        name: "uniform",
        draw: Key::uniform,
        cdf: |u| u.clamp(0., 1.),
        tails: [|p| p, |p| 1. - p],
    },
    Noise {
        name: "gumbel",
        draw: Key::gumbel,
        cdf: gumbel_cdf,
        tails: [|p| -(-p.ln()).ln(), |p| -(-(-p).ln_1p()).ln()],
    },
    Noise {
        name: "logistic",
        draw: Key::logistic,
        cdf: logistic_cdf,
        tails: [|p| p.ln() - (-p).ln_1p(), |p| (-p).ln_1p() - p.ln()],
    },
    Noise {
        name: "normal",
        draw: Key::normal,
        cdf: normal_cdf,
        tails: [|p| -normal_quantile(p), normal_quantile],
    },
];

fn numbers(x: &Tensor) -> Result<Vec<f64>> {
    x.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

fn assert_law(what: &str, samples: Vec<f64>, cdf: impl Fn(f64) -> f64) {
    let statistic = kolmogorov_smirnov(samples, cdf);
    assert!(statistic < KOLMOGOROV_SMIRNOV_CRITICAL, "{what}: distance {statistic:.2}");
}

fn assert_count(what: &str, count: usize, trials: usize, p: f64) {
    let z = binomial_z(count, trials, p);
    assert!(z.abs() < Z_CRITICAL, "{what}: {count} of {trials} for p = {p:e}, z = {z:.1}");
}

#[test]
fn noise_has_its_distribution_function() -> Result<()> {
    for (seed, noise) in NOISES.iter().enumerate() {
        for dtype in [DType::F32, DType::F64] {
            let x = (noise.draw)(Key::from_seed(seed as u64), DRAWS, dtype, CPU)?;
            assert_law(&format!("{} {dtype:?}", noise.name), numbers(&x)?, noise.cdf);
        }
    }
    Ok(())
}

/// Levels at which tails are counted, and draws for that: even at the last, no draw at all is caught.
const LEVELS: [f64; 3] = [1e-3, 1e-4, 1e-5];
const TAIL_DRAWS: usize = 4_000_000;

fn beyond(x: &[f64], cut: f64, upper: bool) -> usize {
    x.iter().filter(|x| if upper { **x > cut } else { **x < cut }).count()
}

#[test]
fn noise_has_both_of_its_tails() -> Result<()> {
    for (seed, noise) in NOISES.iter().enumerate() {
        let key = Key::from_seed(seed as u64).named("tails");
        let x = numbers(&(noise.draw)(key, TAIL_DRAWS, DType::F32, CPU)?)?;
        for (upper, quantile) in [false, true].into_iter().zip(noise.tails) {
            for p in LEVELS {
                let count = beyond(&x, quantile(p), upper);
                let what = format!("{}, upper tail {upper}", noise.name);
                assert_count(&what, count, TAIL_DRAWS, p);
            }
        }
    }
    assert!(binomial_z(0, TAIL_DRAWS, LEVELS[2]) < -Z_CRITICAL);
    Ok(())
}

/// Why tails are counted: noise from uniforms in `[1e-7, 0.999)`, as in candle's own `gumbel_softmax`,
/// lacks the largest thousandth of the draws, and passes the Kolmogorov–Smirnov test.
#[test]
fn clipped_noise_is_caught_by_its_tail_alone() -> Result<()> {
    let u = numbers(&Key::from_seed(11).uniform(DRAWS, DType::F64, CPU)?)?;
    let clipped: Vec<f64> = u.iter().map(|u| -(-(1e-7 + u * (0.999 - 1e-7)).ln()).ln()).collect();
    let count = beyond(&clipped, -(-(-1e-3f64).ln_1p()).ln(), true);
    assert_law("clipped noise", clipped, gumbel_cdf);
    assert_eq!(count, 0);
    assert!(binomial_z(count, DRAWS, 1e-3) < -Z_CRITICAL);
    Ok(())
}

#[test]
fn coordinates_of_relaxed_samples_are_logistic() -> Result<()> {
    let bit = Tensor::new(&[[[1.3]]], CPU)?;
    let logits = [0.4, -1.1, 2.];
    let class = Tensor::new(&[[[logits]]], CPU)?;
    for (seed, temperature) in [0.1, 0.67, 2.].into_iter().enumerate() {
        let key = Key::from_seed(seed as u64).named("coordinates");
        let v = BinConcrete::new(&bit, temperature)?.rsample(DRAWS, key)?;
        let cdf = |v: f64| logistic_cdf(temperature * v - 1.3);
        assert_law(&format!("logit at {temperature}"), numbers(&v)?, cdf);

        // y_i - y_j = (logits_i - logits_j + G_i - G_j) / τ, and G_i - G_j is logistic.
        let y = ExpConcrete::new(&class, temperature)?.rsample(DRAWS, key)?;
        let y = numbers(&y)?;
        for (i, j) in [(0, 1), (1, 2), (2, 0)] {
            let cdf = |d: f64| logistic_cdf(temperature * d - (logits[i] - logits[j]));
            let difference = y.chunks_exact(3).map(|y| y[i] - y[j]).collect();
            assert_law(&format!("y_{i} - y_{j} at {temperature}"), difference, cdf);
        }
    }
    Ok(())
}

/// The library's own distribution function on the unit interval: `cdf(X)` is uniform.
#[test]
fn the_distribution_function_of_a_relaxed_bit_is_that_of_its_samples() -> Result<()> {
    for (seed, temperature) in [0.3, 1.5].into_iter().enumerate() {
        let d = BinConcrete::new(&Tensor::new(&[[[-0.8]]], CPU)?, temperature)?;
        let v = d.rsample(DRAWS, Key::from_seed(20 + seed as u64))?;
        let u = d.cdf(&gumbel_kernels::sigmoid(&v)?)?;
        assert_law(&format!("cdf at {temperature}"), numbers(&u)?, |u| u);
    }
    Ok(())
}

/// Draws of a rounding test: 40 of them fall on a class of probability 1e-4.
const ROUNDINGS: usize = 400_000;

/// Class probabilities of `K` categories, the second of them rare.
fn classes(k: usize) -> Vec<f64> {
    let rest: f64 = (0..k).filter(|i| *i != 1).map(|i| 1. + i as f64).sum();
    let common = |i: usize| (1. + i as f64) / rest * (1. - 1e-4);
    (0..k).map(|i| if i == 1 { 1e-4 } else { common(i) }).collect()
}

/// How often each entry of `[n, K]` is the largest.
fn largest(y: &Tensor, k: usize) -> Result<Vec<usize>> {
    let y: Vec<f32> = y.flatten_all()?.to_vec1()?;
    let mut counts = vec![0; k];
    for row in y.chunks_exact(k) {
        let top = (1..k).fold(0, |top, i| if row[i] > row[top] { i } else { top });
        counts[top] += 1;
    }
    Ok(counts)
}

/// Maddison et al. (2017), proposition 1(b): the largest coordinate of a Concrete variable has the
/// categorical distribution, at every temperature.
#[test]
fn rounding_a_relaxed_class_gives_the_class_at_every_temperature() -> Result<()> {
    for k in [2, 4, 10] {
        let p = classes(k);
        // Logits that are not normalised: a constant does not matter.
        let logits: Vec<f32> = p.iter().map(|p| (p.ln() + 3.) as f32).collect();
        let logits = Tensor::new(logits, CPU)?.reshape((1, 1, 1, k))?;
        let rows = logits.reshape((1, k))?.broadcast_as((ROUNDINGS, k))?.contiguous()?;
        let q = Categorical::from_logits(&logits)?;
        for (seed, temperature) in [0.1, 0.5, 1., 2., 5.].into_iter().enumerate() {
            let key = Key::from_seed((100 * k + seed) as u64);
            let samples = [
                ("sample", q.sample(ROUNDINGS, key.named("sample"))?),
                ("soft", gumbel_softmax(&rows, temperature, false, 1, key.named("soft"))?),
                ("hard", gumbel_softmax(&rows, temperature, true, 1, key.named("hard"))?),
                ("relaxed", q.relax(temperature)?.rsample(ROUNDINGS, key.named("relaxed"))?),
            ];
            for (name, y) in samples {
                for (class, (count, p)) in largest(&y, k)?.into_iter().zip(&p).enumerate() {
                    let what = format!("{name}, class {class} of {k} at {temperature}");
                    assert_count(&what, count, ROUNDINGS, *p);
                }
            }
        }
    }
    Ok(())
}

/// Proposition 2(b): a relaxed bit is above one half with the probability of the bit.
#[test]
fn rounding_a_relaxed_bit_gives_the_bit_at_every_temperature() -> Result<()> {
    let p = [0.5, 1e-4, 1. - 1e-4, 0.2];
    let logits: Vec<f32> = p.iter().map(|p: &f64| (p.ln() - (-p).ln_1p()) as f32).collect();
    let q = Bernoulli::from_logits(&Tensor::new(logits, CPU)?.reshape((1, 1, 4))?)?;
    let check = |name: &str, x: &Tensor, threshold: f32| -> Result<()> {
        let x: Vec<f32> = x.flatten_all()?.to_vec1()?;
        for (i, p) in p.iter().enumerate() {
            let count = x.iter().skip(i).step_by(4).filter(|x| **x > threshold).count();
            assert_count(&format!("{name}, bit {i}"), count, ROUNDINGS, *p);
        }
        Ok(())
    };
    for (seed, temperature) in [0.1, 0.5, 1., 2., 5.].into_iter().enumerate() {
        let key = Key::from_seed(200 + seed as u64);
        check("sample", &q.sample(ROUNDINGS, key.named("sample"))?, 0.5)?;
        let v = q.relax(temperature)?.rsample(ROUNDINGS, key.named("relaxed"))?;
        check(&format!("relaxed at {temperature}"), &v, 0.)?;
    }
    Ok(())
}

#[test]
fn a_masked_class_is_never_drawn() -> Result<()> {
    let logits = Tensor::new(&[[[[0.3f32, f32::NEG_INFINITY, 1.]]]], CPU)?;
    let q = Categorical::from_logits(&logits)?;
    let p = 1. / (1. + 0.7f64.exp());
    for (seed, y) in [
        q.sample(ROUNDINGS, Key::from_seed(30))?,
        q.relax(0.5)?.rsample(ROUNDINGS, Key::from_seed(31))?,
    ]
    .iter()
    .enumerate()
    {
        let counts = largest(y, 3)?;
        assert_eq!(counts[1], 0);
        assert_count(&format!("unmasked class, {seed}"), counts[0], ROUNDINGS, p);
    }
    Ok(())
}

/// `E_p[q(y) / p(y)] = 1` for a proposal `p` of lower temperature, whose tails are heavier.
#[test]
fn importance_weights_between_two_temperatures_have_mean_one() -> Result<()> {
    let n = 200_000;
    for (seed, k) in [2, 3, 10].into_iter().enumerate() {
        let key = Key::from_seed(40 + seed as u64);
        let logits = key.named("logits").normal((1, 1, 1, k), DType::F64, CPU)?;
        let (p, q) = (ExpConcrete::new(&(&logits * 0.5)?, 0.8)?, ExpConcrete::new(&logits, 1.)?);
        let (y, log_p) = p.rsample_with_log_density(n, key)?;
        let weights = numbers(&(q.log_density(&y)? - log_p)?.exp()?)?;
        let (mean, error) = mean_and_error(&weights);
        assert!(error < 0.01, "K = {k}: too few draws, {mean} ± {error}");
        assert!((mean - 1.).abs() < Z_CRITICAL * error, "K = {k}: {mean} ± {error}");
    }
    let logits = Tensor::new(&[[[0.7]]], CPU)?;
    let (p, q) = (BinConcrete::new(&(&logits * 0.)?, 0.5)?, BinConcrete::new(&logits, 0.7)?);
    let (v, log_p) = p.rsample_with_log_density(n, Key::from_seed(50))?;
    let (mean, error) = mean_and_error(&numbers(&(q.log_density(&v)? - log_p)?.exp()?)?);
    assert!(error < 0.01 && (mean - 1.).abs() < Z_CRITICAL * error, "{mean} ± {error}");
    Ok(())
}

/// The trapezoidal rule over the coordinates `y_k - y_K` of three categories: the normalising constant
/// to nine digits, at temperatures where importance weights say little.
#[test]
fn the_density_integrates_to_one_on_a_grid() -> Result<()> {
    for temperature in [0.5, 1., 3.] {
        let (half, step) = (45. / temperature, 0.5 / temperature);
        let side = (2. * half / step) as usize + 1;
        let at = |i: usize| i as f64 * step - half;
        let points: Vec<f64> =
            (0..side * side).flat_map(|m| [at(m / side), at(m % side), 0.]).collect();
        let y = Tensor::from_vec(points, (side * side, 1, 1, 3), CPU)?;
        let q = ExpConcrete::new(&Tensor::new(&[[[[0.6, -0.9, 0.2]]]], CPU)?, temperature)?;
        let total = q.log_density(&y)?.exp()?.sum_all()?.to_scalar::<f64>()? * step * step;
        assert!((total - 1.).abs() < 1e-9, "{total} at {temperature}");
    }
    Ok(())
}

/// Neighbours in a stream (the lanes of one block of the generator, the pairs of normal deviates) and
/// streams of neighbouring keys are uncorrelated.
#[test]
fn draws_are_uncorrelated() -> Result<()> {
    let key = Key::from_seed(60);
    for noise in &NOISES {
        let x = numbers(&(noise.draw)(key, DRAWS, DType::F64, CPU)?)?;
        let other = numbers(&(noise.draw)(key.fold_in(1), DRAWS, DType::F64, CPU)?)?;
        let check = |what: &str, pairs: &[(f64, f64)]| {
            let z = correlation_z(pairs);
            assert!(z.abs() < Z_CRITICAL, "{}, {what}: z = {z:.1}", noise.name);
        };
        for lag in [1, 2, 4] {
            let pairs: Vec<(f64, f64)> = x.iter().copied().zip(x[lag..].iter().copied()).collect();
            check(&format!("lag {lag}"), &pairs);
            let size = |x: f64| (x - 0.5).powi(2).min(100.);
            let squares: Vec<(f64, f64)> =
                pairs.iter().map(|(a, b)| (size(*a), size(*b))).collect();
            check(&format!("squares, lag {lag}"), &squares);
        }
        let pairs: Vec<(f64, f64)> = x.into_iter().zip(other).collect();
        check("parent and child", &pairs);
    }
    Ok(())
}
