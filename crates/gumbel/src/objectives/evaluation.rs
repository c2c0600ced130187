//! Bounds of the discrete model, for reporting.
use candle_core::{Result, Tensor};
use gumbel_kernels::{Key, log_sum_exp};

use super::Iwae;
use crate::estimators::{Independent, Objective, Program, SiteDraw, Trace, run_on_all};

/// The multi-sample bound of the *discrete* model with `samples` samples, `[B]` in nats.
///
/// A relaxed model is always judged by this: draws are discrete whatever it was trained with. The samples
/// are drawn in chunks of `chunk`, so that memory does not grow with their number; the noise of chunk `c`
/// comes from `key.fold_in(c)`, and so the result depends on `chunk` as on a seed. For `samples = 1` it is
/// the single-sample ELBO.
///
/// # Errors
/// If `samples` or `chunk` is 0.
pub fn multi_sample_bound(
    program: &Program<'_>,
    samples: usize,
    chunk: usize,
    key: Key,
) -> Result<Tensor> {
    if samples == 0 || chunk == 0 {
        candle_core::bail!(
            "evaluation needs at least one sample, got {samples} in chunks of {chunk}"
        )
    }
    let mut sums = Vec::with_capacity(samples.div_ceil(chunk));
    for (index, start) in (0..samples).step_by(chunk).enumerate() {
        let samples = chunk.min(samples - start);
        let (log_px, sites) =
            Trace::run(program, &mut Independent { samples }, key.fold_in(index as u64))?;
        let log_w = Iwae.log_weights(&log_px, &sites)?.detach();
        sums.push(log_sum_exp(&log_w, 0)?);
    }
    log_sum_exp(&Tensor::stack(&sums, 0)?, 0)? - (samples as f64).ln()
}

/// `log p(x): [B]` of the *discrete* model in nats, summed over every joint value of its latents.
///
/// # Errors
/// If there are more than 2¹⁶ joint values, or a site has no prior.
pub fn exact_log_likelihood(program: &Program<'_>) -> Result<Tensor> {
    log_sum_exp(&log_joint(program)?.0, 0)
}

/// `E[z | x]` of each site in the order of the program, under the true posterior of the *discrete* model: the
/// probabilities of its values, `[B, N]` of bits, `[B, N, K]` of classes.
///
/// # Errors
/// If there are more than 2¹⁶ joint values, or a site has no prior.
pub fn exact_posterior(program: &Program<'_>) -> Result<Vec<Tensor>> {
    let (log_joint, sites) = log_joint(program)?;
    let weights = log_joint.broadcast_sub(&log_sum_exp(&log_joint, 0)?)?.exp()?;
    let mean = |site: &SiteDraw| {
        let value = &site.draw.value;
        let shape = [weights.dims(), &vec![1; value.rank() - 2]].concat();
        value.broadcast_mul(&weights.reshape(shape)?)?.sum(0)
    };
    sites.iter().map(mean).collect()
}

/// `log p(x, z): [Π K^N, B]` at every joint value.
fn log_joint(program: &Program<'_>) -> Result<(Tensor, Vec<SiteDraw>)> {
    let (log_px, sites) = run_on_all(program, Key::from_seed(0))?;
    let mut log_joint = log_px;
    for site in &sites {
        let Some(prior) = &site.prior else {
            candle_core::bail!("site `{}` has no prior to sum over", site.site.path())
        };
        log_joint = log_joint.broadcast_add(&prior.log_prob(&site.draw.value)?)?;
    }
    Ok((log_joint, sites))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributions::Bernoulli;
    use candle_core::{DType, Device};

    #[test]
    fn chunks_estimate_the_log_likelihood() -> Result<()> {
        let cpu = &Device::Cpu;
        let q = Bernoulli::from_logits(&Key::from_seed(1).normal((1, 50, 4), DType::F64, cpu)?)?;
        let p = Bernoulli::uniform_like(&q)?;
        let program = |t: &mut Trace<'_>| t.sample("z", &q, &p)?.sum(2);
        // E_p[e^{z_1 + .. + z_4}] = ((1 + e) / 2)^4
        let exact = 4. * f64::midpoint(1., 1f64.exp()).ln();
        let bound = multi_sample_bound(&program, 2500, 300, Key::from_seed(2))?;
        let mean = bound.mean_all()?.to_scalar::<f64>()?;
        assert!((mean - exact).abs() < 0.02, "{mean} {exact}");
        let all = exact_log_likelihood(&program)?.to_vec1::<f64>()?;
        assert!(all.iter().all(|one| (one - exact).abs() < 1e-12), "{all:?} {exact}");
        // Each bit by itself: p(z = 1 | x) = e / (1 + e).
        let posterior = exact_posterior(&program)?.remove(0);
        assert_eq!(posterior.dims(), [50, 4]);
        let expected = 1f64.exp() / (1. + 1f64.exp());
        let off = (posterior - expected)?.abs()?.max_all()?.to_scalar::<f64>()?;
        assert!(off < 1e-12, "{off}");
        assert!(multi_sample_bound(&program, 0, 1, Key::from_seed(2)).is_err());
        Ok(())
    }
}
