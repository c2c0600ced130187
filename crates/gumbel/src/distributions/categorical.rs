//! The categorical distribution over one-hot vectors.
use candle_core::{DType, Result, Tensor};
use gumbel_kernels::{
    Forward, Key, categorical_entropy, categorical_kl, compute_dtype, gumbel_softmax, log_softmax,
    one_hot_argmax,
};

use super::mask::Support;
use super::{ExpConcrete, Temperature, mask_logits};

/// Stands in for a log-probability of `-∞`: 0 times that, and the difference of two, are no numbers.
const IMPOSSIBLE: f64 = -1e30;

/// `N` independent categorical variables with `K` values each, as one-hot vectors.
///
/// With `logits: [S | 1, B, N, K]`, whose sample axis is 1 unless they were computed from another latent:
///
/// ```math
/// \log q(z) = \sum_n \sum_k z_{nk} \log \operatorname{softmax}(\mathrm{logits}_n)_k
/// ```
///
/// A logit of `-∞` masks a category ([`Categorical::masked`]).
#[derive(Clone, Debug)]
pub struct Categorical {
    logits: Tensor,
    dtype: DType,
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
        let dtype = logits.dtype();
        Ok(Self { logits: logits.to_dtype(compute_dtype(dtype))?, dtype })
    }

    /// From probabilities `[S | 1, B, N, K]`, which need not be normalised. A probability of 0 masks a category.
    pub fn from_probs(probs: &Tensor) -> Result<Self> {
        let wide = probs.to_dtype(compute_dtype(probs.dtype()))?;
        // Where the logarithm is infinite, so is its derivative, and the gradient would be no number.
        let possible = wide.ne(0f64)?;
        let logits = possible.where_cond(&wide, &wide.ones_like()?)?.log()?;
        Ok(Self { dtype: probs.dtype(), ..Self::from_logits(&mask_logits(&logits, &possible)?)? })
    }

    /// The uniform distribution over the categories of `like`, with a batch axis of 1; where categories of
    /// `like` are masked, over those that are left, in the shape of `like`.
    pub fn uniform_like(like: &Self) -> Result<Self> {
        let logits = match Support::of(&like.logits)? {
            Some(support) => mask_logits(&like.logits.detach().zeros_like()?, &support.mask)?,
            None => {
                let (_, _, n, k) = like.logits.dims4()?;
                Tensor::zeros((1, 1, n, k), like.logits.dtype(), like.logits.device())?
            }
        };
        Ok(Self { logits, dtype: like.dtype })
    }

    /// The same with only the categories where `mask` is 1: the others are impossible. `mask` is of dtype `U8`
    /// and broadcasts to `[S | 1, B, N, K]`.
    ///
    /// Probabilities are normalised over what is left, and the gradients in masked logits are exactly 0. With
    /// a mask for each row, `K` may differ from row to row. See [`mask_logits`].
    ///
    /// # Errors
    /// If the mask does not fit, or leaves a row without a category: the error names the row.
    pub fn masked(&self, mask: &Tensor) -> Result<Self> {
        let logits = mask_logits(&self.logits, mask)?;
        Support::of(&logits)?;
        Ok(Self { logits, dtype: self.dtype })
    }

    /// The unnormalised logits `[S | 1, B, N, K]`; in `f32` where they were given in half precision.
    #[must_use]
    pub fn logits(&self) -> &Tensor {
        &self.logits
    }

    /// The dtype of samples: that of the logits as they were given.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The same law, with samples in the dtype that is computed in.
    pub(crate) fn in_compute_dtype(self) -> Self {
        Self { dtype: self.logits.dtype(), ..self }
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
        let z = gumbel_softmax(&self.logits.detach(), samples, 1., Forward::Hard, key)?;
        z.to_dtype(self.dtype)
    }

    /// The most probable value, one-hot `[S | 1, B, N, K]`; the first of several. No gradient.
    pub fn mode(&self) -> Result<Tensor> {
        one_hot_argmax(&self.logits)?.to_dtype(self.dtype)
    }

    /// `log q(z)` of one-hot `z: [S, B, N, K]`, in nats, summed over the variables: `[S, B]`.
    ///
    /// A masked category counts as -10³⁰: its probability is 0, and weights that hold it stay numbers.
    pub fn log_prob(&self, z: &Tensor) -> Result<Tensor> {
        let log_probs = self.log_probs()?.maximum(IMPOSSIBLE)?;
        z.to_dtype(log_probs.dtype())?.broadcast_mul(&log_probs)?.sum((2, 3))
    }

    /// Entropy in nats, summed over the variables: `[S | 1, B]`.
    ///
    /// With the probabilities `q` of each variable:
    ///
    /// ```math
    /// H = -\sum_n \sum_k q_{nk} \log q_{nk}
    /// ```
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
        Ok(ExpConcrete::new(&self.logits, temperature)?.with_samples_in(self.dtype))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

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
        let other = Tensor::new(&[[[[0f32, 1.]]]], &Device::Cpu)?;
        assert_eq!(q.log_prob(&other)?.exp()?.to_vec2::<f32>()?, [[0.]]);
        Ok(())
    }

    #[test]
    fn a_probability_of_zero_has_no_gradient_and_no_share_of_the_uniform_law() -> Result<()> {
        let probs = Var::new(&[[[[0.5f64, 0., 1.5]]]], &Device::Cpu)?;
        let q = Categorical::from_probs(&probs)?;
        let grads = q.entropy()?.sum_all()?.backward()?;
        let gradient = grads.get(probs.as_tensor()).unwrap().flatten_all()?.to_vec1::<f64>()?;
        assert!(gradient[1] == 0. && gradient[0] > 0. && gradient[2] < 0., "{gradient:?}");
        let uniform = Categorical::uniform_like(&q)?.probs()?.flatten_all()?.to_vec1::<f64>()?;
        assert!(uniform[1] == 0. && (uniform[0] - 0.5).abs() < 1e-15, "{uniform:?}");
        Ok(())
    }

    #[test]
    fn a_mask_that_leaves_nothing_is_an_error_that_names_the_row() -> Result<()> {
        let q = Categorical::from_logits(&Tensor::zeros((1, 2, 2, 2), DType::F32, &Device::Cpu)?)?;
        let mask = Tensor::new(&[[[1u8, 0], [1, 1]], [[0, 1], [0, 0]]], &Device::Cpu)?;
        assert!(q.masked(&mask).unwrap_err().to_string().contains("row 3"));
        Ok(())
    }
}
