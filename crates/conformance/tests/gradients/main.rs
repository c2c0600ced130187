//! The contract of every estimator: its gradient agrees with the exact one, and if it does not, that is
//! found here.
//!
//! To test a new estimator, add a line to [`unbiased`] or to [`biased`]. Seeds are fixed: a red test is a
//! change of the code and not bad luck.
mod exact;
mod problems;

use candle_core::{Device, Result, Tensor, Var};
use exact::{BOUNDS, Bound, Terms, WEIGHTED_BOUNDS, log_concrete};
use gumbel::Key;
use gumbel::estimators::{
    Arm, Arms, Carms, Darn, DecoupledStraightThroughGumbelSoftmax, DisArm, Divergence,
    DoubleControlVariates, Enumerate, Estimator, Gap, GappedStraightThrough, GumbelRao,
    GumbelSoftmax, GumbelSparse, Independent, InvertibleGaussianReparameterisation, LeaveOneOut,
    MuProp, Nvil, Rebar, ReinMax, ReinMaxRao, Reinforce, Relax, Rodeo, RunningMoments,
    SignalConfig, SiteDraw, SlopeAnnealedStraightThrough, Store, StraightThrough,
    StraightThroughGumbelSoftmax, SumAndSample, Trace, Zgr,
};
use gumbel::kernels::SparseMap;
use gumbel_conformance::{Z_CRITICAL, central_gradient, mean_and_error};
use problems::{
    BITS_THEN_CLASS, CLASS_THEN_BITS, LAYERS, ONE_CLASS, PROBLEMS, Problem, THREE_BITS, TWO_CLASSES,
};

/// Estimators that agree with the exact gradient, and their number of samples.
fn unbiased(problem: &Problem) -> Result<Vec<(Box<dyn Estimator>, usize)>> {
    let sites = sites(problem)?;
    let moments = || RunningMoments::new(SignalConfig::default(), &mut Irregular);
    let reinforce =
        |samples| Ok::<_, candle_core::Error>(Reinforce { samples, moments: moments()? });
    let nvil =
        |samples| Nvil::new(samples, moments()?, 3, &sites, &mut Irregular, Key::from_seed(1));
    let rebar = |samples| Rebar::new(samples, 0.7, &sites, &mut Irregular);
    let relax = |samples| Relax::new(samples, 0.7, 3, &sites, &mut Irregular, Key::from_seed(2));
    let rodeo = |samples| Rodeo::new(samples, 4, &sites, &mut Irregular, Key::from_seed(3));
    let double = |samples| DoubleControlVariates::new(samples, &sites, &mut Irregular);
    let none = RunningMoments::none;
    let mut estimators: Vec<(Box<dyn Estimator>, usize)> = vec![
        (Box::new(LeaveOneOut { samples: 2 }), 2),
        (Box::new(LeaveOneOut { samples: 4 }), 4),
        (Box::new(reinforce(1)?), 1),
        (Box::new(reinforce(3)?), 3),
        (Box::new(nvil(1)?), 1),
        (Box::new(nvil(3)?), 3),
        (Box::new(MuProp { samples: 1, moments: none() }), 1),
        (Box::new(MuProp { samples: 3, moments: moments()? }), 3),
        (Box::new(Arm { samples: 1 }), 1),
        (Box::new(Arm { samples: 3 }), 3),
        (Box::new(DisArm { samples: 1 }), 1),
        (Box::new(DisArm { samples: 3 }), 3),
        (Box::new(Arms { samples: 1, copies: 4 }), 1),
        (Box::new(Arms { samples: 3, copies: 3 }), 3),
        (Box::new(Carms { samples: 1, copies: 2 }), 1),
        (Box::new(Carms { samples: 3, copies: 3 }), 3),
        (Box::new(double(2)?), 2),
        (Box::new(double(3)?), 3),
        (Box::new(rodeo(2)?), 2),
        (Box::new(rodeo(3)?), 3),
        (Box::new(SumAndSample { classes: 1 }), 1),
        (Box::new(SumAndSample { classes: 2 }), 1),
        (Box::new(rebar(1)?), 1),
        (Box::new(relax(1)?), 1),
    ];
    // They cost the most: several samples on one site, and on two that depend on each other.
    if [ONE_CLASS.name, CLASS_THEN_BITS.name].contains(&problem.name) {
        estimators.push((Box::new(rebar(3)?), 3));
        estimators.push((Box::new(relax(3)?), 3));
    }
    Ok(estimators)
}

