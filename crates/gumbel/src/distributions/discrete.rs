//! What a site of a model can be drawn from.
use candle_core::{DType, Result, Tensor};
use gumbel_kernels::Key;

use super::{Bernoulli, BinConcrete, Categorical, ExpConcrete, StickBreakingGaussian, Temperature};

/// Joint values above which enumeration is refused.
pub(crate) const MOST_JOINT_VALUES: usize = 1 << 16;

/// The law of a discrete latent variable: bits or one-hot vectors.
#[derive(Clone, Debug)]
pub enum Discrete {
    /// Bits, values `[S, B, N]`.
    Bernoulli(Bernoulli),
    /// One-hot vectors, values `[S, B, N, K]`.
    Categorical(Categorical),
}

/// The law of a relaxed latent variable.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Relaxed {
    /// Relaxed bits in logit coordinates.
    BinConcrete(BinConcrete),
    /// Relaxed one-hot vectors in log-coordinates.
    ExpConcrete(ExpConcrete),
    /// Gaussian numbers whose signs have the discrete law.
    StickBreaking(StickBreakingGaussian),
}

impl From<&Bernoulli> for Discrete {
    fn from(d: &Bernoulli) -> Self {
        Self::Bernoulli(d.clone())
    }
}

impl From<&Categorical> for Discrete {
    fn from(d: &Categorical) -> Self {
        Self::Categorical(d.clone())
    }
}

impl From<&Discrete> for Discrete {
    fn from(d: &Discrete) -> Self {
        d.clone()
    }
}

impl Discrete {
    /// The uniform law over the values of `like`, with a batch axis of 1.
    pub fn uniform_like(like: &Self) -> Result<Self> {
        Ok(match like {
            Self::Bernoulli(d) => Self::Bernoulli(Bernoulli::uniform_like(d)?),
            Self::Categorical(d) => Self::Categorical(Categorical::uniform_like(d)?),
        })
    }

    /// A law of the same kind with other logits.
    pub(crate) fn with_logits(&self, logits: &Tensor) -> Result<Self> {
        Ok(match self {
            Self::Bernoulli(_) => Self::Bernoulli(Bernoulli::from_logits(logits)?),
            Self::Categorical(_) => Self::Categorical(Categorical::from_logits(logits)?),
        })
    }

    /// The dtype of samples: that of the logits as they were given.
    #[must_use]
    pub fn dtype(&self) -> DType {
        match self {
            Self::Bernoulli(d) => d.dtype(),
            Self::Categorical(d) => d.dtype(),
        }
    }

    /// The same law, with samples in the dtype that is computed in.
    pub(crate) fn in_compute_dtype(self) -> Self {
        match self {
            Self::Bernoulli(d) => Self::Bernoulli(d.in_compute_dtype()),
            Self::Categorical(d) => Self::Categorical(d.in_compute_dtype()),
        }
    }

    /// Logits: `[S | 1, B, N]` of bits, `[S | 1, B, N, K]` of one-hot vectors.
    #[must_use]
    pub fn logits(&self) -> &Tensor {
        match self {
            Self::Bernoulli(d) => d.logits(),
            Self::Categorical(d) => d.logits(),
        }
    }

    /// Number of values of one variable: 2 or `K`.
    #[must_use]
    pub fn categories(&self) -> usize {
        match self {
            Self::Bernoulli(_) => 2,
            Self::Categorical(d) => d.logits().dims().last().copied().unwrap_or(1),
        }
    }

    /// Number of variables `N`.
    #[must_use]
    pub fn variables(&self) -> usize {
        self.logits().dims().get(2).copied().unwrap_or(1)
    }

    /// Independent samples. No gradient.
    pub fn sample(&self, samples: usize, key: Key) -> Result<Tensor> {
        match self {
            Self::Bernoulli(d) => d.sample(samples, key),
            Self::Categorical(d) => d.sample(samples, key),
        }
    }

    /// `K^N`, the number of joint values; none beyond the range of numbers.
    #[must_use]
    pub fn joint_values(&self) -> Option<usize> {
        u32::try_from(self.variables()).ok().and_then(|n| self.categories().checked_pow(n))
    }

