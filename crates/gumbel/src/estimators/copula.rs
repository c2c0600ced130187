//! Copies of a discrete draw that avoid each other.
//!
//! The Dirichlet copula: with `(d_1, .., d_n)` uniform on the simplex and `m = n - 1`, every
//! `s_i = (1 - d_i)^m` is uniform, and `P(s_i < x, s_j < y) = max(0, x^{1/m} + y^{1/m} - 1)^m`. For `n = 2` it is
//! `s_2 = 1 - s_1`. Source: Dimitriev and Zhou (2021), section 3.
use candle_core::{D, DType, Result, Tensor};
use gumbel_kernels::{Key, log_softmax, log_sum_exp, softplus};

use super::antithetic::Weights;
use crate::distributions::{Bernoulli, Categorical};

/// Share of the draws of classes whose copies are independent, so that every pair has a positive probability.
const INDEPENDENT: f64 = 0.5;

/// `ln s_i` of the copula: `[copies, ..shape]`, in double precision.
fn log_copula(copies: usize, shape: &[usize], like: &Tensor, key: Key) -> Result<Tensor> {
    let shape = [&[copies], shape].concat();
    let log_e = key.gumbel(shape, DType::F64, like.device())?.neg()?; // ln Exp(1)
    let total = log_sum_exp(&log_e, 0)?;
    let rest = (0..copies)
        .map(|i| {
            let others = (0..copies).filter(|j| *j != i).map(|j| log_e.get(j));
            log_sum_exp(&Tensor::stack(&others.collect::<Result<Vec<_>>>()?, 0)?, 0)? - &total
        })
        .collect::<Result<Vec<_>>>()?;
    Tensor::stack(&rest, 0)? * (copies - 1) as f64
}

/// Antithetic bits `[copies, S, B, N]`, and the coefficients of the logits for each copy.
pub(crate) fn bit_copies(
    q: &Bernoulli,
    copies: usize,
    samples: usize,
    weights: Weights,
    key: Key,
) -> Result<(Tensor, Tensor)> {
    let (_, b, n) = q.logits().dims3()?;
    let log_s = log_copula(copies, &[samples, b, n], q.logits(), key)?;
    let logits = q.logits().detach();
    let (bits, coefficients) = bits_of(&logits.to_dtype(DType::F64)?, &log_s, weights)?;
    Ok((bits.to_dtype(logits.dtype())?, coefficients.to_dtype(logits.dtype())?))
}

/// The less probable value of a bit is drawn where `s` is below its probability `t`; with that orientation the
/// copies avoid each other best.
fn bits_of(logits: &Tensor, log_s: &Tensor, weights: Weights) -> Result<(Tensor, Tensor)> {
    let log_t = softplus(&logits.abs()?)?.neg()?; // ln of the smaller probability
    let rare = log_s.broadcast_lt(&log_t)?.to_dtype(DType::F64)?;
    let negative = logits.le(0.)?.to_dtype(DType::F64)?; // 1 is the rare value
    let side = negative.affine(2., -1.)?;
    // rare, or 1 - rare where 0 is the rare value
    let bits = rare.broadcast_mul(&side)?.broadcast_add(&(1. - &negative)?)?;
    let coefficients = if weights == Weights::Arm {
        // The pair is made of u = 1 - s_0 and s_0; b = 1[u > σ(-l)] is copy 0 where 1 is rare, else copy 1.
        let half = (0.5 - log_s.exp()?)?;
        half.broadcast_mul(&side)?
    } else {
        let p = gumbel_kernels::sigmoid(logits)?;
        bits.broadcast_sub(&p)?.broadcast_div(&one_less_correlation(&log_t, log_s.dim(0)?)?)?
    };
    Ok((bits, coefficients))
}

/// `1 - ρ`, with `ρ` the correlation between two copies of a bit whose rarer value has the log-probability
/// `log_t`.
fn one_less_correlation(log_t: &Tensor, copies: usize) -> Result<Tensor> {
    let m = (copies - 1) as f64;
    let t = log_t.exp()?;
    let both = ((log_t / m)?.exp()?.affine(2., -1.)?).maximum(0.)?.powf(m)?;
    // ρ = (P(both) - t²) / t(1 - t); no digit is lost, because t ≤ 1/2.
    1. - ((both.div(&t)? - &t)? / (1. - &t)?)?
}

