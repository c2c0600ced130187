//! The Bernoulli distribution over bits.
use candle_core::{DType, Result, Tensor};
use gumbel_kernels::{
    Forward, Key, bernoulli_log_prob, compute_dtype, gumbel_sigmoid, sigmoid, softplus,
};

use super::{BinConcrete, Temperature};

/// `N` independent Bernoulli variables with values 0 and 1: the `K = 2` case in logistic form.
///
/// With `logits: [S | 1, B, N]`, whose sample axis is 1 unless they were computed from another latent:
///
/// ```math
/// P(z_n = 1) = \sigma(\mathrm{logits}_n) = \frac{1}{1 + e^{-\mathrm{logits}_n}}
/// ```
#[derive(Clone, Debug)]
pub struct Bernoulli {
    logits: Tensor,
    dtype: DType,
}

impl Bernoulli {
    /// From log-odds `logits: [S | 1, B, N]`.
    ///
    /// # Errors
    /// If the logits do not have three axes.
    pub fn from_logits(logits: &Tensor) -> Result<Self> {
        if logits.rank() != 3 {
            candle_core::bail!(
                "expected logits [S | 1, B, N], got {:?}; reshape to three axes",
                logits.shape()
            )
        }
        let dtype = logits.dtype();
        Ok(Self { logits: logits.to_dtype(compute_dtype(dtype))?, dtype })
    }

    /// Fair bits with the number of variables of `like`, with a batch axis of 1.
    pub fn uniform_like(like: &Self) -> Result<Self> {
        let (_, _, n) = like.logits.dims3()?;
        let logits = Tensor::zeros((1, 1, n), like.logits.dtype(), like.logits.device())?;
        Ok(Self { logits, dtype: like.dtype })
    }

    /// The log-odds `[S | 1, B, N]`; in `f32` where they were given in half precision.
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

    /// `P(z_n = 1)`: `[S | 1, B, N]`.
    pub fn probs(&self) -> Result<Tensor> {
        sigmoid(&self.logits)
    }

    /// Independent samples in {0, 1}: `[S, B, N]`. No gradient.
    ///
    /// The rounding of [`BinConcrete::rsample`] under the same key.
    pub fn sample(&self, samples: usize, key: Key) -> Result<Tensor> {
        gumbel_sigmoid(&self.logits.detach(), samples, 1., Forward::Hard, key)?.to_dtype(self.dtype)
    }

    /// `logits + L` with logistic noise `L`: positive exactly where the sample is 1. `[S, B, N]`.
    pub fn perturbed(&self, samples: usize, key: Key) -> Result<Tensor> {
        let (s, b, n) = self.logits.dims3()?;
        if samples == 0 || (s != 1 && s != samples) {
            candle_core::bail!(
                "expected logits [1 | {samples}, B, N], got {:?}",
                self.logits.shape()
            )
        }
        let noise = key.logistic((samples, b, n), self.logits.dtype(), self.logits.device())?;
        noise.broadcast_add(&self.logits)
    }

    /// The more probable value, `[S | 1, B, N]`; 0 at even odds. No gradient.
    pub fn mode(&self) -> Result<Tensor> {
        let logits = self.logits.detach();
        logits.gt(0f64)?.to_dtype(self.dtype)
    }

    /// `log q(z)` of `z: [S, B, N]` in {0, 1}, in nats, summed over the variables: `[S, B]`.
    pub fn log_prob(&self, z: &Tensor) -> Result<Tensor> {
        bernoulli_log_prob(&self.logits, &z.to_dtype(self.logits.dtype())?)
    }

    /// Entropy in nats, summed over the variables: `[S | 1, B]`.
    pub fn entropy(&self) -> Result<Tensor> {
        // -p log p - (1-p) log(1-p) = softplus(l) - p l
        let probs = self.probs()?;
        (softplus(&self.logits)? - (probs * &self.logits)?)?.sum(2)
    }

    /// `KL(self ‖ prior)` in nats, summed over the variables: `[S | 1, B]`.
    pub fn kl(&self, prior: &Self) -> Result<Tensor> {
        self.kl_per_variable(prior)?.sum(2)
    }

    /// `KL(self ‖ prior)` of each variable, in nats: `[S | 1, B, N]`.
    pub fn kl_per_variable(&self, prior: &Self) -> Result<Tensor> {
        // p (a - b) + softplus(b) - softplus(a)
        let difference = self.logits.broadcast_sub(&prior.logits)?;
        let linear = difference.broadcast_mul(&self.probs()?)?;
        let normalisers = softplus(&prior.logits)?.broadcast_sub(&softplus(&self.logits)?)?;
        linear.broadcast_add(&normalisers)
    }

    /// The binary Concrete relaxation, in logit coordinates.
    pub fn relax(&self, temperature: impl Into<Temperature>) -> Result<BinConcrete> {
        Ok(BinConcrete::new(&self.logits, temperature)?.with_samples_in(self.dtype))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Categorical;
    use super::*;
    use candle_core::{D, Device};

    fn scalar(x: &Tensor) -> f64 {
        x.abs().and_then(|x| x.max_all()).and_then(|x| x.to_scalar()).unwrap()
    }

    /// Two categories with logits `(0, l)` are a Bernoulli variable with log-odds `l`.
    #[test]
    fn agrees_with_two_categories() -> Result<()> {
        let cpu = &Device::Cpu;
        let (a, b) = (
            Key::from_seed(1).normal((1, 4, 3), DType::F64, cpu)?,
            Key::from_seed(2).normal((1, 1, 3), DType::F64, cpu)?,
        );
        let two = |l: &Tensor| {
            Categorical::from_logits(&Tensor::stack(&[&l.zeros_like()?, l], D::Minus1)?)
        };
        let (q, p) = (Bernoulli::from_logits(&a)?, Bernoulli::from_logits(&b)?);
        assert!(scalar(&(q.kl(&p)? - two(&a)?.kl(&two(&b)?)?)?) < 1e-12);
        assert!(scalar(&(q.entropy()? - two(&a)?.entropy()?)?) < 1e-12);
        let z = q.sample(2, Key::from_seed(3))?;
        let one_hot = Tensor::stack(&[&(1. - &z)?, &z], D::Minus1)?;
        assert!(scalar(&(q.log_prob(&z)? - two(&a)?.log_prob(&one_hot)?)?) < 1e-12);
        Ok(())
    }

    #[test]
    fn samples_have_the_right_frequency() -> Result<()> {
        let logits = Tensor::new(&[[[-3f32, 0., 2.]]], &Device::Cpu)?;
        let q = Bernoulli::from_logits(&logits)?;
        let n = 100_000;
        let frequency: Vec<f32> = q.sample(n, Key::from_seed(4))?.mean((0, 1))?.to_vec1()?;
        let probs: Vec<f32> = q.probs()?.flatten_all()?.to_vec1()?;
        for (f, p) in frequency.iter().zip(probs) {
            assert!((f - p).abs() < 4.5 * (p * (1. - p) / n as f32).sqrt(), "{f} {p}");
        }
        assert_eq!(q.mode()?.flatten_all()?.to_vec1::<f32>()?, [0., 0., 1.]);
        Ok(())
    }
}