    /// Every joint value once: `[K^N, 1, N]` of bits, `[K^N, 1, N, K]` of one-hot vectors, in the dtype of the logits.
    ///
    /// Value `m` has the digits of `m` in base `K`, the least first.
    ///
    /// # Errors
    /// If there are more than 2¹⁶.
    pub fn enumerate_support(&self) -> Result<Tensor> {
        let (n, k, logits) = (self.variables(), self.categories(), self.logits());
        let Some(total) = self.joint_values().filter(|total| *total <= MOST_JOINT_VALUES) else {
            candle_core::bail!(
                "{k}^{n} joint values are more than the {MOST_JOINT_VALUES} that can be enumerated"
            )
        };
        let digits = (0..total).flat_map(|m| (0..n).map(move |v| m / k.pow(v as u32) % k));
        let digits: Vec<u32> = digits.map(|digit| digit as u32).collect();
        match self {
            Self::Bernoulli(_) => {
                Tensor::from_vec(digits, (total, 1, n), logits.device())?.to_dtype(logits.dtype())
            }
            Self::Categorical(_) => {
                let digits = Tensor::from_vec(digits, total * n, logits.device())?;
                let eye = Tensor::eye(k, logits.dtype(), logits.device())?;
                eye.index_select(&digits, 0)?.reshape((total, 1, n, k))
            }
        }
    }

    /// The most probable value. No gradient.
    pub fn mode(&self) -> Result<Tensor> {
        match self {
            Self::Bernoulli(d) => d.mode(),
            Self::Categorical(d) => d.mode(),
        }
    }

    /// Expected value: probabilities of the bits, or of the categories.
    pub fn probs(&self) -> Result<Tensor> {
        match self {
            Self::Bernoulli(d) => d.probs(),
            Self::Categorical(d) => d.probs(),
        }
    }

    /// `log q(z)` in nats, summed over the variables: `[S, B]`.
    pub fn log_prob(&self, z: &Tensor) -> Result<Tensor> {
        match self {
            Self::Bernoulli(d) => d.log_prob(z),
            Self::Categorical(d) => d.log_prob(z),
        }
    }

    /// Entropy in nats, summed over the variables: `[S | 1, B]`.
    pub fn entropy(&self) -> Result<Tensor> {
        match self {
            Self::Bernoulli(d) => d.entropy(),
            Self::Categorical(d) => d.entropy(),
        }
    }

    /// `KL(self ‖ prior)` in nats, summed over the variables: `[S | 1, B]`.
    ///
    /// # Errors
    /// If one is made of bits and the other of one-hot vectors.
    pub fn kl(&self, prior: &Self) -> Result<Tensor> {
        self.kl_per_variable(prior)?.sum(2)
    }

    /// `KL(self ‖ prior)` of each variable, in nats: `[S | 1, B, N]`.
    ///
    /// # Errors
    /// If one is made of bits and the other of one-hot vectors.
    pub fn kl_per_variable(&self, prior: &Self) -> Result<Tensor> {
        match (self, prior) {
            (Self::Bernoulli(q), Self::Bernoulli(p)) => q.kl_per_variable(p),
            (Self::Categorical(q), Self::Categorical(p)) => q.kl_per_variable(p),
            _ => candle_core::bail!(
                "posterior and prior must be of one kind, got {self:?} and {prior:?}"
            ),
        }
    }

    /// The Concrete relaxation at `temperature`.
    pub fn relax(&self, temperature: impl Into<Temperature>) -> Result<Relaxed> {
        Ok(match self {
            Self::Bernoulli(d) => Relaxed::BinConcrete(d.relax(temperature)?),
            Self::Categorical(d) => Relaxed::ExpConcrete(d.relax(temperature)?),
        })
    }
}

impl Relaxed {
    /// The relaxation of a prior that is in the coordinates of this posterior, at `temperature` where it has one.
    pub(crate) fn prior(&self, prior: &Discrete, temperature: &Temperature) -> Result<Self> {
        match self {
            Self::BinConcrete(_) | Self::ExpConcrete(_) => prior.relax(temperature.clone()),
            Self::StickBreaking(_) => StickBreakingGaussian::of(prior).map(Self::StickBreaking),
        }
    }

    /// A sample in (logit, log or Gaussian) coordinates and its log-density `[S, B]`, differentiable.
    pub fn rsample_with_log_density(&self, samples: usize, key: Key) -> Result<(Tensor, Tensor)> {
        match self {
            Self::BinConcrete(d) => d.rsample_with_log_density(samples, key),
            Self::ExpConcrete(d) => d.rsample_with_log_density(samples, key),
            Self::StickBreaking(d) => {
                let y = d.rsample(samples, key)?;
                let log_density = d.log_density(&y)?;
                Ok((y, log_density))
            }
        }
    }

    /// Log-density in nats of coordinates, summed over the variables: `[S, B]`.
    pub fn log_density(&self, coordinates: &Tensor) -> Result<Tensor> {
        match self {
            Self::BinConcrete(d) => d.log_density(coordinates),
            Self::ExpConcrete(d) => d.log_density(coordinates),
            Self::StickBreaking(d) => d.log_density(coordinates),
        }
    }
}
