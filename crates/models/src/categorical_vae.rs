//! The variational autoencoder with one layer of discrete latents.
use candle_core::{D, Tensor};
use candle_nn::{Init, VarBuilder};
use gumbel::distributions::{Bernoulli, Categorical, Discrete};
use gumbel::estimators::Trace;
use gumbel_kernels::{bernoulli_log_prob, sigmoid};
use serde::{Deserialize, Serialize};

use crate::{Activation, LatentVariableModel, Mlp};

/// A result whose error is candle's, unless said otherwise.
type Result<T, E = candle_core::Error> = std::result::Result<T, E>;

/// Sizes and choices of a [`CategoricalVae`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CategoricalVaeConfig {
    /// Number of latent variables `N`.
    pub latents: usize,
    /// Values per variable `K`; 2 makes them Bernoulli variables in logistic form.
    pub categories: usize,
    /// Hidden layers of the encoder; none makes it linear.
    #[serde(default)]
    pub encoder: Vec<usize>,
    /// Hidden layers of the decoder; none makes it linear.
    #[serde(default)]
    pub decoder: Vec<usize>,
    /// Nonlinearity of the hidden layers.
    #[serde(default)]
    pub activation: Activation,
    /// The prior of the latents.
    #[serde(default)]
    pub prior: Prior,
    /// What a bit is to the decoder (`categories = 2` only).
    #[serde(default)]
    pub coding: Coding,
}

/// Units of one layer above which a size is taken for a mistake.
const MOST_UNITS: usize = 1 << 20;

impl CategoricalVaeConfig {
    /// Width of the code that the decoder sees: `N` bits or `N · K` entries.
    fn code(&self) -> Option<usize> {
        self.latents.checked_mul(if self.categories == 2 { 1 } else { self.categories })
    }

    /// What is wrong with the sizes, if anything: key, value, what to do.
    ///
    /// # Errors
    /// If a layer has no unit or more than 2²⁰, or `categories` is below 2.
    pub fn check(&self) -> Result<(), String> {
        if self.categories < 2 {
            return Err(format!("categories is {}; use at least 2", self.categories));
        }
        let code = ("latents × categories", self.code().unwrap_or(usize::MAX));
        let encoder = self.encoder.iter().map(|units| ("encoder", *units));
        let decoder = self.decoder.iter().map(|units| ("decoder", *units));
        for (key, units) in encoder.chain(decoder).chain([code]) {
            if units == 0 || units > MOST_UNITS {
                return Err(format!("{key} has a layer of {units} units; use 1 to {MOST_UNITS}"));
            }
        }
        Ok(())
    }
}

/// The prior of the latents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prior {
    /// Every value is equally likely.
    #[default]
    Uniform,
    /// Independent variables whose logits are parameters, starting uniform.
    Learned,
}

/// What a bit is to the decoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Coding {
    /// 0 and 1, as in Jang et al. (2017).
    #[default]
    Bits,
    /// -1 and 1, as in Maddison et al. (2017).
    Signs,
}

/// VAE with `N` latents of `K` values and a Bernoulli decoder:
/// `p(z) Π_d Bernoulli(x_d; σ(decoder(z)_d))`, `q(z|x) = Π_n Categorical(encoder(x - mean)_n)`.
///
/// Parameters are named `encoder.*`, `decoder.*` and, with a learned prior, `prior.logits`.
/// Source: Jang, Gu, Poole (2017), section 4.2.
#[derive(Clone, Debug)]
pub struct CategoricalVae {
    config: CategoricalVaeConfig,
    encoder: Mlp,
    decoder: Mlp,
    prior: Discrete,
    mean: Tensor,
}

impl CategoricalVae {
    /// Builds the model on the parameters of `builder`, for data whose mean over the training set is
    /// `mean: [D]`; the encoder sees the data less its mean.
    ///
    /// # Errors
    /// If a size is 0 or `categories` is below 2.
    pub fn new(
        config: &CategoricalVaeConfig,
        mean: &Tensor,
        builder: &VarBuilder<'_>,
    ) -> Result<Self> {
        config.check().map_err(candle_core::Error::msg)?;
        let CategoricalVaeConfig { latents: n, categories: k, activation, .. } = *config;
        let (d, code) = (mean.dims1()?, config.code().unwrap_or(n));
        let shape = if k == 2 { vec![1, 1, n] } else { vec![1, 1, n, k] };
        let logits = match config.prior {
            Prior::Uniform => Tensor::zeros(shape, builder.dtype(), builder.device())?,
            Prior::Learned => {
                builder.pp("prior").get_with_hints(shape, "logits", Init::Const(0.))?
            }
        };
        Ok(Self {
            encoder: Mlp::new(d, &config.encoder, code, activation, &builder.pp("encoder"))?,
            decoder: Mlp::new(code, &config.decoder, d, activation, &builder.pp("decoder"))?,
            prior: discrete(&logits)?,
            mean: mean.to_dtype(builder.dtype())?.to_device(builder.device())?,
            config: config.clone(),
        })
    }

    /// Name of the decoder's output bias, and the value `logit(mean)` that makes the untrained decoder
    /// reproduce the base rate of each pixel (clipped to `[0.001, 0.999]`).
    pub fn base_rate_bias(&self) -> Result<(String, Tensor)> {
        let rate = self.mean.clamp(0.001, 0.999)?;
        let bias = (rate.log()? - (1. - rate)?.log()?)?;
        Ok((format!("decoder.{}.bias", self.config.decoder.len()), bias))
    }

