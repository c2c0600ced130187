//! Expected bounds by summation over every joint value, in plain arithmetic: nothing of the library.
use gumbel::estimators::{Divergence, Objective};
use gumbel::objectives::{Elbo, Iwae};
use gumbel_conformance::central_gradient;

use crate::problems::Problem;

/// What one joint value of all latents contributes, in nats.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) log_q: f64,
    pub(crate) log_p: f64,
    /// Divergences of the sites, given the latents before them (and after, where a prior depends on those).
    pub(crate) kl: f64,
    /// `log p(x | z)`, observed sites included.
    pub(crate) log_px: f64,
}

pub(crate) fn log_softmax(logits: &[f64]) -> Vec<f64> {
    let total = logits.iter().map(|x| x.exp()).sum::<f64>().ln();
    logits.iter().map(|x| x - total).collect()
}

/// `log σ(x)`.
pub(crate) fn log_sigmoid(x: f64) -> f64 {
    -(-x).exp().ln_1p()
}

impl Terms {
    /// A variable with value `z`, and logits of its posterior and its prior.
    pub(crate) fn class(&mut self, q: &[f64], p: &[f64], z: usize) {
        let (q, p) = (log_softmax(q), log_softmax(p));
        self.log_q += q[z];
        self.log_p += p[z];
        self.kl += q.iter().zip(&p).map(|(q, p)| q.exp() * (q - p)).sum::<f64>();
    }

    /// The same where the prior depends on what was drawn given `z`: only the entropy of the posterior is an average.
    pub(crate) fn coupled_class(&mut self, q: &[f64], p: &[f64], z: usize) {
        let (q, p) = (log_softmax(q), log_softmax(p));
        self.log_q += q[z];
        self.log_p += p[z];
        self.kl += q.iter().map(|q| q.exp() * q).sum::<f64>() - p[z];
    }

    /// A bit with value `z`, and log-odds of its posterior and its prior.
    pub(crate) fn bit(&mut self, q: f64, p: f64, z: usize) {
        self.class(&[0., q], &[0., p], z);
    }
}

/// `ln κ(y)`, the density of an ExpConcrete variable, up to `ln Γ(K)`.
pub(crate) fn log_concrete(logits: &[f64], temperature: f64, y: &[f64]) -> f64 {
    let scores: Vec<f64> = logits.iter().zip(y).map(|(l, y)| l - temperature * y).collect();
    let order = (logits.len() - 1) as f64;
    order * temperature.ln() + log_softmax(&scores).iter().sum::<f64>()
}

/// What is maximised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    /// Form and weight of the divergence.
    Elbo(Divergence, f64),
    Iwae,
}

pub(crate) const BOUNDS: [Bound; 3] =
    [Bound::Elbo(Divergence::Analytic, 1.), Bound::Elbo(Divergence::Sampled, 1.), Bound::Iwae];

/// The same with weights of the divergence, for the tests that cost little.
pub(crate) const WEIGHTED_BOUNDS: [Bound; 5] = [
    BOUNDS[0],
    BOUNDS[1],
    BOUNDS[2],
    Bound::Elbo(Divergence::Analytic, 2.),
    Bound::Elbo(Divergence::Sampled, 0.3),
];

impl Bound {
    /// The library's implementation.
    pub(crate) fn objective(self) -> Box<dyn Objective> {
        match self {
            Self::Elbo(divergence, beta) => Box::new(Elbo { divergence, beta }),
            Self::Iwae => Box::new(Iwae),
        }
    }

    pub(crate) fn log_weight(self, t: &Terms) -> f64 {
        match self {
            Self::Elbo(Divergence::Analytic, beta) => t.log_px - beta * t.kl,
            Self::Elbo(_, beta) => t.log_px + beta * (t.log_p - t.log_q),
            Self::Iwae => t.log_px + t.log_p - t.log_q,
        }
    }

    /// `E[bound]` with `samples` samples.
    pub(crate) fn expected(self, problem: &Problem, parameters: &[f64], samples: usize) -> f64 {
        let values: Vec<(f64, f64)> = (0..problem.values)
            .map(|z| (problem.terms)(parameters, z))
            .map(|terms| (terms.log_q.exp(), self.log_weight(&terms)))
            .collect();
        match self {
            Self::Elbo(..) => values.iter().map(|(q, log_w)| q * log_w).sum(),
            Self::Iwae => multisets(&values, samples, 1., 0., samples),
        }
    }

    /// The gradient of [`Bound::expected`] in all parameters.
    pub(crate) fn gradient(self, problem: &Problem, samples: usize) -> Vec<f64> {
        let value =
            |x: &[f64]| Ok::<_, std::convert::Infallible>(self.expected(problem, x, samples));
        match central_gradient(problem.parameters, value) {
            Ok(gradient) => gradient,
            Err(never) => match never {},
        }
    }
}

/// `E[log mean w]` as a sum over how often each value occurs among the samples: `chance` is that of the
/// values before, `total` the sum of their weights, `left` the samples that are left to give out.
fn multisets(values: &[(f64, f64)], left: usize, chance: f64, total: f64, samples: usize) -> f64 {
    let Some(((q, log_w), rest)) = values.split_first() else {
        let mean = total / samples as f64;
        return if left == 0 { chance * mean.ln() } else { 0. };
    };
    let (mut sum, mut chance) = (0., chance);
    for count in 0..=left {
        sum += multisets(rest, left - count, chance, total + count as f64 * log_w.exp(), samples);
        // The next binomial coefficient, and one factor more.
        chance *= q * (left - count) as f64 / (count + 1) as f64;
    }
    sum
}
