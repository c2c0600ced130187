//! Exact means and variances of estimators of the gradient of `E[(c · z - t)²]`, by their outcomes.
use std::collections::BTreeMap;

use candle_core::{Device, Result as TensorResult, Tensor, Var};
use gumbel::Key;
use gumbel::distributions::{Categorical, ExpConcrete, conditional_logistic};
use gumbel::estimators::{
    Enumerate, Estimator, GumbelRao, GumbelSoftmax, LeaveOneOut, ReinMax, Reinforce,
    RunningMoments, SignalConfig, SlopeAnnealedStraightThrough, Store,
    StraightThroughGumbelSoftmax, Trace,
};
use gumbel::objectives::Elbo;
use gumbel_conformance::{Z_CRITICAL, mean_and_error};

use crate::bernoulli;
use crate::case::{Case, Fallible, NO_FLOOR, cancellation};

pub(crate) fn check(case: &mut Case<'_>) -> Fallible<()> {
    match case.text("kind")? {
        "categorical" => check_categorical(case),
        "gumbel_softmax_k2" => check_relaxed(case),
        "bernoulli" => bernoulli::check(case),
        other => Err(format!("no check for the kind `{other}`").into()),
    }
}

/// The function whose expectation is differentiated.
pub(crate) struct Quadratic {
    pub(crate) c: Vec<f64>,
    pub(crate) t: f64,
}

impl Quadratic {
    pub(crate) fn read(case: &mut Case<'_>) -> Fallible<Self> {
        if !matches!(case.text("f")?, "(c.z - t)^2" | "(c.b - t)^2") {
            return Err("no check for this function".into());
        }
        Ok(Self { c: case.array("c")?.values, t: case.number("t")? })
    }

    /// `f: [..]` of `z: [.., K]`.
    pub(crate) fn of(&self, z: &Tensor) -> TensorResult<Tensor> {
        let c = Tensor::new(self.c.as_slice(), &Device::Cpu)?;
        (z.broadcast_mul(&c)?.sum(candle_core::D::Minus1)? - self.t)?.sqr()
    }
}

/// The part of the ELBO that is an expectation: no divergence.
pub(crate) const EXPECTATION: Elbo =
    Elbo { divergence: gumbel::estimators::Divergence::Analytic, beta: 0. };

/// Gradients in the logits, one for each of `rows` equal rows, and the classes that were drawn.
fn draw(
    logits: &[f64],
    f: &Quadratic,
    estimator: &dyn Estimator,
    rows: usize,
    key: Key,
) -> Fallible<Vec<(Vec<u32>, Vec<f64>)>> {
    let k = logits.len();
    let row = Tensor::new(logits, &Device::Cpu)?.broadcast_as((1, rows, 1, k))?;
    let logits = Var::from_tensor(&row.contiguous()?)?;
    let program = |trace: &mut Trace<'_>| {
        let q = Categorical::from_logits(&logits)?;
        f.of(&trace.sample("z", &q, &q)?.squeeze(2)?)
    };
    let surrogate = estimator.surrogate(&program, &EXPECTATION, key)?;
    let grads = surrogate.loss.backward()?;
    let gradient = grads.get(logits.as_tensor()).ok_or("no gradient")?;
    let gradient = (gradient.reshape((rows, k))? * -(rows as f64))?.to_vec2::<f64>()?;
    let classes = surrogate.sites[0].draw.value.argmax(3)?.squeeze(2)?.t()?.to_vec2::<u32>()?;
    Ok(classes.into_iter().zip(gradient).collect())
}

/// The gradient of each outcome: the estimate depends on nothing else. Draws until all have been seen.
fn by_outcome(
    logits: &[f64],
    f: &Quadratic,
    estimator: &dyn Estimator,
    outcomes: usize,
) -> Fallible<BTreeMap<Vec<u32>, Vec<f64>>> {
    let mut seen: BTreeMap<Vec<u32>, Vec<f64>> = BTreeMap::new();
    for batch in 0..200 {
        for (outcome, gradient) in draw(logits, f, estimator, 20_000, Key::from_seed(batch))? {
            let known = seen.entry(outcome).or_insert_with(|| gradient.clone());
            let same = known.iter().zip(&gradient).all(|(a, b)| (a - b).abs() < 1e-12);
            if !same {
                return Err("two gradients of one outcome differ".into());
            }
        }
        if seen.len() == outcomes {
            return Ok(seen);
        }
    }
    Err(format!("{} of {outcomes} outcomes were never drawn", outcomes - seen.len()).into())
}

/// A baseline that is held at a number.
struct Preset(f64);

impl Store for Preset {
    fn parameter(&mut self, _: &str, initial: &Tensor) -> TensorResult<Tensor> {
        Ok(initial.clone())
    }

    fn statistic(&mut self, _: &str, _: &Tensor) -> TensorResult<Var> {
        Var::new(&[self.0, self.0 * self.0, 1.], &Device::Cpu)
    }
}