/// Learned parts in the middle of training: irregular numbers.
struct Irregular;

impl Store for Irregular {
    fn parameter(&mut self, name: &str, initial: &Tensor) -> Result<Tensor> {
        let noise = Key::from_seed(7).named(name);
        initial + (noise.normal(initial.shape(), initial.dtype(), initial.device())? * 0.5)?
    }

    fn statistic(&mut self, _: &str, initial: &Tensor) -> Result<Var> {
        Var::from_tensor(&(initial + 1.5)?)
    }
}

/// The sites that a problem visits.
fn sites(problem: &Problem) -> Result<Vec<SiteDraw>> {
    let parameters = Tensor::new(problem.parameters, &Device::Cpu)?.unsqueeze(0)?;
    let program = |trace: &mut Trace<'_>| (problem.program)(&parameters, trace);
    Ok(Trace::run(&program, &mut Independent { samples: 1 }, Key::from_seed(1))?.1)
}

/// Estimators that do not.
fn biased() -> Vec<Box<dyn Estimator>> {
    let relaxed = |temperature: f64| GumbelSoftmax::new(1, temperature);
    vec![
        Box::new(relaxed(0.5)),
        Box::new(relaxed(1.)),
        Box::new(StraightThroughGumbelSoftmax { samples: 1, temperature: 0.5 }),
        Box::new(StraightThroughGumbelSoftmax { samples: 1, temperature: 1. }),
        Box::new(StraightThrough { samples: 1 }),
        Box::new(SlopeAnnealedStraightThrough { samples: 1, slope: 2. }),
        Box::new(DecoupledStraightThroughGumbelSoftmax {
            samples: 1,
            forward_temperature: 1.,
            backward_temperature: 0.7,
        }),
        Box::new(GappedStraightThrough { samples: 1, temperature: 0.7, gap: Gap::default() }),
        Box::new(GumbelRao { samples: 1, temperature: 0.7, draws: 5 }),
        Box::new(ReinMax { samples: 1, temperature: 1.3 }),
        Box::new(ReinMaxRao { samples: 1, temperature: 0.7, draws: 10 }),
        Box::new(InvertibleGaussianReparameterisation { samples: 1, temperature: 0.7 }),
        Box::new(GumbelSparse { samples: 1, temperature: 1., map: SparseMap::Entmax15 }),
        Box::new(GumbelSparse { samples: 1, temperature: 1., map: SparseMap::Sparsemax }),
    ]
}

/// Estimators that agree where the likelihood is quadratic in each variable, and only there.
fn second_order() -> Vec<Box<dyn Estimator>> {
    vec![
        Box::new(Zgr { samples: 1 }),
        Box::new(ReinMax { samples: 1, temperature: 1. }),
        Box::new(Darn { samples: 1 }),
    ]
}

/// Independent estimates of one gradient: the rows of one batch.
const REPLICATES: usize = 100_000;

/// Standard errors at which a biased estimator counts as caught.
const CAUGHT: f64 = 10.;

/// Standard errors below this are rounding: the estimate does not depend on the draw.
const ROUNDING: f64 = 1e-9;

/// Gradients of the bound `[B][P]` in `rows` equal rows of parameters, and its values `[B]`.
fn estimate(
    problem: &Problem,
    estimator: &dyn Estimator,
    bound: Bound,
    rows: usize,
) -> Result<(Vec<Vec<f64>>, Vec<f64>)> {
    let row = Tensor::new(problem.parameters, &Device::Cpu)?;
    let shape = (rows, problem.parameters.len());
    let parameters = Var::from_tensor(&row.broadcast_as(shape)?.contiguous()?)?;
    let program = |trace: &mut Trace<'_>| (problem.program)(&parameters, trace);
    let surrogate =
        estimator.surrogate(&program, bound.objective().as_ref(), Key::from_seed(2017))?;
    let grads = surrogate.loss.backward()?;
    let Some(gradient) = grads.get(parameters.as_tensor()) else {
        candle_core::bail!("{estimator:?} has no gradient")
    };
    // The loss is minus the mean over the batch.
    Ok(((gradient * -(rows as f64))?.to_vec2()?, surrogate.bound.to_vec1()?))
}

