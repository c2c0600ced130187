//! Bound, likelihood and gradient of a categorical VAE by summation over every joint value of its latents.
use candle_core::{DType, Result, Tensor};
use gumbel::distributions::Discrete;
use gumbel::kernels::bernoulli_log_prob;
use gumbel_models::CategoricalVae;

/// Every joint value, as the networks and the laws see it.
pub(crate) struct Support {
    /// `[M, 1, N]` of bits, `[M, 1, N, K]` of one-hot vectors.
    values: Tensor,
    /// The same transposed, `[N·K or N, M]`.
    columns: Tensor,
}

/// What is known of some images `x: [B, D]`, in nats.
pub(crate) struct Known {
    /// `E_q[log p(x, z) - log q(z | x)]`, `[B]`.
    pub(crate) elbo: Tensor,
    /// `log p(x)`, `[B]`.
    pub(crate) log_likelihood: Tensor,
}

impl Support {
    /// Of the latents of a model with one layer and a uniform prior.
    pub(crate) fn of(model: &CategoricalVae, x: &Tensor) -> Result<Self> {
        let values = model.posterior(x)?.enumerate_support()?;
        let columns = values.flatten_from(1)?.t()?.contiguous()?;
        Ok(Self { values, columns })
    }

    /// The likelihoods of all joint values, of which a batch of images needs only a product of matrices.
    pub(crate) fn decoded(&self, model: &CategoricalVae) -> Result<Decoded<'_>> {
        let logits = model.decode(&self.values)?; // [M, 1, D]
        let dark = Tensor::zeros((1, logits.dim(2)?), logits.dtype(), logits.device())?;
        let base = bernoulli_log_prob(&logits, &dark)?.t()?; // [1, M]
        Ok(Decoded { support: self, logits: logits.squeeze(1)?.t()?, base })
    }
}

/// A decoder's view of the whole support.
pub(crate) struct Decoded<'a> {
    support: &'a Support,
    /// `[D, M]`
    logits: Tensor,
    /// `log p(0 | z)`, `[1, M]`
    base: Tensor,
}

impl Decoded<'_> {
    /// What is known of images, differentiable in all parameters.
    pub(crate) fn know(&self, model: &CategoricalVae, x: &Tensor) -> Result<Known> {
        // log p(x | z) = Σ_d x_d l_d - softplus(l_d)
        let log_px = x.matmul(&self.logits)?.broadcast_add(&self.base)?; // [B, M]
        let log_q = self.log_posterior(&model.posterior(x)?)?; // [B, M]
        let log_prior = -(log_q.dim(1)? as f64).ln();
        let log_joint = (log_px + log_prior)?;
        let elbo = (log_q.exp()? * (&log_joint - &log_q)?)?.sum(1)?;
        Ok(Known { elbo, log_likelihood: log_joint.log_sum_exp(1)? })
    }

    /// `log q(z | x)` of every joint value, `[B, M]`.
    fn log_posterior(&self, q: &Discrete) -> Result<Tensor> {
        let log_probs = match q {
            Discrete::Categorical(q) => q.log_probs()?.squeeze(0)?, // [B, N, K]
            Discrete::Bernoulli(q) => {
                // log q(z) = z·l + log q(0)
                let zeros = q.logits().zeros_like()?;
                let none = q.log_prob(&zeros)?.t()?; // [B, 1]
                let on = q.logits().squeeze(0)?.matmul(&self.support.columns)?;
                return on.broadcast_add(&none);
            }
        };
        log_probs.flatten_from(1)?.matmul(&self.support.columns)
    }
}

/// Means over images.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Average {
    pub(crate) elbo: f64,
    pub(crate) log_likelihood: f64,
}

/// The exact ELBO and likelihood of the discrete model, mean over `[B, D]` batches.
pub(crate) fn average(
    model: &CategoricalVae,
    decoded: &Decoded<'_>,
    batches: impl IntoIterator<Item = anyhow::Result<Tensor>>,
) -> anyhow::Result<Average> {
    let (mut total, mut count) = (Average::default(), 0);
    for x in batches {
        let x = x?;
        let known = decoded.know(model, &x)?;
        let sum = |t: &Tensor| t.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>();
        total.elbo += sum(&known.elbo)?;
        total.log_likelihood += sum(&known.log_likelihood)?;
        count += x.dim(0)?;
    }
    anyhow::ensure!(count > 0, "there are no images to average over");
    let n = count as f64;
    Ok(Average { elbo: total.elbo / n, log_likelihood: total.log_likelihood / n })
}