fn reinforce(baseline: f64) -> TensorResult<Box<dyn Estimator>> {
    let moments = RunningMoments::new(SignalConfig::default(), &mut Preset(baseline))?;
    Ok(Box::new(Reinforce { samples: 1, moments }))
}

fn probabilities(logits: &[f64]) -> Vec<f64> {
    let total: f64 = logits.iter().map(|l| l.exp()).sum();
    logits.iter().map(|l| l.exp() / total).collect()
}

/// Mean of vectors under probabilities, and the sum of their variances.
fn moments<'a>(law: impl Iterator<Item = (f64, &'a [f64])> + Clone) -> (Vec<f64>, f64) {
    let k = law.clone().next().map_or(0, |(_, g)| g.len());
    let mean: Vec<f64> = (0..k).map(|i| law.clone().map(|(p, g)| p * g[i]).sum()).collect();
    let variance =
        law.map(|(p, g)| p * g.iter().zip(&mean).map(|(g, mean)| (g - mean).powi(2)).sum::<f64>());
    (mean.clone(), variance.sum())
}

fn check_categorical(case: &mut Case<'_>) -> Fallible<()> {
    let (logits, f) = (case.array("logits")?.values, Quadratic::read(case)?);
    let k = logits.len();
    let corners = Tensor::eye(k, candle_core::DType::F64, &Device::Cpu)?;
    let vertices = f.of(&corners)?.to_vec1::<f64>()?;
    let floor = cancellation(&vertices);
    case.expect("f_vertices", &vertices, floor)?;
    let exact = draw(&logits, &f, &Enumerate { samples: 1 }, 1, Key::from_seed(0))?;
    let exact = exact.first().ok_or("no gradient")?.1.clone();
    case.expect("exact_gradient", &exact, floor)?;
    let probs = probabilities(&logits);
    let expectation: f64 = probs.iter().zip(&vertices).map(|(p, f)| p * f).sum();
    case.expect("expectation", &[expectation], floor)?;

    let names = case.names("methods")?;
    let mut methods = case.part("methods")?;
    for name in names {
        let mut method = methods.part(&name)?;
        if let Some(samples) = name.strip_prefix("rloo_n") {
            check_leave_one_out(&mut method, &probs, &f, samples.parse()?, floor)?;
        } else {
            let estimator = estimator(&name, &mut method, expectation)?;
            let outcomes = by_outcome(&logits, &f, estimator.as_ref(), k)?;
            let gradients: Vec<&[f64]> = outcomes.values().map(Vec::as_slice).collect();
            method.expect("per_outcome", &gradients.concat(), floor)?;
            let (mean, variance) = moments(probs.iter().copied().zip(gradients));
            check_moments(&mut method, &mean, variance, &exact, floor)?;
        }
        methods.absorb(method);
    }
    case.absorb(methods);
    Ok(())
}

fn estimator(name: &str, method: &mut Case<'_>, mean: f64) -> Fallible<Box<dyn Estimator>> {
    let samples = 1;
    if let Some(temperature) = name.strip_prefix("st_tau") {
        let slope = 1. / temperature.parse::<f64>()?;
        return Ok(Box::new(SlopeAnnealedStraightThrough { samples, slope }));
    }
    if let Some(temperature) = name.strip_prefix("reinmax_tau") {
        return Ok(Box::new(ReinMax { samples, temperature: temperature.parse()? }));
    }
    Ok(match name {
        "score_function" => Box::new(Reinforce { samples, moments: RunningMoments::none() }),
        "score_function_mean_baseline" => reinforce(mean)?,
        "score_function_optimal_baseline" => reinforce(method.number("baseline")?)?,
        other => return Err(format!("no check for the method `{other}`").into()),
    })
}

fn check_moments(
    method: &mut Case<'_>,
    mean: &[f64],
    variance: f64,
    exact: &[f64],
    floor: f64,
) -> Fallible<()> {
    method.expect("mean", mean, floor)?;
    method.expect("trace_var", &[variance], floor)?;
    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let bias: Vec<f64> = mean.iter().zip(exact).map(|(a, b)| a - b).collect();
    method.expect("bias_l2", &[dot(&bias, &bias).sqrt()], 10. * floor)?;
    let cosine = dot(mean, exact) / (dot(mean, mean) * dot(exact, exact)).sqrt();
    method.expect("cosine", &[cosine], floor)
}

/// The signals of leave-one-out sum to 0, and so its gradient does not depend on the probabilities: the
/// outcomes are drawn from a uniform law, and weighed by theirs.
fn check_leave_one_out(
    method: &mut Case<'_>,
    probs: &[f64],
    f: &Quadratic,
    samples: usize,
    floor: f64,
) -> Fallible<()> {
    let uniform = vec![0.; probs.len()];
    let count = probs.len().pow(samples as u32);
    let outcomes = by_outcome(&uniform, f, &LeaveOneOut { samples }, count)?;
    let law = outcomes.iter().map(|(classes, gradient)| {
        let p: f64 = classes.iter().map(|class| probs[*class as usize]).product();
        (p, gradient.as_slice())
    });
    let (mean, variance) = moments(law);
    method.expect("mean", &mean, floor)?;
    method.expect("trace_var", &[variance], floor)
}

