//! RODEO: control variates from discrete Stein operators.
use candle_core::{D, Result, Tensor};
use gumbel_kernels::Key;

use super::leave_one_out::learning_signal;
use super::leaves::Leaves;
use super::others::{at_least_two, mean_of_others};
use super::signal::{along_logits, sum_to};
use super::site::{latent, of_site};
use super::{Estimator, Independent, Objective, Program, Site, SiteDraw, Store, Surrogate, Trace};
use crate::distributions::Discrete;

/// RODEO: leave-one-out with control variates from the Gibbs Stein operator.
///
/// For any `h`, this has mean 0 under `q`, where `y_d` is variable `d`, drawn anew:
///
/// ```math
/// (A h)(z) = \sum_d \bigl( \mathbb{E}[h(y_d, z_{-d})] - h(z) \bigr)
/// ```
///
/// With `u(y) = ḡ · (y - μ)`, made of the gradients of the *other* samples, and `h = H(u)` a learned function of
/// one number, two control variates cost no run of the model:
/// - `A h` at the other samples is added to the baseline;
/// - `A (h ∇ log q)` at the sample itself is added to its gradient.
///
/// **Unbiased** for every `H`, which starts as `u / 2` and descends the squared size of the gradient in the
/// site's logits, as far as the second of these makes it: the first is not differentiated in `H`, and has no weight of its
/// own as in the authors' code. One backward pass more than [`LeaveOneOut`](super::LeaveOneOut).
///
/// Source: Shi, Zhou, Hwang, Titsias, Mackey (2022), eq. 10, with the Gibbs operator of section 4.
#[derive(Clone, Debug)]
pub struct Rodeo {
    samples: usize,
    functions: Vec<Function>,
}

/// `H(u) = a u + v · tanh(w u + b)` of one site.
#[derive(Clone, Debug)]
struct Function {
    site: Site,
    slope: Tensor,
    /// `[H]` each.
    weight: Tensor,
    bias: Tensor,
    output: Tensor,
}

impl Function {
    fn new(site: &SiteDraw, hidden: usize, store: &mut dyn Store, key: Key) -> Result<Self> {
        let logits = site.posterior.logits();
        let (dtype, device, path) = (logits.dtype(), logits.device(), site.site.path());
        let mut parameter = |part: &str, initial: &Tensor| {
            store.parameter(&format!("{path}.{part}"), &initial.to_dtype(dtype)?)
        };
        let zeros = Tensor::zeros(hidden, dtype, device)?;
        let weight = site.site.key(key.named("function")).normal(hidden, dtype, device)?;
        Ok(Self {
            site: site.site.clone(),
            slope: parameter("slope", &Tensor::new(0.5f64, device)?)?,
            weight: parameter("weight", &weight)?,
            bias: parameter("bias", &zeros)?,
            output: parameter("output", &zeros)?,
        })
    }

    fn at(&self, u: &Tensor) -> Result<Tensor> {
        let hidden = u.unsqueeze(D::Minus1)?.broadcast_mul(&self.weight)?;
        let hidden = hidden.broadcast_add(&self.bias)?.tanh()?;
        u.broadcast_mul(&self.slope)? + hidden.broadcast_mul(&self.output)?.sum(D::Minus1)?
    }
}

/// The operator at the draws of one site, differentiable in `H`.
struct Stein {
    /// `(A h)(z)`: `[S, B]`.
    scalar: Tensor,
    /// What the score of each variable is multiplied by, `[S, B, N, 1]` (`[S, B, N]` for bits).
    factor: Tensor,
    /// What does not contain the score, in the shape of the draw.
    known: Tensor,
}

