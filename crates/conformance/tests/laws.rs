//! What theory says of biased estimators, measured.
//!
//! Bias and variance against temperature; which estimators have a mean in common; what is exact for which
//! likelihood. Seeds are fixed: a red test is a change of the code and not bad luck.
use candle_core::{DType, Device, Result, Tensor, Var};
use gumbel::Key;
use gumbel::distributions::{Bernoulli, Categorical};
use gumbel::estimators::{
    Arm, Arms, Carms, DisArm, Estimator, GumbelRao, GumbelSoftmax, LeaveOneOut, Program, ReinMax,
    SlopeAnnealedStraightThrough, StraightThrough, StraightThroughGumbelSoftmax, Trace, Zgr,
};
use gumbel::lab::{Measurement, Problem};
use gumbel::objectives::Elbo;

const LOGITS: [f64; 4] = [0.6, -0.4, 0.1, 0.9];
const WEIGHTS: [f64; 4] = [0.9, -0.7, 0.2, -0.3];

/// One variable of four categories with `f(z) = g(c · z)`.
fn class(g: fn(&Tensor) -> Result<Tensor>) -> Problem {
    Problem::new(&LOGITS, move |logits, trace| {
        let q = Categorical::from_logits(&logits.unsqueeze(1)?.unsqueeze(0)?)?;
        let z = trace.sample("z", &q, &q)?;
        g(&z.broadcast_mul(&Tensor::new(&WEIGHTS, &Device::Cpu)?)?.sum((2, 3))?)
    })
}

/// Four bits with `f(z) = g(c · z)`.
fn bits(g: fn(&Tensor) -> Result<Tensor>) -> Problem {
    Problem::new(&LOGITS, move |logits, trace| {
        let q = Bernoulli::from_logits(&logits.unsqueeze(0)?)?;
        let z = trace.sample("z", &q, &q)?;
        g(&z.broadcast_mul(&Tensor::new(&WEIGHTS, &Device::Cpu)?)?.sum(2)?)
    })
}

fn wavy(x: &Tensor) -> Result<Tensor> {
    (x * 2.)?.sin()? + x.exp()?
}

fn square(x: &Tensor) -> Result<Tensor> {
    (x - 0.45)?.sqr()
}

fn measure(problem: &Problem, estimator: &dyn Estimator, samples: usize) -> Result<Measurement> {
    let elbo = Elbo { beta: 0., ..Elbo::default() };
    problem.measure(estimator, &elbo, samples, 100_000, Key::from_seed(2017))
}

fn relaxed(temperature: f64) -> [Box<dyn Estimator>; 2] {
    [
        Box::new(GumbelSoftmax::new(1, temperature)),
        Box::new(StraightThroughGumbelSoftmax { samples: 1, temperature }),
    ]
}

/// At small temperatures a draw has a gradient of size `1/τ` with a probability of order `τ`.
#[test]
fn variance_of_gumbel_softmax_halves_as_a_small_temperature_doubles() -> Result<()> {
    for problem in [class(wavy), bits(wavy)] {
        for (cold, warm) in relaxed(0.05).iter().zip(relaxed(0.1)) {
            let cold = measure(&problem, cold.as_ref(), 1)?.variance;
            let warm = measure(&problem, warm.as_ref(), 1)?.variance;
            let ratio = cold.value / warm.value;
            let error = ratio * (cold.error / cold.value).hypot(warm.error / warm.value);
            assert!((ratio - 2.).abs() < 0.25 + 3. * error, "{ratio} ± {error}");
        }
    }
    Ok(())
}

/// For a quadratic likelihood, whose limit in the cold has no bias.
#[test]
fn bias_of_gumbel_softmax_halves_with_a_small_temperature() -> Result<()> {
    let problem = class(square);
    for (cold, warm) in relaxed(0.15).iter().zip(relaxed(0.3)) {
        let cold = measure(&problem, cold.as_ref(), 1)?.bias;
        let warm = measure(&problem, warm.as_ref(), 1)?.bias;
        let ratio = warm.value / cold.value;
        let error = ratio * (cold.error / cold.value).hypot(warm.error / warm.value);
        assert!((ratio - 2.).abs() < 0.6 + 3. * error, "{ratio} ± {error}");
    }
    Ok(())
}

#[test]
fn gumbel_rao_has_the_mean_of_straight_through_gumbel_softmax_and_less_variance() -> Result<()> {
    for problem in [class(wavy), bits(wavy)] {
        for temperature in [0.1, 1.] {
            let plain = StraightThroughGumbelSoftmax { samples: 1, temperature };
            let plain = measure(&problem, &plain, 1)?;
            let averaged =
                |draws| measure(&problem, &GumbelRao { samples: 1, temperature, draws }, 1);
            let (one, many) = (averaged(1)?, averaged(10)?);
            for other in [&one, &many] {
                for i in 0..LOGITS.len() {
                    let error = plain.mean_error[i].hypot(other.mean_error[i]);
                    assert!((plain.mean[i] - other.mean[i]).abs() < 4.5 * error);
                }
            }
            let error = 4.5 * plain.variance.error.hypot(one.variance.error);
            assert!((plain.variance.value - one.variance.value).abs() < error);
            assert!(many.variance.value < 0.8 * plain.variance.value, "{temperature}");
        }
    }
    Ok(())
}

