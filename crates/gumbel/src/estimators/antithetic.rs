//! Score functions with antithetic copies of each sample: what ARM, DisARM, ARMS and CARMS share.
use candle_core::{D, Result, Tensor};
use gumbel_kernels::Key;

use super::class_coupling::{MOST_CATEGORIES, class_copies};
use super::copula::bit_copies;
use super::signal::{along_logits, bound_with_replaced, score};
use super::site::latent;
use super::{Draw, Measure, Objective, Program, Sampler, Site, SiteDraw, Surrogate, Trace};
use crate::distributions::Discrete;

/// How the copies of one variable weigh in its gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weights {
    /// `u - 1/2` of the uniform number behind a pair of bits.
    Arm,
    /// The score over one minus the correlation of the copies.
    Arms,
    /// As [`Weights::Arms`] for bits; for classes the ratio of independent to joint probability of each pair.
    Carms,
}

/// Coefficients of the logits of a site whose copies depend on each other.
pub(crate) enum Coefficients {
    /// One for each copy, `[copies, S, B, N]`: multiplied by its signal less their mean.
    Copies(Tensor),
    /// `[copies, S, B, N, K]` one-hot vectors and `[copies, copies, S, B, N]` weights of pairs.
    Pairs { values: Tensor, ratios: Tensor },
}

/// Draws `copies · samples` values: copy by copy, and in each the samples.
struct Copies {
    copies: usize,
    samples: usize,
    weights: Weights,
    /// For each latent site; none where it is drawn independently.
    coefficients: Vec<Option<Coefficients>>,
}

impl Sampler for Copies {
    fn draw(&mut self, _: &Site, q: &Discrete, key: Key) -> Result<Draw> {
        let (n, s) = (self.copies, self.samples);
        let shared = q.logits().dim(0)? == 1;
        let (value, coefficients) = match (q, self.weights, shared) {
            (Discrete::Bernoulli(q), weights, true) => {
                let (bits, coefficients) = bit_copies(q, n, s, weights, key)?;
                (bits.flatten(0, 1)?, Some(Coefficients::Copies(coefficients)))
            }
            (Discrete::Categorical(d), Weights::Carms, true)
                if q.categories() <= MOST_CATEGORIES =>
            {
                let (values, ratios) = class_copies(d, n, s, key)?;
                (values.flatten(0, 1)?, Some(Coefficients::Pairs { values, ratios }))
            }
            // A law of its own for each copy, or one that these weights are not for: independent draws.
            _ => (q.sample(n * s, key)?, None),
        };
        self.coefficients.push(coefficients);
        Ok(Draw { value, measure: Measure::Discrete })
    }
}

/// The estimate with `copies` antithetic copies of each of the `samples` of the bound.
///
/// Copy `u` of slot `s` has the signal `F[u, s]`: the bound with the weight of slot `s` replaced by that of copy
/// `u`, averaged over the copies that the other slots are taken from. A site whose logits are shared weighs
/// the signals as its coefficients say. Any other site takes the score of its own draw, with
/// `bound - bound(slot replaced by another copy)` as signal: given what the site was conditioned on, the other
/// copies do not depend on its draw, so that this leaves the gradient unbiased, too.
pub(crate) fn surrogate(
    (copies, samples): (usize, usize),
    weights: Weights,
    program: &Program<'_>,
    objective: &dyn Objective,
    key: Key,
) -> Result<Surrogate> {
    if copies < 2 || samples == 0 {
        candle_core::bail!(
            "antithetic sampling needs at least 2 copies of at least 1 sample, got {copies} of {samples}"
        )
    }
    let mut sampler = Copies { copies, samples, weights, coefficients: Vec::new() };
    let (log_px, sites) = Trace::run(program, &mut sampler, key)?;
    let log_w = objective.log_weights(&log_px, &sites)?;
    let worlds = (0..copies)
        .map(|copy| log_w.narrow(0, copy * samples, samples))
        .collect::<Result<Vec<_>>>()?;
    let bounds = worlds.iter().map(|world| objective.bound(world)).collect::<Result<Vec<_>>>()?;
    let bound = Tensor::stack(&bounds, 0)?.mean(0)?;
    let Signals { swapped, own } = signals(&worlds, objective)?;

    let mut gain = bound.clone();
    let latent = latent(&sites);
    for (site, coefficients) in latent.zip(&sampler.coefficients) {
        gain = gain.broadcast_add(&match coefficients {
            Some(coefficients) => coupled(site, coefficients, &swapped, bound.dim(0)?)?,
            None => (score(site, &own)? / copies as f64)?,
        })?;
    }
    Surrogate::new(&gain, &bound, &log_px, sites)
}

/// Learning signals, detached.
struct Signals {
    /// `[copies, S, B]`: the bound with a slot taken from a copy, less the mean over the copies.
    swapped: Tensor,
    /// `[copies · S, B]`: the bound of a copy's own world less that with the slot taken from the others.
    own: Tensor,
}

fn signals(worlds: &[Tensor], objective: &dyn Objective) -> Result<Signals> {
    let n = worlds.len() as f64;
    let mut swapped = Vec::new();
    let mut own = Vec::new();
    // Row v: world v with each slot taken from copy u.
    let rows = worlds
        .iter()
        .map(|world| {
            let taken = worlds.iter().map(|copy| bound_with_replaced(world, copy, objective));
            Tensor::stack(&taken.collect::<Result<Vec<_>>>()?, 0)
        })
        .collect::<Result<Vec<_>>>()?; // [copies, S, B] each
    for u in 0..worlds.len() {
        let taken = rows.iter().map(|row| row.get(u)).collect::<Result<Vec<_>>>()?;
        swapped.push(Tensor::stack(&taken, 0)?.mean(0)?);
        // bound - mean of the others = (bound - mean of all) n / (n - 1)
        let centred = (rows[u].get(u)? - rows[u].mean(0)?)?;
        own.push((centred * (n / (n - 1.)))?);
    }
    let swapped = Tensor::stack(&swapped, 0)?;
    let swapped = swapped.broadcast_sub(&swapped.mean_keepdim(0)?)?;
    Ok(Signals { swapped: swapped.detach(), own: Tensor::cat(&own, 0)?.detach() })
}

/// The share of a site whose copies are coupled, a scalar.
fn coupled(
    site: &SiteDraw,
    coefficients: &Coefficients,
    signals: &Tensor,
    batch: usize,
) -> Result<Tensor> {
    let n = signals.dim(0)? as f64;
    let weight = match coefficients {
        Coefficients::Copies(coefficients) => {
            let signals = signals.unsqueeze(D::Minus1)?; // [copies, S, B, 1]
            (coefficients.broadcast_mul(&signals)?.sum(0)? / (n - 1.))?
        }
        Coefficients::Pairs { values, ratios } => {
            // Σ_{i<j} R_ij (F_i - F_j)(e_i - e_j) / n(n-1) = Σ_i e_i Σ_j R_ij (F_i - F_j) / n(n-1)
            let gaps = signals.unsqueeze(1)?.broadcast_sub(&signals.unsqueeze(0)?)?;
            let pulls = ratios.broadcast_mul(&gaps.unsqueeze(D::Minus1)?)?.sum(1)?;
            let sum = values.broadcast_mul(&pulls.unsqueeze(D::Minus1)?)?.sum(0)?;
            (sum / (n * (n - 1.)))?
        }
    };
    along_logits(site, &weight, batch)
}