/// Two classes: the difference of their noise is logistic, and expectations are integrals over one number.
fn check_relaxed(case: &mut Case<'_>) -> Fallible<()> {
    let (logits, f) = (case.array("logits")?.values, Quadratic::read(case)?);
    let temperature = case.number("temperature")?;
    let exact = draw(&logits, &f, &Enumerate { samples: 1 }, 1, Key::from_seed(0))?;
    case.expect("exact_gradient_logit0", &[exact[0].1[0]], NO_FLOOR)?;

    // The trapezoidal rule on (-50, 50), where the logistic density is above 1e-21.
    let n = 8001;
    let points: Vec<f64> = (0..n).map(|i| -50. + 100. * f64::from(i) / f64::from(n - 1)).collect();
    let noise = Tensor::new(points.as_slice(), &Device::Cpu)?;
    let density = |x: f64| (-x.abs()).exp() / (1. + (-x.abs()).exp()).powi(2);
    let step = 100. / f64::from(n - 1);
    let weights: Vec<f64> = points.iter().map(|x| density(*x) * step).collect();
    let weights = Tensor::new(weights, &Device::Cpu)?;

    let soft = relaxed_gradient(&logits, &f, temperature, &noise, None)?;
    let expected = |gradient: &Tensor| (gradient * &weights)?.sum_all()?.to_scalar::<f64>();
    case.expect("E_soft_gradient_logit0", &[expected(&soft)?], 1e-13)?;
    let difference = Tensor::new(logits[0] - logits[1], &Device::Cpu)?;
    let mut straight = 0.;
    let probs = probabilities(&logits);
    for (class, p) in probs.iter().enumerate() {
        let bit = Tensor::new(1. - class as f64, &Device::Cpu)?;
        let given = conditional_logistic(&difference, &bit, &noise)?.broadcast_sub(&difference)?;
        let limit = expected(&relaxed_gradient(&logits, &f, temperature, &given, Some(class))?)?;
        case.expect(&format!("gumbel_rao_limit_given_class{class}"), &[limit], 1e-13)?;
        straight += p * limit;
    }
    case.expect("E_st_gs_gradient_logit0", &[straight], 1e-13)?;

    let soft = case.number("E_soft_gradient_logit0")?;
    let straight = case.number("E_st_gs_gradient_logit0")?;
    let samples = 1;
    let relaxed = GumbelSoftmax::new(samples, temperature);
    let hard = StraightThroughGumbelSoftmax { samples, temperature };
    let averaged = GumbelRao { samples, temperature, draws: 5 };
    let estimators: [(&dyn Estimator, f64); 3] =
        [(&relaxed, soft), (&hard, straight), (&averaged, straight)];
    for (estimator, expected) in estimators {
        check_mean(&logits, &f, estimator, expected)?;
    }
    Ok(())
}

/// The mean of the estimates of logit 0 is the expected one, within 4.5 standard errors.
fn check_mean(
    logits: &[f64],
    f: &Quadratic,
    estimator: &dyn Estimator,
    expected: f64,
) -> Fallible<()> {
    let rows = draw(logits, f, estimator, 20_000, Key::from_seed(7))?;
    let first: Vec<f64> = rows.iter().map(|(_, gradient)| gradient[0]).collect();
    let (mean, error) = mean_and_error(&first);
    if (mean - expected).abs() < Z_CRITICAL * error {
        return Ok(());
    }
    Err(format!("{estimator:?} has the mean {mean} ± {error}, expected {expected}").into())
}

/// The derivative of `f` in logit 0, for each difference of the two noises; with a class, `f` has the gradient
/// of that corner.
fn relaxed_gradient(
    logits: &[f64],
    f: &Quadratic,
    temperature: f64,
    noise: &Tensor,
    class: Option<usize>,
) -> Fallible<Tensor> {
    let n = noise.elem_count();
    let rows = Tensor::new(logits, &Device::Cpu)?.broadcast_as((1, n, 1, 2))?.contiguous()?;
    let logits = Var::from_tensor(&rows)?;
    let noise = Tensor::stack(&[noise, &noise.zeros_like()?], 1)?.reshape((1, n, 1, 2))?;
    let y = ExpConcrete::new(&logits, temperature)?.transport(&noise)?.exp()?;
    let value = match class {
        None => y,
        Some(class) => {
            let eye = Tensor::eye(2, candle_core::DType::F64, &Device::Cpu)?;
            (&y - y.detach())?.broadcast_add(&eye.get(class)?)?
        }
    };
    let grads = f.of(&value)?.sum_all()?.backward()?;
    let gradient = grads.get(logits.as_tensor()).ok_or("no gradient")?;
    Ok(gradient.reshape((n, 2))?.narrow(1, 0, 1)?.squeeze(1)?)
}
