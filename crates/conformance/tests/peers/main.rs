//! What goes wrong in other libraries, one test each: it does not go wrong here.
//!
//! Seeds are fixed: a red test is a change of the code and not bad luck.
mod rare;
mod temperature;

use candle_core::{D, DType, Device, Result, Tensor, Var};
use gumbel::distributions::{Bernoulli, BinConcrete, Categorical, ExpConcrete};
use gumbel::kernels::sigmoid;
use gumbel::{Key, SampleMode, gumbel_softmax, sample_categorical};
use gumbel_conformance::Z_CRITICAL;

const CPU: &Device = &Device::Cpu;

const FLOATS: [DType; 4] = [DType::F32, DType::F64, DType::BF16, DType::F16];

fn numbers(x: &Tensor) -> Result<Vec<f64>> {
    x.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

fn gradient(y: &Tensor, of: &Var) -> Result<Vec<f64>> {
    let grads = y.sum_all()?.backward()?;
    match grads.get(of.as_tensor()) {
        Some(gradient) => numbers(gradient),
        None => Ok(vec![0.; of.elem_count()]),
    }
}

/// PyTorch 2.13: 88.4 % of these are not finite.
#[test]
fn every_cold_sample_of_a_thousand_categories_has_a_finite_density() -> Result<()> {
    let logits = Key::from_seed(1).normal((1, 100, 1, 1000), DType::F32, CPU)?;
    for scale in [1., 20.] {
        let q = ExpConcrete::new(&(&logits * scale)?, 0.1)?;
        let (y, density) = q.rsample_with_log_density(20, Key::from_seed(2))?;
        let of_sample = numbers(&q.log_density(&y)?)?;
        for (a, b) in numbers(&density)?.iter().zip(of_sample) {
            assert!(a.is_finite() && (a - b).abs() < 1e-4 * a.abs(), "{a} {b}");
        }
        let on_the_simplex = numbers(&q.log_density_simplex_from_log(&y)?)?;
        assert!(on_the_simplex.iter().all(|x| x.is_finite()));
    }
    Ok(())
}

/// PyTorch: -∞ and a gradient that is no number. TensorFlow Probability: infinite for 99 % of samples.
#[test]
fn binary_concrete_is_exact_at_logits_of_50_and_a_temperature_of_a_hundredth() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        for logit in [-50., 50.] {
            let logits = Var::from_tensor(&Tensor::full(logit, (1, 1, 1), CPU)?.to_dtype(dtype)?)?;
            let q = BinConcrete::new(&logits, 0.01)?;
            let (v, density) = q.rsample_with_log_density(2000, Key::from_seed(3))?;
            assert!(numbers(&density)?.iter().all(|x| x.is_finite()));
            let slope = gradient(&v.mean(0)?, &logits)?[0];
            assert!((slope - 100.).abs() < 0.01, "{slope}"); // a sum of 2000 terms in f32
            // Of a fixed value: the derivative of `d - 2 ln(1 + e^d)`, and 0 on average.
            let fixed = q.log_density(&v.detach())?;
            assert!(numbers(&fixed)?.iter().all(|x| x.is_finite()));
            let score = gradient(&fixed.mean(0)?, &logits)?[0];
            assert!(score.abs() < Z_CRITICAL * (1. / 3f64 / 2000.).sqrt(), "{score}");
            for far in [-1e4, 1e4] {
                let far = Tensor::full(far, (1, 1, 1), CPU)?.to_dtype(dtype)?;
                let score = gradient(&q.log_density(&far)?, &logits)?[0];
                assert_eq!(score.abs(), 1., "{score}");
            }
            // E X of the relaxed bit, and its derivative: both e^-50 times a factor near 1, not 0.
            let mean = numbers(&q.mean()?)?[0];
            let rare = if logit < 0. {
                mean
            } else {
                numbers(&BinConcrete::new(&logits.neg()?, 0.01)?.mean()?)?[0]
            };
            assert!((rare / (-50f64).exp() - 1.).abs() < 1e-3, "{rare:e}");
            let slope = gradient(&q.mean()?, &logits)?[0];
            assert!((slope / (-50f64).exp() - 1.).abs() < 1e-3, "{slope:e}");
        }
    }
    Ok(())
}

