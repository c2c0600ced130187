//! Small models of every kind, each told twice: as a program for the library, and in plain arithmetic.
//!
//! All parameters, of posterior, prior and likelihood, are one row of numbers; a batch has one such row
//! for each of its examples, so that one backward pass gives as many independent gradients.
use candle_core::{Result, Tensor};
use gumbel::distributions::{Bernoulli, Categorical};
use gumbel::estimators::Trace;

use crate::exact::{Terms, log_sigmoid};

/// A model with few joint values.
pub(crate) struct Problem {
    pub(crate) name: &'static str,
    pub(crate) parameters: &'static [f64],
    /// Number of joint values of all latents.
    pub(crate) values: usize,
    /// What joint value `z` contributes, given the parameters.
    pub(crate) terms: fn(&[f64], usize) -> Terms,
    /// `log p(x | z): [S, B]`, given parameters `[B, P]`.
    pub(crate) program: fn(&Tensor, &mut Trace<'_>) -> Result<Tensor>,
}

/// The parameters from number `from` on, as `[1, B, ..shape]`.
fn part(parameters: &Tensor, from: usize, shape: &[usize]) -> Result<Tensor> {
    let b = parameters.dim(0)?;
    let columns = parameters.narrow(1, from, shape.iter().product())?;
    columns.reshape([&[1, b], shape].concat())
}

/// `Σ_ij a_i M_ij b_j` of `a: [S, B, I]`, `M: [1, B, I, J]`, `b: [S, B, J]`: `[S, B]`.
fn bilinear(a: &Tensor, matrix: &Tensor, b: &Tensor) -> Result<Tensor> {
    (rows(a, matrix)? * b)?.sum(2)
}

/// `Σ_i a_i M_ij` of `a: [S, B, I]`, `M: [1, B, I, J]`: `[S, B, J]`.
fn rows(a: &Tensor, matrix: &Tensor) -> Result<Tensor> {
    a.unsqueeze(3)?.broadcast_mul(matrix)?.sum(2)
}

/// One categorical variable and a likelihood that is not linear in it.
pub(crate) const ONE_CLASS: Problem = Problem {
    name: "one class",
    //             posterior       prior          scores
    parameters: &[0.4, -0.7, 0.2, 0.0, 0.5, -0.5, 0.3, -0.8, 1.2],
    values: 3,
    terms: |x, z| {
        let mut terms = Terms { log_px: x[6 + z].powi(2), ..Terms::default() };
        terms.class(&x[..3], &x[3..6], z);
        terms
    },
    program: |x, trace| {
        let q = Categorical::from_logits(&part(x, 0, &[1, 3])?)?;
        let p = Categorical::from_logits(&part(x, 3, &[1, 3])?)?;
        let z = trace.sample("z", &q, &p)?;
        z.broadcast_mul(&part(x, 6, &[1, 3])?)?.sum((2, 3))?.sqr()
    },
};

/// Two categorical variables of one site that interact, and an observed bit.
pub(crate) const TWO_CLASSES: Problem = Problem {
    name: "two classes and a label",
    parameters: &[
        0.3, -0.4, 0.6, -0.2, 0.9, 0.1, // posterior
        0.1, -0.3, 0.2, 0.5, 0.0, -0.6, // prior
        0.9, -1.1, 0.4, -0.7, 0.8, 1.3, 0.2, -0.5, -1.4, // interaction
    ],
    values: 9,
    terms: |x, m| {
        let (first, second) = (m / 3, m % 3);
        let score = x[12 + 3 * first + second];
        let log_px = log_sigmoid(score) - (score - 0.5).powi(2);
        let mut terms = Terms { log_px, ..Terms::default() };
        terms.class(&x[..3], &x[6..9], first);
        terms.class(&x[3..6], &x[9..12], second);
        terms
    },
    program: |x, trace| {
        let q = Categorical::from_logits(&part(x, 0, &[2, 3])?)?;
        let p = Categorical::from_logits(&part(x, 6, &[2, 3])?)?;
        let z = trace.sample("z", &q, &p)?;
        let (first, second) = (z.narrow(2, 0, 1)?.squeeze(2)?, z.narrow(2, 1, 1)?.squeeze(2)?);
        let score = bilinear(&first, &part(x, 12, &[3, 3])?, &second)?;
        let label = Bernoulli::from_logits(&score.unsqueeze(2)?)?;
        trace.observe("label", &label, &label.logits().ones_like()?)?;
        (score - 0.5)?.sqr()?.neg()
    },
};

/// Three bits in a quadratic likelihood.
pub(crate) const THREE_BITS: Problem = Problem {
    name: "three bits",
    parameters: &[0.5, -1.0, 0.2, 0.3, 0.0, -0.4, 1.1, -0.7, 0.9],
    values: 8,
    terms: |x, m| {
        let bits = [m / 4, m / 2 % 2, m % 2];
        let mut terms = Terms::default();
        let mut score = -0.4;
        for (i, z) in bits.into_iter().enumerate() {
            terms.bit(x[i], x[3 + i], z);
            score += x[6 + i] * z as f64;
        }
        terms.log_px = -score * score;
        terms
    },
    program: |x, trace| {
        let q = Bernoulli::from_logits(&part(x, 0, &[3])?)?;
        let p = Bernoulli::from_logits(&part(x, 3, &[3])?)?;
        let z = trace.sample("z", &q, &p)?;
        let score = (z.broadcast_mul(&part(x, 6, &[3])?)?.sum(2)? - 0.4)?;
        score.sqr()?.neg()
    },
};

/// Two bits, and then a class whose posterior and prior depend on them.
pub(crate) const BITS_THEN_CLASS: Problem = Problem {
    name: "two bits, then a class that depends on them",
    parameters: &[
        0.4, -0.6, 0.1, 0.3, // posterior and prior of the bits
        0.2, -0.1, 0.3, 0.8, -0.9, 0.1, -0.5, 0.6, 0.4, // posterior of the class
        0.0, 0.4, -0.2, -0.3, 0.5, 0.7, 0.2, -0.8, 0.1, // prior of the class
        1.0, -0.9, 0.4, -1.2, 0.7, 0.5, // interaction
    ],
    values: 12,
    terms: |x, m| {
        let (bits, class) = ([m / 6, m / 3 % 2], m % 3);
        let logits = |from: usize| -> Vec<f64> {
            let table = |i: usize, k: usize| x[from + 3 + 3 * i + k] * bits[i] as f64;
            (0..3).map(|k| x[from + k] + table(0, k) + table(1, k)).collect()
        };
        let mut terms = Terms::default();
        terms.bit(x[0], x[2], bits[0]);
        terms.bit(x[1], x[3], bits[1]);
        terms.class(&logits(4), &logits(13), class);
        let score = |i: usize| (bits[i] as f64 - 0.3) * x[22 + 3 * i + class];
        terms.log_px = (score(0) + score(1)).powi(2);
        terms
    },
    program: |x, trace| {
        let q = Bernoulli::from_logits(&part(x, 0, &[2])?)?;
        let p = Bernoulli::from_logits(&part(x, 2, &[2])?)?;
        let bits = trace.sample("bits", &q, &p)?;
        let law = |from: usize| -> Result<Categorical> {
            let logits = rows(&bits, &part(x, from + 3, &[2, 3])?)?;
            let logits = logits.broadcast_add(&part(x, from, &[3])?)?;
            Categorical::from_logits(&logits.unsqueeze(2)?)
        };
        let class = trace.sample("class", &law(4)?, &law(13)?)?.squeeze(2)?;
        bilinear(&(bits - 0.3)?, &part(x, 22, &[2, 3])?, &class)?.sqr()
    },
};

/// A class, and then two bits whose posterior depends on it; two layers of one name.
pub(crate) const CLASS_THEN_BITS: Problem = Problem {
    name: "a class, then two bits that depend on it",
    parameters: &[
        0.1, 0.6, -0.5, 0.2, -0.2, 0.4, // posterior and prior of the class
        0.7, -0.4, -0.8, 0.9, 0.3, 0.2, // posterior of the bits
        0.3, -0.1, // prior of the bits
        0.8, -1.0, -0.6, 1.1, 0.5, 0.4, // interaction
    ],
    values: 12,
    terms: |x, m| {
        let (class, bits) = (m / 4, [m / 2 % 2, m % 2]);
        let mut terms = Terms::default();
        terms.class(&x[..3], &x[3..6], class);
        let mut score = 0.2;
        for (i, z) in bits.into_iter().enumerate() {
            terms.bit(x[6 + 2 * class + i], x[12 + i], z);
            score += x[14 + 2 * class + i] * z as f64;
        }
        terms.log_px = -score * score;
        terms
    },
    program: |x, trace| {
        let q = Categorical::from_logits(&part(x, 0, &[1, 3])?)?;
        let p = Categorical::from_logits(&part(x, 3, &[1, 3])?)?;
        let class = trace.sample(("layer", 0), &q, &p)?.squeeze(2)?;
        let q = Bernoulli::from_logits(&rows(&class, &part(x, 6, &[3, 2])?)?)?;
        let p = Bernoulli::from_logits(&part(x, 12, &[2])?)?;
        let bits = trace.sample(("layer", 1), &q, &p)?;
        let score = bilinear(&class, &part(x, 14, &[3, 2])?, &bits)?;
        (score + 0.2)?.sqr()?.neg()
    },
};

/// Two layers, inferred from the data up and generated down: the prior of the first depends on the second.
pub(crate) const LAYERS: Problem = Problem {
    name: "a class, and a bit above it",
    parameters: &[
        0.3, -0.5, 0.2, // posterior of the class
        1.6, -1.2, 0.4,  // posterior of the bit
        -0.3, // prior of the bit
        0.2, 0.1, -0.4, 1.1, -0.9, 0.5, // prior of the class
        0.8, -0.6, 1.3, // scores
    ],
    values: 6,
    terms: |x, m| {
        let (class, bit) = (m / 2, m % 2);
        let mut terms = Terms { log_px: -(x[13 + class] - 0.5).powi(2), ..Terms::default() };
        terms.bit(x[3 + class], x[6], bit);
        let below: Vec<f64> = (0..3).map(|k| x[7 + k] + x[10 + k] * bit as f64).collect();
        terms.coupled_class(&x[..3], &below, class);
        terms
    },
    program: |x, trace| {
        let q = Categorical::from_logits(&part(x, 0, &[1, 3])?)?;
        let class = trace.infer(("layer", 0), &q)?.squeeze(2)?;
        let q = Bernoulli::from_logits(&rows(&class, &part(x, 3, &[3, 1])?)?)?;
        let bit = trace.sample(("layer", 1), &q, &Bernoulli::from_logits(&part(x, 6, &[1])?)?)?;
        let below = rows(&bit, &part(x, 10, &[1, 3])?)?.broadcast_add(&part(x, 7, &[3])?)?;
        trace.prior(("layer", 0), &Categorical::from_logits(&below.unsqueeze(2)?)?)?;
        let score = class.broadcast_mul(&part(x, 13, &[3])?)?.sum(2)?;
        (score - 0.5)?.sqr()?.neg()
    },
};

pub(crate) const PROBLEMS: [&Problem; 6] =
    [&ONE_CLASS, &TWO_CLASSES, &THREE_BITS, &BITS_THEN_CLASS, &CLASS_THEN_BITS, &LAYERS];
