//! The categorical distribution over one-hot vectors.
use candle_core::{Result, Tensor};
use gumbel_kernels::{
    Forward, Key, categorical_entropy, categorical_kl, gumbel_softmax, log_softmax, one_hot_argmax,
};

use super::{ExpConcrete, Temperature};

/// `N` independent categorical variables with `K` values each, as one-hot vectors.
///
/// `log q(z) = Σ_n Σ_k z_nk log softmax(logits)_nk`, with `logits: [S | 1, B, N, K]`; the sample axis is 1
/// unless the logits were computed from another latent. A logit of `-∞` masks a category.
#[derive(Clone, Debug)]
pub struct Categorical {
    logits: Tensor,
}

impl Categorical {
    /// From unnormalised `logits: [S | 1, B, N, K]`.
    ///
    /// # Errors
    /// If the logits do not have four axes.
    pub fn from_logits(logits: &Tensor) -> Result<Self> {
        if logits.rank() != 4 {
            candle_core::bail!(
                "expected logits [S | 1, B, N, K], got {:?}; reshape to four axes",
                logits.shape()
            )
        }
        Ok(Self { logits: logits.clone() })
    }

    /// From probabilities `[S | 1, B, N, K]`, which need not be normalised.
    pub fn from_probs(probs: &Tensor) -> Result<Self> {
        Self::from_logits(&probs.log()?)
    }

    /// The uniform distribution over the categories of `like`, with a batch axis of 1.
    pub fn uniform_like(like: &Self) -> Result<Self> {
        let (_, _, n, k) = like.logits.dims4()?;
        Self::from_logits(&Tensor::zeros((1, 1, n, k), like.logits.dtype(), like.logits.device())?)
    }

    /// The unnormalised logits `[S | 1, B, N, K]`.
    #[must_use]
    pub fn logits(&self) -> &Tensor {
        &self.logits
    }

    /// Normalised log-probabilities `[S | 1, B, N, K]`.
    pub fn log_probs(&self) -> Result<Tensor> {
        log_softmax(&self.logits)
    }

    /// Probabilities `[S | 1, B, N, K]`.
    pub fn probs(&self) -> Result<Tensor> {
        self.log_probs()?.exp()
    }

    /// Independent samples, one-hot `[S, B, N, K]`, by the Gumbel-max trick. No gradient.
    ///
    /// The same noise as [`ExpConcrete::rsample`] and [`gumbel_kernels::gumbel_softmax()`] under the same
    /// key: the sample is the rounding of theirs.
    pub fn sample(&self, samples: usize, key: Key) -> Result<Tensor> {
        gumbel_softmax(&self.logits.detach(), samples, 1., Forward::Hard, key)
    }

    /// The most probable value, one-hot `[S | 1, B, N, K]`; the first of several. No gradient.
    pub fn mode(&self) -> Result<Tensor> {
        one_hot_argmax(&self.logits)
    }

    /// `log q(z)` of one-hot `z: [S, B, N, K]`, in nats, summed over the variables: `[S, B]`.
    pub fn log_prob(&self, z: &Tensor) -> Result<Tensor> {
        // A masked category has log-probability -∞, and 0 · -∞ is no number; -1e30 stands in for it.
        let log_probs = self.log_probs()?.maximum(-1e30)?;
        z.broadcast_mul(&log_probs)?.sum((2, 3))
    }

    /// `-Σ q log q` in nats, summed over the variables: `[S | 1, B]`.
    pub fn entropy(&self) -> Result<Tensor> {
        categorical_entropy(&self.logits)?.sum(2)
    }

    /// `KL(self ‖ prior)` in nats, summed over the variables: `[S | 1, B]`.
    pub fn kl(&self, prior: &Self) -> Result<Tensor> {
        self.kl_per_variable(prior)?.sum(2)
    }

    /// `KL(self ‖ prior)` of each variable, in nats: `[S | 1, B, N]`.
    pub fn kl_per_variable(&self, prior: &Self) -> Result<Tensor> {
        categorical_kl(&self.logits, &prior.logits)
    }

    /// The Concrete relaxation, in log-coordinates.
    pub fn relax(&self, temperature: impl Into<Temperature>) -> Result<ExpConcrete> {
        ExpConcrete::new(&self.logits, temperature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn the_probability_of_a_sample_is_one_of_the_probabilities() -> Result<()> {
        let logits = Key::from_seed(1).normal((1, 2, 3, 4), DType::F64, &Device::Cpu)?;
        let q = Categorical::from_logits(&logits)?;
        let z = q.sample(5, Key::from_seed(2))?;
        assert_eq!(z.dims(), [5, 2, 3, 4]);
        assert_eq!(z.sum(3)?.min_all()?.to_scalar::<f64>()?, 1.);
        let by_hand = z.broadcast_mul(&q.log_probs()?)?.sum((2, 3))?;
        assert_eq!(q.log_prob(&z)?.to_vec2::<f64>()?, by_hand.to_vec2::<f64>()?);
        assert_eq!(q.mode()?.dims(), [1, 2, 3, 4]);
        assert_eq!(Categorical::uniform_like(&q)?.logits().dims(), [1, 1, 3, 4]);
        assert!(Categorical::from_logits(&logits.flatten_all()?).is_err());
        Ok(())
    }

    #[test]
    fn entropy_is_what_is_missing_from_the_uniform_divergence() -> Result<()> {
        let logits = Key::from_seed(1).normal((1, 2, 3, 4), DType::F64, &Device::Cpu)?;
        let q = Categorical::from_logits(&logits)?;
        let kl = q.kl(&Categorical::uniform_like(&q)?)?;
        let gap =
            (((kl + q.entropy()?)? - 3. * 4f64.ln())?).abs()?.max_all()?.to_scalar::<f64>()?;
        assert!(gap < 1e-12, "{gap}");
        Ok(())
    }

    #[test]
    fn a_masked_category_has_a_finite_log_prob_where_it_is_not_taken() -> Result<()> {
        let logits = Tensor::new(&[[[[0f32, f32::NEG_INFINITY]]]], &Device::Cpu)?;
        let q = Categorical::from_logits(&logits)?;
        assert_eq!(q.log_prob(&q.sample(1, Key::from_seed(1))?)?.to_vec2::<f32>()?, [[0.]]);
        Ok(())
    }
}