    /// `q(z | x)` of `x: [B, D]`.
    pub fn posterior(&self, x: &Tensor) -> Result<Discrete> {
        let CategoricalVaeConfig { latents: n, categories: k, .. } = self.config;
        let b = x.dim(0)?;
        let logits = self.encoder.forward(&x.broadcast_sub(&self.mean)?)?;
        discrete(&if k == 2 { logits.reshape((1, b, n))? } else { logits.reshape((1, b, n, k))? })
    }

    /// `p(z)`, with a batch axis of 1.
    #[must_use]
    pub fn prior(&self) -> &Discrete {
        &self.prior
    }

    /// Pixel logits `[S, B, D]` of latents `z: [S, B, N]` (bits) or `[S, B, N, K]` (one-hot).
    pub fn decode(&self, z: &Tensor) -> Result<Tensor> {
        let code = match (self.config.categories, self.config.coding) {
            (2, Coding::Bits) => z.clone(),
            (2, Coding::Signs) => z.affine(2., -1.)?,
            _ => z.flatten_from(2)?,
        };
        self.decoder.forward(&code)
    }

    /// Pixel probabilities `[S, B, D]` of latents.
    pub fn decode_probs(&self, z: &Tensor) -> Result<Tensor> {
        sigmoid(&self.decode(z)?)
    }
}

/// Bits from three axes, one-hot vectors from four.
fn discrete(logits: &Tensor) -> Result<Discrete> {
    Ok(match logits.rank() {
        3 => Discrete::from(&Bernoulli::from_logits(logits)?),
        _ => Discrete::from(&Categorical::from_logits(logits)?),
    })
}

impl LatentVariableModel for CategoricalVae {
    /// Pixels in `[0, 1]`: `[B, D]`.
    type Batch = Tensor;

    fn log_likelihood(&self, x: &Tensor, trace: &mut Trace<'_>) -> Result<Tensor> {
        if x.dim(D::Minus1)? != self.mean.dim(0)? {
            candle_core::bail!(
                "the model is for images of {} pixels, got {:?}",
                self.mean.dim(0)?,
                x.shape()
            )
        }
        // q(z | x)
        let posterior = self.posterior(x)?;
        let z = trace.sample("z", &posterior, &self.prior)?; // [S, B, N(, K)]
        // p(x | z)
        bernoulli_log_prob(&self.decode(&z)?, x) // [S, B]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use candle_core::{DType, Device};
    use gumbel::Key;
    use gumbel::estimators::{Estimator, GumbelSoftmax};
    use gumbel::objectives::{Elbo, multi_sample_bound};

    use super::*;

    fn config(categories: usize) -> CategoricalVaeConfig {
        CategoricalVaeConfig {
            latents: 3,
            categories,
            encoder: vec![6],
            decoder: vec![],
            activation: Activation::Tanh,
            prior: Prior::Learned,
            coding: Coding::Signs,
        }
    }

    /// A model whose parameters are irregular numbers.
    fn model(config: &CategoricalVaeConfig, mean: &Tensor) -> Result<CategoricalVae> {
        let code = if config.categories == 2 { 3 } else { 3 * config.categories };
        let prior =
            if config.categories == 2 { vec![1, 1, 3] } else { vec![1, 1, 3, config.categories] };
        let shapes = [
            ("encoder.0.weight", vec![6, 5]),
            ("encoder.0.bias", vec![6]),
            ("encoder.1.weight", vec![code, 6]),
            ("encoder.1.bias", vec![code]),
            ("decoder.0.weight", vec![5, code]),
            ("decoder.0.bias", vec![5]),
            ("prior.logits", prior),
        ];
        let mut tensors = HashMap::new();
        for (name, shape) in shapes {
            let value = Key::from_seed(1).named(name).normal(shape, DType::F32, &Device::Cpu)?;
            tensors.insert(name.to_owned(), value);
        }
        let builder = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        CategoricalVae::new(config, mean, &builder)
    }

    #[test]
    fn bits_and_one_hot_vectors_run_through_the_same_story() -> Result<()> {
        let mean = Tensor::new(&[0.2f32, 0., 0.5, 1., 0.9], &Device::Cpu)?;
        let x = Tensor::new(&[[1f32, 0., 1., 1., 0.], [0., 0., 0., 1., 1.]], &Device::Cpu)?;
        for categories in [2, 4] {
            let model = model(&config(categories), &mean)?;
            let program = |trace: &mut Trace<'_>| model.log_likelihood(&x, trace);
            let estimator = GumbelSoftmax::new(3, 0.5);
            let surrogate = estimator.surrogate(&program, &Elbo::default(), Key::from_seed(2))?;
            assert_eq!(surrogate.log_px.dims(), [3, 2]);
            let bound = multi_sample_bound(&program, 70, 30, Key::from_seed(3))?;
            assert!(bound.to_vec1::<f32>()?.iter().all(|b| b.is_finite() && *b < 0.));
            let (name, bias) = model.base_rate_bias()?;
            assert_eq!((name.as_str(), bias.dims()), ("decoder.0.bias", &[5][..]));
            let narrow = x.narrow(1, 0, 4)?;
            let wrong = |trace: &mut Trace<'_>| model.log_likelihood(&narrow, trace);
            assert!(multi_sample_bound(&wrong, 1, 1, Key::from_seed(3)).is_err());
        }
        Ok(())
    }

    #[test]
    fn impossible_sizes_are_errors() -> Result<()> {
        let mean = Tensor::new(&[0.2f32; 5], &Device::Cpu)?;
        for (latents, categories) in [(0, 2), (3, 1), (1 << 21, 2), (usize::MAX, 3)] {
            let config = CategoricalVaeConfig { latents, ..config(categories) };
            assert!(model(&config, &mean).is_err());
        }
        Ok(())
    }
}