/// PyTorch: log-densities `[n, n]`, since 2020.
#[test]
fn one_temperature_for_each_row_does_not_square_the_batch() -> Result<()> {
    let (n, k, s) = (5, 3, 2);
    let key = Key::from_seed(12);
    let logits = key.normal((1, n, 1, k), DType::F32, CPU)?;
    let temperatures = [0.3f32, 0.5, 1., 2., 4.];
    let tau = Tensor::new(&temperatures, CPU)?.unsqueeze(1)?; // [n, 1]
    let q = ExpConcrete::new(&logits, &tau)?;
    let (y, density) = q.rsample_with_log_density(s, key)?;
    assert_eq!((y.dims(), density.dims()), (&[s, n, 1, k][..], &[s, n][..]));
    assert_eq!((q.log_density(&y)?.dims(), q.entropy()?.dims()), (&[s, n][..], &[1, n][..]));
    assert_eq!(q.mode()?.dims(), [1, n, 1, k]);
    for (row, temperature) in temperatures.into_iter().enumerate() {
        let alone = ExpConcrete::new(&logits.narrow(1, row, 1)?, f64::from(temperature))?;
        let of_row = numbers(&q.log_density(&y)?.narrow(1, row, 1)?)?;
        let expected = numbers(&alone.log_density(&y.narrow(1, row, 1)?)?)?;
        for (a, b) in of_row.iter().zip(expected) {
            assert!((a - b).abs() < 1e-5, "row {row}: {a} {b}");
        }
    }
    let bits = BinConcrete::new(&logits.squeeze(2)?, &tau)?;
    let v = bits.rsample(s, key)?;
    assert_eq!((v.dims(), bits.log_density(&v)?.dims()), (&[s, n, k][..], &[s, n][..]));
    assert_eq!((bits.entropy()?.dims(), bits.mode()?.dims()), (&[1, n][..], &[1, n, k][..]));
    let rows = logits.reshape((n, k))?;
    assert_eq!(gumbel_softmax(&rows, &tau, false, 1, key)?.dims(), [n, k]);
    // A scalar tensor is a number; a temperature that would enlarge the logits is refused.
    let scalar = ExpConcrete::new(&logits, &Tensor::new(0.5f64, CPU)?)?.log_density(&y)?;
    let number = ExpConcrete::new(&logits, 0.5)?.log_density(&y)?;
    for (a, b) in numbers(&scalar)?.iter().zip(numbers(&number)?) {
        assert!((a - b).abs() < 1e-5 * b.abs().max(1.), "{a} {b}");
    }
    let shared = logits.narrow(1, 0, 1)?;
    assert!(ExpConcrete::new(&shared, &tau).unwrap_err().to_string().contains("broadcast"));
    Ok(())
}

#[test]
fn a_hard_sample_is_exactly_zero_or_one_in_every_dtype() -> Result<()> {
    let logits = (Key::from_seed(13).normal((1, 200, 5, 7), DType::F64, CPU)? * 5.)?;
    for dtype in FLOATS {
        let logits = logits.to_dtype(dtype)?;
        let key = Key::from_seed(14);
        let tau = Tensor::new(0.7f32, CPU)?;
        let q = Categorical::from_logits(&logits)?;
        let bits = Bernoulli::from_logits(&logits.squeeze(0)?)?;
        let mut samples = vec![q.sample(3, key)?, q.mode()?];
        for temperature in [0.01, 0.7, 1., 100.] {
            samples.push(gumbel_softmax(&logits, temperature, true, 3, key)?);
        }
        samples.push(gumbel_softmax(&logits, &tau, true, 3, key)?);
        samples.push(sample_categorical(&logits, 0.7, SampleMode::Mode, 3, key)?);
        for (i, z) in samples.iter().enumerate() {
            assert_eq!(z.dtype(), dtype);
            assert!(numbers(z)?.iter().all(|x| *x == 0. || *x == 1.), "{i} in {dtype:?}");
            let sums = numbers(&z.to_dtype(DType::F64)?.sum(D::Minus1)?)?;
            assert!(sums.iter().all(|x| *x == 1.), "{i} in {dtype:?}");
        }
        assert!(numbers(&bits.sample(200, key)?)?.iter().all(|x| *x == 0. || *x == 1.));
    }
    Ok(())
}

/// PyTorch refuses the probabilities of its own softmax in 7 of 20 batches of this size, and every sample in
/// half precision, because they do not sum to 1 within 10⁻⁶.
#[test]
fn no_check_of_the_simplex_gives_a_false_alarm() -> Result<()> {
    let k = 262_144;
    for seed in 0..3 {
        let key = Key::from_seed(seed);
        let logits = (key.named("logits").normal((1, 1, 2, k), DType::F32, CPU)? * 3.)?;
        let probs = gumbel::kernels::log_softmax(&logits)?.exp()?;
        let q = Categorical::from_probs(&probs)?;
        let relaxed = q.relax(0.5)?;
        let density = relaxed.log_density(&relaxed.rsample(1, key)?)?;
        assert!(numbers(&density)?[0].is_finite());
        assert!(numbers(&q.log_prob(&q.sample(1, key)?)?)?[0].is_finite());
    }
    for dtype in [DType::BF16, DType::F16] {
        let logits =
            Key::from_seed(15).normal((1, 50, 1, 100), DType::F32, CPU)?.to_dtype(dtype)?;
        let q = ExpConcrete::new(&logits, 0.5)?;
        let density = q.log_density(&q.rsample(4, Key::from_seed(16))?)?;
        assert_eq!(density.dtype(), DType::F32);
        assert!(numbers(&density)?.iter().all(|x| x.is_finite()));
    }
    Ok(())
}