/// Distance of the mean of `values` to `exact`, in standard errors.
fn z_score(values: &[f64], exact: f64) -> f64 {
    let (mean, error) = mean_and_error(values);
    (mean - exact).abs() / error.max(ROUNDING)
}

/// The largest distance among all parameters, and that of the bound itself.
fn distances(
    problem: &Problem,
    (estimator, samples): (&dyn Estimator, usize),
    bound: Bound,
) -> Result<(f64, f64)> {
    let (rows, values) = estimate(problem, estimator, bound, REPLICATES)?;
    let exact = bound.gradient(problem, samples);
    let worst = exact.iter().enumerate().fold(0f64, |worst, (i, exact)| {
        let column: Vec<f64> = rows.iter().map(|row| row[i]).collect();
        worst.max(z_score(&column, *exact))
    });
    Ok((worst, z_score(&values, bound.expected(problem, problem.parameters, samples))))
}

/// With one sample the multi-sample bound is the sampled ELBO; with many, only it is another objective.
fn bounds(samples: usize) -> &'static [Bound] {
    match samples {
        1 => &BOUNDS[..2],
        2 => &BOUNDS,
        _ => &BOUNDS[2..],
    }
}

fn assert_unbiased(problem: &Problem) -> Result<()> {
    for (estimator, samples) in unbiased(problem)? {
        assert!(estimator.is_unbiased(), "{estimator:?} says it is biased");
        for &bound in bounds(samples) {
            let (gradient, value) = distances(problem, (estimator.as_ref(), samples), bound)?;
            let what = format!("{estimator:?}, {bound:?}, {}", problem.name);
            assert!(gradient < Z_CRITICAL, "{what}: gradient is {gradient:.1} errors off");
            assert!(value < Z_CRITICAL, "{what}: bound is {value:.1} errors off");
        }
    }
    Ok(())
}

#[test]
fn unbiased_estimators_of_one_class() -> Result<()> {
    assert_unbiased(&ONE_CLASS)
}

#[test]
fn unbiased_estimators_of_two_classes_that_interact() -> Result<()> {
    assert_unbiased(&TWO_CLASSES)
}

#[test]
fn unbiased_estimators_of_three_bits() -> Result<()> {
    assert_unbiased(&THREE_BITS)
}

#[test]
fn unbiased_estimators_of_a_class_that_depends_on_bits() -> Result<()> {
    assert_unbiased(&BITS_THEN_CLASS)
}

#[test]
fn unbiased_estimators_of_bits_that_depend_on_a_class() -> Result<()> {
    assert_unbiased(&CLASS_THEN_BITS)
}

#[test]
fn unbiased_estimators_of_a_layer_whose_prior_comes_from_the_one_above() -> Result<()> {
    assert_unbiased(&LAYERS)
}

/// The test can fail: it catches every biased estimator on every problem.
#[test]
fn biased_estimators_are_caught() -> Result<()> {
    for estimator in biased() {
        assert!(!estimator.is_unbiased(), "{estimator:?} says it is unbiased");
        for problem in PROBLEMS {
            let bound = Bound::Elbo(Divergence::Analytic, 1.);
            let (z, _) = distances(problem, (estimator.as_ref(), 1), bound)?;
            assert!(z > CAUGHT, "{estimator:?}, {}: only {z:.1} errors off", problem.name);
        }
    }
    Ok(())
}

#[test]
fn second_order_estimators_are_exact_for_a_quadratic_and_caught_elsewhere() -> Result<()> {
    let bound = Bound::Elbo(Divergence::Analytic, 1.);
    for estimator in second_order() {
        assert!(!estimator.is_unbiased(), "{estimator:?} says it is unbiased");
        let (z, _) = distances(&THREE_BITS, (estimator.as_ref(), 1), bound)?;
        assert!(z < Z_CRITICAL, "{estimator:?}: {z:.1} errors off on a quadratic");
        let (z, _) = distances(&BITS_THEN_CLASS, (estimator.as_ref(), 1), bound)?;
        assert!(z > CAUGHT, "{estimator:?}: only {z:.1} errors off");
    }
    Ok(())
}