#[test]
fn gumbel_rao_comes_to_zgr_as_it_gets_cold() -> Result<()> {
    let problem = class(wavy);
    let zgr = measure(&problem, &Zgr { samples: 1 }, 1)?;
    let cold = GumbelRao { samples: 1, temperature: 0.02, draws: 1000 };
    let elbo = Elbo { beta: 0., ..Elbo::default() };
    let cold = problem.measure(&cold, &elbo, 1, 5_000, Key::from_seed(2017))?;
    for (a, b) in cold.mean.iter().zip(&zgr.mean) {
        assert!((a - b).abs() < 0.06 * zgr.exact_norm(), "{a} {b}");
    }
    let ratio = cold.variance.value / zgr.variance.value;
    assert!((0.9..1.5).contains(&ratio), "{ratio}");
    Ok(())
}

/// Loss gradients in the logits of 200 rows, under one key.
fn gradients(
    estimator: &dyn Estimator,
    program: impl Fn(&Var) -> Box<Program<'_>>,
    shape: &[usize],
) -> Result<Vec<f64>> {
    let logits = Var::from_tensor(&Key::from_seed(3).normal(shape, DType::F64, &Device::Cpu)?)?;
    let program = program(&logits);
    let surrogate = estimator.surrogate(&program, &Elbo::default(), Key::from_seed(4))?;
    let grads = surrogate.loss.backward()?;
    match grads.get(logits.as_tensor()) {
        Some(gradient) => gradient.flatten_all()?.to_vec1(),
        None => candle_core::bail!("no gradient"),
    }
}

fn assert_same(a: &[f64], b: &[f64]) {
    assert!(a.iter().any(|a| a.abs() > 1e-4));
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() < 1e-12, "{a} {b}");
    }
}

#[test]
fn reinmax_at_temperature_one_is_zgr_sample_by_sample() -> Result<()> {
    let (zgr, reinmax) = (Zgr { samples: 2 }, ReinMax { samples: 2, temperature: 1. });
    let bits: fn(&Var) -> Box<Program<'_>> = |logits| {
        Box::new(|trace: &mut Trace<'_>| {
            let q = Bernoulli::from_logits(logits)?;
            trace.sample("z", &q, &Bernoulli::uniform_like(&q)?)?.sum(2)?.sin()
        })
    };
    let classes: fn(&Var) -> Box<Program<'_>> = |logits| {
        Box::new(|trace: &mut Trace<'_>| {
            let q = Categorical::from_logits(logits)?;
            let z = trace.sample("z", &q, &Categorical::uniform_like(&q)?)?;
            let c = Tensor::new(&[0.3, -1.1, 0.8, 2.], &Device::Cpu)?;
            z.broadcast_mul(&c)?.sum((2, 3))?.sin()
        })
    };
    for (program, shape) in [(bits, &[1, 200, 3][..]), (classes, &[1, 200, 2, 4])] {
        assert_same(&gradients(&zgr, program, shape)?, &gradients(&reinmax, program, shape)?);
        // A slope of 1 is plain straight-through, and any other is not.
        let plain = gradients(&StraightThrough { samples: 2 }, program, shape)?;
        let slope = |slope| SlopeAnnealedStraightThrough { samples: 2, slope };
        assert_same(&plain, &gradients(&slope(1.), program, shape)?);
        assert!(gradients(&slope(2.), program, shape)? != plain);
    }
    Ok(())
}

#[test]
fn the_bias_of_reinmax_is_least_at_temperature_one_and_none_for_a_quadratic() -> Result<()> {
    let problem = class(|x| x.affine(0.9, 0.6)?.sin());
    let bias = |temperature| {
        measure(&problem, &ReinMax { samples: 1, temperature }, 1).map(|m| m.bias.value)
    };
    let [cold, one, hot] = [bias(0.4)?, bias(1.)?, bias(2.5)?];
    assert!(one < 0.5 * cold && one < 0.5 * hot, "{cold} {one} {hot}");
    for problem in [class(square), bits(square)] {
        for estimator in
            [&ReinMax { samples: 1, temperature: 1. } as &dyn Estimator, &Zgr { samples: 1 }]
        {
            let checked = measure(&problem, estimator, 1)?.check_unbiased(4.5);
            assert_eq!(checked, Ok(()), "{estimator:?}");
        }
    }
    Ok(())
}

#[test]
fn straight_through_is_exact_for_a_linear_likelihood() -> Result<()> {
    for problem in [class(|x| x * 3.), bits(|x| x * 3.)] {
        let m = measure(&problem, &StraightThrough { samples: 1 }, 1)?;
        assert!(m.variance.value < 1e-20 && m.bias.value < 1e-12, "{m:?}");
        assert!(
            measure(&problem, &StraightThroughGumbelSoftmax { samples: 1, temperature: 1. }, 1)?
                .variance
                .value
                > 1e-4
        );
    }
    Ok(())
}

/// Each refinement pays: at an equal number of runs of the model, or at the same one.
#[test]
fn control_variates_lower_the_variance() -> Result<()> {
    let (bits, class) = (bits(wavy), class(wavy));
    let variance = |problem: &Problem, estimator: &dyn Estimator, samples: usize| {
        measure(problem, estimator, samples).map(|m| m.variance.value)
    };
    let pair = variance(&bits, &LeaveOneOut { samples: 2 }, 2)?;
    let arm = variance(&bits, &Arm { samples: 1 }, 1)?;
    let disarm = variance(&bits, &DisArm { samples: 1 }, 1)?;
    assert!(disarm < arm && disarm < pair, "{disarm} {arm} {pair}");
    let four = variance(&bits, &LeaveOneOut { samples: 4 }, 4)?;
    let arms = variance(&bits, &Arms { samples: 1, copies: 4 }, 1)?;
    assert!(arms < four && four < pair, "{arms} {four} {pair}");
    let four = variance(&class, &LeaveOneOut { samples: 4 }, 4)?;
    let carms = variance(&class, &Carms { samples: 1, copies: 4 }, 1)?;
    assert!(carms < four, "{carms} {four}");
    Ok(())
}