/// Classes `[copies, S, B, N, K]` that avoid each other, and for each pair of copies the ratio of independent to
/// joint probability, `[copies, copies, S, B, N]`.
///
/// The categories are put in a random order, and a class is where `s` falls among the cumulative probabilities.
/// In part of the draws `s` is independent, so that every pair of classes can occur.
pub(crate) fn class_copies(
    q: &Categorical,
    copies: usize,
    samples: usize,
    key: Key,
) -> Result<(Tensor, Tensor)> {
    let (_, b, n, k) = q.logits().dims4()?;
    let (device, shape) = (q.logits().device(), [samples, b, n]);
    let logits = q.logits().detach().to_dtype(DType::F64)?.broadcast_as((samples, b, n, k))?;
    let probs = log_softmax(&logits.contiguous()?)?.exp()?;
    let order = key.named("order").uniform((samples, b, n, k), DType::F32, device)?;
    let order = order.arg_sort_last_dim(true)?;
    let sorted = probs.contiguous()?.gather(&order, D::Minus1)?;
    let upper = sorted.cumsum(D::Minus1)?;
    let lower = (&upper - &sorted)?;

    let antithetic = log_copula(copies, &shape, q.logits(), key.named("copula"))?.exp()?;
    let full = [&[copies], &shape[..]].concat();
    let independent = key.named("independent").uniform(full, DType::F64, device)?;
    let choice = key.named("choice").uniform(&shape[..], DType::F64, device)?;
    let choice = choice.lt(INDEPENDENT)?.unsqueeze(0)?.broadcast_as(antithetic.shape())?;
    let s = choice.where_cond(&independent, &antithetic)?.unsqueeze(D::Minus1)?;

    // The number of categories that end at or below s, at most the last one that can be drawn.
    let ended = s.broadcast_ge(&upper)?.to_dtype(DType::F64)?.sum_keepdim(D::Minus1)?;
    let possible = sorted.gt(0.)?.to_dtype(DType::F64)?;
    let places = Tensor::arange(0f64, k as f64, device)?;
    let last = possible.broadcast_mul(&places)?.max_keepdim(D::Minus1)?;
    let place = ended.broadcast_minimum(&last)?;
    let at = place.broadcast_eq(&places)?.to_dtype(DType::F64)?; // one-hot, in sorted order
    let back = order.to_dtype(DType::F32)?.arg_sort_last_dim(true)?;
    let back = back.broadcast_as(at.shape())?.contiguous()?;
    let values = at.contiguous()?.gather(&back, D::Minus1)?;

    let of = |x: &Tensor| at.broadcast_mul(x)?.sum(D::Minus1); // [copies, S, B, N]
    let ratios = ratios(&of(&sorted)?, &of(&lower)?, &of(&upper)?)?;
    Ok((values.to_dtype(q.logits().dtype())?, ratios.to_dtype(q.logits().dtype())?))
}

/// `q_i q_j / P(i, j)` from the probability of each copy's class and the ends of its interval.
fn ratios(probs: &Tensor, lower: &Tensor, upper: &Tensor) -> Result<Tensor> {
    let m = (probs.dim(0)? - 1) as f64;
    let root = |x: &Tensor| x.clamp(0., 1.)?.powf(1. / m);
    let (lower, upper) = (root(lower)?, root(upper)?);
    let cdf = |x: &Tensor, y: &Tensor| -> Result<Tensor> {
        (x.unsqueeze(1)?.broadcast_add(&y.unsqueeze(0)?)? - 1.)?.maximum(0.)?.powf(m)
    };
    let joint = (((cdf(&upper, &upper)? - cdf(&lower, &upper)?)? - cdf(&upper, &lower)?)?
        + cdf(&lower, &lower)?)?
    .maximum(0.)?;
    let independent = probs.unsqueeze(1)?.broadcast_mul(&probs.unsqueeze(0)?)?;
    &independent / ((&independent * INDEPENDENT)? + (joint * (1. - INDEPENDENT))?)?
}
