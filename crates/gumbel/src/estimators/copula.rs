//! Copies of bits that avoid each other.
//!
//! The Dirichlet copula: with `(d_1, .., d_n)` uniform on the simplex and `m = n - 1`, every
//! `s_i = (1 - d_i)^m` is uniform, and `P(s_i < x, s_j < y) = max(0, x^{1/m} + y^{1/m} - 1)^m`. For `n = 2` it is
//! `s_2 = 1 - s_1`. Source: Dimitriev and Zhou (2021), section 3.
use candle_core::{DType, Result, Tensor};
use gumbel_kernels::{Key, log_sum_exp, softplus};

use super::antithetic::Weights;
use crate::distributions::Bernoulli;

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
    // P(both) / t = (2 - t^{-1/m})^m and 1 - ρ = (1 - P(both) / t) / (1 - t): finite however small t is.
    let both = (2. - (log_t / -m)?.exp()?)?.maximum(0.)?.powf(m)?;
    (1. - both)? / (1. - log_t.exp()?)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn weights_are_finite_and_right_however_sure_a_bit_is() -> Result<()> {
        let logits = Tensor::new(&[[[-800f64, -40., 0., 40., 800.]]], &Device::Cpu)?;
        let q = Bernoulli::from_logits(&logits)?;
        for copies in [2, 5] {
            let (bits, weights) = bit_copies(&q, copies, 3, Weights::Arms, Key::from_seed(1))?;
            assert_eq!(bits.dims(), [copies, 3, 1, 5]);
            for row in weights.flatten_to(2)?.to_vec2::<f64>()? {
                assert!(row.iter().all(|w| w.is_finite()), "{row:?}");
                // Far out the copies are all but independent, and the weight is the score.
                assert!(row[0].abs() < 1e-15 && row[1].abs() < 1e-15 && row[4].abs() < 1e-15);
            }
        }
        // 1 - ρ = 2 for a pair of fair bits, which are always opposite.
        let fair = one_less_correlation(&Tensor::new(0.5f64.ln(), &Device::Cpu)?, 2)?;
        assert!((fair.to_scalar::<f64>()? - 2.).abs() < 1e-14);
        Ok(())
    }
}
