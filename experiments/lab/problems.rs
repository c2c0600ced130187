//! The programs of the tables.
use candle_core::{Result, Tensor};
use gumbel::Key;
use gumbel::distributions::{Bernoulli, Categorical};
use gumbel::estimators::{Objective, Trace};
use gumbel::lab::Problem;
use gumbel::objectives::{Elbo, Iwae};

/// A program and what is maximised in it.
pub(crate) struct Case {
    pub(crate) title: String,
    pub(crate) text: String,
    pub(crate) problem: Problem,
    pub(crate) objective: Box<dyn Objective>,
    /// Samples of the bound.
    pub(crate) samples: usize,
}

/// Numbers without a pattern, the same on every machine.
fn irregular(count: usize, seed: u64) -> Vec<f64> {
    let key = Key::from_seed(seed);
    (0..count as u64).map(|i| 2. * key.uniform_at(i) - 1.).collect()
}

/// The expectation alone: no divergence.
fn expectation() -> Box<dyn Objective> {
    Box::new(Elbo { beta: 0., ..Elbo::default() })
}

/// The parameters from number `from` on, as `[1, B, ..shape]`.
fn part(parameters: &Tensor, from: usize, shape: &[usize]) -> Result<Tensor> {
    let columns = parameters.narrow(1, from, shape.iter().product())?;
    columns.reshape([&[1, parameters.dim(0)?], shape].concat())
}

/// One variable of `k` categories and a likelihood that is not a polynomial in it.
pub(crate) fn one_class(k: usize) -> Case {
    let weights = irregular(k, 11);
    let program = move |logits: &Tensor, trace: &mut Trace<'_>| {
        let q = Categorical::from_logits(&part(logits, 0, &[1, k])?)?;
        let z = trace.sample("z", &q, &Categorical::uniform_like(&q)?)?;
        let c = Tensor::new(weights.as_slice(), z.device())?;
        z.broadcast_mul(&c)?.sum((2, 3))?.affine(2., 0.5)?.sin()
    };
    Case {
        title: format!("One variable of {k} categories"),
        text: "`f(z) = sin(2 c·z + 1/2)`, logits and `c` uniform in (-1, 1).".to_owned(),
        problem: Problem::new(&irregular(k, 12), program),
        objective: expectation(),
        samples: 1,
    }
}

const BITS: usize = 128;
const TARGET: f64 = 0.45;

/// 128 bits and the loss `mean |z - 0.45|^p`, whose gradient is known in closed form.
pub(crate) fn polynomial(power: f64, one_hot: bool) -> Case {
    let width = if one_hot { 2 * BITS } else { BITS };
    let logits: Vec<f64> = irregular(width, 13).into_iter().map(|x| 0.01 * x).collect();
    let difference = (1. - TARGET).powf(power) - TARGET.powf(power);
    let slope = |l: f64| {
        let p = 1. / (1. + (-l).exp());
        p * (1. - p) * difference / BITS as f64
    };
    let exact = if one_hot {
        logits
            .chunks(2)
            .flat_map(|pair| {
                let d = slope(pair[1] - pair[0]);
                [-d, d]
            })
            .collect()
    } else {
        logits.iter().map(|l| slope(*l)).collect()
    };
    let program = move |logits: &Tensor, trace: &mut Trace<'_>| {
        let z = if one_hot {
            let q = Categorical::from_logits(&part(logits, 0, &[BITS, 2])?)?;
            trace.sample("z", &q, &q)?.narrow(3, 1, 1)?.squeeze(3)?
        } else {
            let q = Bernoulli::from_logits(&part(logits, 0, &[BITS])?)?;
            trace.sample("z", &q, &q)?
        };
        (z - TARGET)?.abs()?.powf(power)?.mean(2)
    };
    let kind = if one_hot { "one-hot pairs" } else { "bits" };
    Case {
        title: format!("Polynomial programming, p = {power}, 128 {kind}"),
        text: format!("`f(z) = mean |z - 0.45|^{power}`, logits uniform in (-0.01, 0.01)."),
        problem: Problem::new(&logits, program).with_exact_gradient(exact),
        objective: expectation(),
        samples: 1,
    }
}

/// Two bits, and a class whose posterior and prior depend on them.
pub(crate) fn dependent() -> Case {
    let program = |x: &Tensor, trace: &mut Trace<'_>| {
        let q = Bernoulli::from_logits(&part(x, 0, &[2])?)?;
        let p = Bernoulli::from_logits(&part(x, 2, &[2])?)?;
        let bits = trace.sample("bits", &q, &p)?;
        let rows = |a: &Tensor, from| {
            a.unsqueeze(3)?.broadcast_mul(&part(x, from, &[2, 3])?)?.sum(2) // [S, B, 3]
        };
        let q = Categorical::from_logits(&rows(&bits, 4)?.unsqueeze(2)?)?;
        let p = Categorical::from_logits(&rows(&bits, 10)?.unsqueeze(2)?)?;
        let class = trace.sample("class", &q, &p)?.squeeze(2)?;
        ((rows(&(bits - 0.3)?, 16)? * class)?.sum(2)? * 2.)?.sin()
    };
    let parameters: Vec<f64> = irregular(22, 14).into_iter().map(|x| 1.5 * x).collect();
    Case {
        title: "Two bits, then a class that depends on them".to_owned(),
        text:
            "ELBO with closed-form divergences; 22 parameters of posterior, prior and likelihood."
                .to_owned(),
        problem: Problem::new(&parameters, program),
        objective: Box::new(Elbo::default()),
        samples: 1,
    }
}

/// The multi-sample bound of a model with one class.
pub(crate) fn multi_sample() -> Case {
    let program = |x: &Tensor, trace: &mut Trace<'_>| {
        let q = Categorical::from_logits(&part(x, 0, &[1, 4])?)?;
        let p = Categorical::from_logits(&part(x, 4, &[1, 4])?)?;
        let z = trace.sample("z", &q, &p)?;
        let score = z.broadcast_mul(&part(x, 8, &[1, 4])?)?.sum((2, 3))?;
        (score * 2.)?.sin()? * 1.5
    };
    Case {
        title: "Multi-sample bound, S = 3, one variable of 4 categories".to_owned(),
        text: "`log (1/3) Σ w_s`; 12 parameters of posterior, prior and likelihood.".to_owned(),
        problem: Problem::new(&irregular(12, 15), program),
        objective: Box::new(Iwae),
        samples: 3,
    }
}