/// PyTorch clamps: at logits 20, 30 and 50 samples have the same mean, 15.94, and no gradient.
#[test]
fn large_logits_do_not_saturate() -> Result<()> {
    for dtype in FLOATS {
        let logits = Tensor::new(&[[[20f32, 30., 50., -50.]]], CPU)?.to_dtype(dtype)?;
        let logits = Var::from_tensor(&logits)?;
        let q = BinConcrete::new(&logits, 1.)?;
        let v = q.rsample(10_000, Key::from_seed(17))?;
        let means = numbers(&v.to_dtype(DType::F64)?.mean(0)?)?;
        for (mean, logit) in means.iter().zip([20., 30., 50., -50.]) {
            assert!((mean - logit).abs() < 0.1, "{dtype:?}: {mean} for {logit}");
        }
        // Each draw moves with its logit. (In half precision only few ones can be added.)
        let few = q.rsample(4, Key::from_seed(17))?;
        assert_eq!(gradient(&few, &logits)?, [4.; 4], "{dtype:?}");
    }
    let logits = Var::new(&[[[20f32, 30., 50.]]], CPU)?;
    let bit = sigmoid(&BinConcrete::new(&logits, 1.)?.rsample(1, Key::from_seed(17))?)?;
    assert!(gradient(&bit, &logits)?.iter().all(|x| *x > 0.));
    Ok(())
}

/// A model that was switched to evaluation and goes on adding noise: reported of many.
#[test]
fn evaluation_has_no_noise() -> Result<()> {
    let logits = Key::from_seed(18).normal((50, 7), DType::F32, CPU)?;
    let sample =
        |mode, seed| numbers(&sample_categorical(&logits, 0.5, mode, 1, Key::from_seed(seed))?);
    for mode in [SampleMode::Mode, SampleMode::Mean] {
        let first = sample(mode, 0)?;
        for seed in 1..5 {
            assert_eq!(sample(mode, seed)?, first, "{mode:?}");
        }
    }
    for mode in [SampleMode::Train, SampleMode::Hard] {
        assert_ne!(sample(mode, 0)?, sample(mode, 1)?, "{mode:?}");
    }
    Ok(())
}

/// candle's own function ignores its seed; on the CPU there is none.
#[test]
fn the_same_key_is_the_same_draw_and_another_key_another() -> Result<()> {
    let logits = Key::from_seed(19).normal((1, 50, 2, 7), DType::F32, CPU)?;
    let q = Categorical::from_logits(&logits)?;
    let bits = Bernoulli::from_logits(&logits.squeeze(0)?)?;
    type Draw<'a> = Box<dyn Fn(Key) -> Result<Tensor> + 'a>;
    let draws: [Draw<'_>; 6] = [
        Box::new(|key| gumbel_softmax(&logits, 0.5, false, 3, key)),
        Box::new(|key| gumbel_softmax(&logits, 0.5, true, 3, key)),
        Box::new(|key| q.sample(3, key)),
        Box::new(|key| q.relax(0.5)?.rsample(3, key)),
        Box::new(|key| bits.sample(50, key)),
        Box::new(|key| bits.relax(0.5)?.rsample(50, key)),
    ];
    for draw in &draws {
        let first = numbers(&draw(Key::from_seed(42))?)?;
        assert_eq!(numbers(&draw(Key::from_seed(42))?)?, first);
        assert_ne!(numbers(&draw(Key::from_seed(43))?)?, first);
        assert_ne!(numbers(&draw(Key::from_seed(42).fold_in(1))?)?, first);
    }
    // Rows of a batch keep their draws when the batch grows, and every dtype draws the same.
    let some = gumbel_softmax(&logits.narrow(1, 0, 9)?, 0.5, true, 3, Key::from_seed(42))?;
    let all = gumbel_softmax(&logits, 0.5, true, 3, Key::from_seed(42))?;
    assert_eq!(numbers(&some)?, numbers(&all.narrow(1, 0, 9)?)?);
    let double = gumbel_softmax(&logits.to_dtype(DType::F64)?, 0.5, true, 3, Key::from_seed(42))?;
    assert_eq!(numbers(&double)?, numbers(&all)?);
    Ok(())
}
