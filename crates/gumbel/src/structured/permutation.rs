//! Relaxed permutations.
use candle_core::{D, Result, Tensor};
use gumbel_kernels::{Key, in_single, log_sum_exp};

use crate::distributions::positive;

/// Sinkhorn's operator: scores to a matrix whose rows and columns sum to 1, in the limit of many iterations.
///
/// `scores: [.., n, n]` → `[.., n, n]`. Each iteration divides the rows by their sums, then the columns by theirs:
///
/// ```math
/// S^{(0)} = \exp(\mathrm{scores} / \tau), \qquad
/// R^{(t)}_{ij} = \frac{S^{(t-1)}_{ij}}{\sum_k S^{(t-1)}_{ik}}, \qquad
/// S^{(t)}_{ij} = \frac{R^{(t)}_{ij}}{\sum_k R^{(t)}_{kj}}
/// ```
///
/// All is computed in logarithms, so that any temperature is safe. As `τ → 0` it comes to the permutation of the
/// largest total score. Differentiable.
///
/// Source: Mena, Belanger, Linderman, Snoek (2018), eq. 1 and theorem 1; Sinkhorn (1964).
///
/// # Errors
/// If the last two axes differ, or `temperature` is not positive and finite.
pub fn sinkhorn(scores: &Tensor, temperature: f64, iterations: usize) -> Result<Tensor> {
    let n = scores.dim(D::Minus1)?;
    if scores.rank() < 2 || scores.dim(D::Minus2)? != n {
        candle_core::bail!("expected square matrices [.., n, n], got {:?}", scores.shape())
    }
    positive("temperature", temperature)?;
    in_single([scores], |[scores]| {
        let mut log = (scores / temperature)?;
        for _ in 0..iterations {
            for axis in [D::Minus1, D::Minus2] {
                let total = log_sum_exp(&log, axis)?.unsqueeze(axis)?;
                log = log.broadcast_sub(&total)?;
            }
        }
        log.exp()
    })
}

/// Gumbel-Sinkhorn: [`sinkhorn`] of `scores + noise_scale · G`, `[S, .., n, n]`.
///
/// Source: Mena, Belanger, Linderman, Snoek (2018), section 4. At a low temperature its rounding by
/// [`hard_permutation`](super::hard_permutation) is a sample of the Gumbel-matching distribution.
///
/// # Errors
/// As [`sinkhorn`].
pub fn gumbel_sinkhorn(
    scores: &Tensor,
    temperature: f64,
    noise_scale: f64,
    iterations: usize,
    samples: usize,
    key: Key,
) -> Result<Tensor> {
    let shape = [&[samples], scores.dims()].concat();
    in_single([scores], |[scores]| {
        let noise = (key.gumbel(shape, scores.dtype(), scores.device())? * noise_scale)?;
        sinkhorn(&noise.broadcast_add(scores)?, temperature, iterations)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structured::hard_permutation;
    use candle_core::{DType, Device, Var};

    #[test]
    fn many_iterations_make_a_doubly_stochastic_matrix_and_cold_ones_a_permutation() -> Result<()> {
        let scores =
            Var::from_tensor(&Key::from_seed(1).normal((3, 5, 5), DType::F64, &Device::Cpu)?)?;
        let p = gumbel_sinkhorn(&scores, 0.8, 1., 200, 2, Key::from_seed(2))?;
        for axis in [2, 3] {
            let off = (p.sum(axis)? - 1.)?.abs()?.max_all()?.to_scalar::<f64>()?;
            assert!(off < 1e-10, "{off}");
        }
        assert!(p.sqr()?.sum_all()?.backward()?.get(scores.as_tensor()).is_some());
        let cold = sinkhorn(&scores, 0.01, 2000)?;
        let gap = (cold - hard_permutation(&scores)?)?.abs()?.max_all()?.to_scalar::<f64>()?;
        assert!(gap < 1e-2, "{gap}");
        assert!(sinkhorn(&scores.narrow(2, 0, 3)?, 1., 1).is_err());
        assert!(sinkhorn(&scores, -1., 1).unwrap_err().to_string().contains("-1"));
        Ok(())
    }
}