/// `a` and `b` agree relative to their size, or to one.
fn assert_close(what: &str, a: &[f64], b: &[f64], tolerance: f64) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        let close = (a - b).abs() < tolerance * b.abs().max(1.);
        assert!(close, "{what}, element {i}: {a} against {b}");
    }
}

#[test]
fn enumeration_is_exact() -> Result<()> {
    for problem in PROBLEMS {
        for samples in 1..=3 {
            for bound in WEIGHTED_BOUNDS {
                let what = format!("{}, {bound:?}, S = {samples}", problem.name);
                let (rows, values) = estimate(problem, &Enumerate { samples }, bound, 2)?;
                let exact = bound.gradient(problem, samples);
                for (row, value) in rows.iter().zip(values) {
                    assert_close(&what, row, &exact, 1e-8);
                    let expected = bound.expected(problem, problem.parameters, samples);
                    assert_close(&what, &[value], &[expected], 1e-12);
                }
            }
        }
    }
    Ok(())
}

/// The relaxed bound is made of the densities of the values that the model saw, at two temperatures.
#[test]
fn the_relaxed_bound_weighs_the_values_that_the_model_saw() -> Result<()> {
    let estimator = GumbelSoftmax { prior_temperature: 0.6.into(), ..GumbelSoftmax::new(4, 0.8) };
    let x = ONE_CLASS.parameters;
    let parameters = Tensor::new(x, &Device::Cpu)?.unsqueeze(0)?;
    let program = |trace: &mut Trace<'_>| (ONE_CLASS.program)(&parameters, trace);
    for bound in [Bound::Elbo(Divergence::Sampled, 0.3), Bound::Iwae] {
        let surrogate =
            estimator.surrogate(&program, bound.objective().as_ref(), Key::from_seed(3))?;
        let values: Vec<f64> = surrogate.sites[0].draw.value.flatten_all()?.to_vec1()?;
        let log_w = values.chunks_exact(3).map(|value| {
            let y: Vec<f64> = value.iter().map(|v| v.ln()).collect();
            let score: f64 = value.iter().zip(&x[6..]).map(|(v, x)| v * x).sum();
            bound.log_weight(&Terms {
                log_px: score.powi(2),
                log_q: log_concrete(&x[..3], 0.8, &y),
                log_p: log_concrete(&x[3..6], 0.6, &y),
                kl: 0.,
            })
        });
        let expected = match bound {
            Bound::Elbo(..) => log_w.sum::<f64>() / 4.,
            Bound::Iwae => (log_w.map(f64::exp).sum::<f64>() / 4.).ln(),
        };
        assert_close(&format!("{bound:?}"), &surrogate.bound.to_vec1()?, &[expected], 1e-10);
    }
    Ok(())
}

/// With the noise held fixed, the relaxed objective is a smooth function of the parameters, and its
/// gradient is that of finite differences.
#[test]
fn the_gradient_of_the_relaxed_objective_is_exact_for_the_relaxed_model() -> Result<()> {
    let estimator = GumbelSoftmax { prior_temperature: 0.6.into(), ..GumbelSoftmax::new(3, 0.8) };
    for problem in PROBLEMS {
        for bound in WEIGHTED_BOUNDS {
            let (rows, _) = estimate(problem, &estimator, bound, 1)?;
            let numeric = central_gradient(problem.parameters, |x| {
                let x = Tensor::new(x, &Device::Cpu)?.unsqueeze(0)?;
                let program = |trace: &mut Trace<'_>| (problem.program)(&x, trace);
                let key = Key::from_seed(2017);
                let surrogate = estimator.surrogate(&program, bound.objective().as_ref(), key)?;
                surrogate.bound.mean_all()?.to_scalar::<f64>()
            })?;
            let what = format!("{}, {bound:?}", problem.name);
            assert_close(&what, &rows.concat(), &numeric, 1e-7);
        }
    }
    Ok(())
}