/// `others`: the mean gradient of the other samples, in the shape of the draw.
fn stein(site: &SiteDraw, function: &Function, others: &Tensor) -> Result<Stein> {
    let mean = site.posterior.probs()?.detach();
    let step = site.draw.value.detach().broadcast_sub(&mean)?;
    // One option for each value a variable can take: its probability, its distance from the mean.
    let (probs, shift, own) = match site.posterior {
        Discrete::Bernoulli(_) => {
            let options = Tensor::stack(&[&mean.neg()?, &(1. - &mean)?], D::Minus1)?;
            let probs = Tensor::stack(&[&(1. - &mean)?, &mean], D::Minus1)?;
            let shift = others.unsqueeze(D::Minus1)?.broadcast_mul(&options)?;
            (probs, shift, (others * &step)?)
        }
        Discrete::Categorical(_) => {
            let along = others.broadcast_mul(&mean)?.sum_keepdim(D::Minus1)?;
            let own = (others * &step)?.sum(D::Minus1)?;
            (mean.clone(), others.broadcast_sub(&along)?, own)
        }
    }; // [.., N, options], [S, B, N, options], [S, B, N]
    let u = own.sum_keepdim(2)?; // [S, B, 1]
    let without = u.broadcast_sub(&own)?.unsqueeze(D::Minus1)?;
    let values = function.at(&without.broadcast_add(&shift)?)?; // [S, B, N, options]
    let weighted = values.broadcast_mul(&probs)?;
    let average = weighted.sum(D::Minus1)?; // [S, B, N]
    let total = average.sum_keepdim(2)?;
    let n = own.dim(2)? as f64;
    let at_draw = (function.at(&u)? * n)?; // [S, B, 1]
    let scalar = (&total - &at_draw)?;
    let factor = scalar.broadcast_sub(&average)?;
    let (factor, known) = match site.posterior {
        Discrete::Bernoulli(_) => {
            // E[h (y - p)] = p (h(1) - E h)
            let one = values.narrow(D::Minus1, 1, 1)?.squeeze(D::Minus1)?;
            (factor, (one - &average)?.broadcast_mul(&mean)?)
        }
        Discrete::Categorical(_) => {
            let average = average.unsqueeze(D::Minus1)?;
            (factor.unsqueeze(D::Minus1)?, (weighted - average.broadcast_mul(&mean)?)?)
        }
    };
    Ok(Stein { scalar: scalar.squeeze(2)?, factor, known })
}

impl Rodeo {
    /// For the sites that a first run visited; `hidden` units in each learned function.
    ///
    /// # Errors
    /// If `hidden` is 0 or `store` refuses a parameter.
    pub fn new(
        samples: usize,
        hidden: usize,
        sites: &[SiteDraw],
        store: &mut dyn Store,
        key: Key,
    ) -> Result<Self> {
        if hidden == 0 {
            candle_core::bail!("a learned function needs hidden units, got 0; use at least 1")
        }
        let latent = latent(sites);
        let functions = latent.map(|site| Function::new(site, hidden, store, key));
        Ok(Self { samples, functions: functions.collect::<Result<_>>()? })
    }

    fn function(&self, site: &SiteDraw) -> Result<&Function> {
        of_site(&self.functions, |function| &function.site, site)
    }
}

impl Estimator for Rodeo {
    fn surrogate(
        &self,
        program: &Program<'_>,
        objective: &dyn Objective,
        key: Key,
    ) -> Result<Surrogate> {
        at_least_two("RODEO", self.samples)?;
        let mut inner = Independent { samples: self.samples };
        let mut leaves = Leaves::of(&mut inner);
        let (log_px, sites) = Trace::run(program, &mut leaves, key)?;
        let log_w = objective.log_weights(&log_px, &sites)?;
        let bound = objective.bound(&log_w)?;
        let slopes = leaves.gradients(&log_w)?;
        let latent: Vec<_> = latent(&sites).collect();
        let operators = latent
            .iter()
            .zip(&slopes)
            .map(|(site, slope)| stein(site, self.function(site)?, &mean_of_others(slope)?))
            .collect::<Result<Vec<_>>>()?;

        let signal = learning_signal(&log_w, &bound, objective)?;
        let (share, batch) = (1. / self.samples as f64, bound.dim(0)? as f64);
        // Of mean 0 given all other samples, and so only if it enters linearly.
        let control =
            operators.iter().try_fold(log_w.zeros_like()?.detach(), |sum, operator| {
                sum + operator.scalar.detach()
            })?;
        let signal = (signal - (mean_of_others(&control)? * share)?)?;
        let (mut gain, mut auxiliary) = (bound.clone(), Vec::new());
        for (site, Stein { factor, known, .. }) in latent.iter().zip(&operators) {
            let value = site.draw.value.detach();
            let score = value.broadcast_sub(&site.posterior.probs()?.detach())?;
            let signal = match site.posterior {
                Discrete::Bernoulli(_) => signal.unsqueeze(2)?,
                Discrete::Categorical(_) => signal.unsqueeze(2)?.unsqueeze(3)?,
            };
            let factor = signal.broadcast_add(&(factor * share)?)?;
            let gradient = (score.broadcast_mul(&factor)? + (known * share)?)?;
            let gradient = sum_to(&gradient, site.posterior.logits())?;
            gain = gain.broadcast_add(&along_logits(site, &gradient, bound.dim(0)?)?)?;
            auxiliary.push((gradient.sqr()?.sum_all()? / batch)?);
        }
        let auxiliary = Tensor::stack(&auxiliary, 0)?.sum_all()?;
        Surrogate::new(&gain, &bound, &log_px, sites)?.with_auxiliary(&auxiliary)
    }

    fn is_unbiased(&self) -> bool {
        true
    }

    fn bibtex(&self) -> &'static str {
        include_str!("bibtex/rodeo.bib")
    }
}
