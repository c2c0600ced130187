//! Prediction of one half of an image from the other through layers of discrete units.
use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use gumbel::Key;
use gumbel::estimators::Trace;
use gumbel_kernels::{bernoulli_log_prob, sigmoid};
use serde::{Deserialize, Serialize};

use crate::latents::{Latents, base_rate_logits, check_layers, check_pixels, check_units};
use crate::{Activation, Coding, LatentVariableModel, Mlp};

/// Sizes and choices of a [`StructuredPrediction`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StructuredPredictionConfig {
    /// Number of variables `N` of a layer.
    pub latents: usize,
    /// Values per variable `K`; 2 makes them bits in logistic form.
    pub categories: usize,
    /// Layers of discrete units `L`.
    pub layers: usize,
    /// Hidden layers before each layer of units and before the output; none makes all maps linear.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub between: Vec<usize>,
    /// Nonlinearity of the hidden layers.
    #[serde(default)]
    pub activation: Activation,
    /// What a variable is to the next layer.
    #[serde(default)]
    pub coding: Coding,
}

impl StructuredPredictionConfig {
    /// What is wrong with the sizes, if anything: key, value, what to do.
    ///
    /// # Errors
    /// If a layer has no unit or more than 2²⁰, `categories` is below 2, or no power of two where `coding` is signs, or
    /// `layers` is not within 1 to 64.
    pub fn check(&self) -> std::result::Result<(), String> {
        Latents::check(self.latents, self.categories, self.coding)?;
        check_layers(self.layers)?;
        check_units([("between", &self.between[..])])
    }
}

/// The lower half of an image given the upper one: `p(z_1|upper) p(z_2|z_1) … p(z_L|z_{L-1}) Π_d Bernoulli(lower_d;
/// σ(output(z_L)_d))`, a stochastic feed-forward network.
///
/// There is no posterior: the units are drawn from the model itself (`Trace::generate`), and what is maximised with `m`
/// samples is `E log (1/m) Σ_i p(lower|z^i)`. Parameters are named `layer_1.*`, …, `output.*`; sites are `("z", 0)` to
/// `("z", L - 1)`.
///
/// Source: Raiko et al. (2015); Jang, Gu, Poole (2017), section 4.1; Maddison, Mnih, Teh (2017), section 5.3.
#[derive(Clone, Debug)]
pub struct StructuredPrediction {
    latents: Latents,
    layers: Vec<Mlp>,
    output: Mlp,
    between: usize,
    /// Of a whole image.
    mean: Tensor,
}

impl StructuredPrediction {
    /// Builds the model on the parameters of `builder`, for images whose mean over the training set is `mean: [D]`; the
    /// first layer sees the upper half less its mean.
    ///
    /// # Errors
    /// Those of [`StructuredPredictionConfig::check`], or if an image has fewer than two pixels.
    pub fn new(
        config: &StructuredPredictionConfig,
        mean: &Tensor,
        builder: &VarBuilder<'_>,
    ) -> Result<Self> {
        config.check().map_err(candle_core::Error::msg)?;
        let place = (builder.dtype(), builder.device());
        let latents = Latents::new(config.latents, config.categories, config.coding, place)?;
        let (upper, lower) = halves(mean.dims1()?)?;
        let mlp = |input, output, name: &str| {
            Mlp::new(input, &config.between, output, config.activation, &builder.pp(name))
        };
        let mut layers = Vec::with_capacity(config.layers);
        for layer in 0..config.layers {
            let input = if layer == 0 { upper } else { latents.width() };
            layers.push(mlp(input, latents.logits(), &format!("layer_{}", layer + 1))?);
        }
        Ok(Self {
            output: mlp(latents.width(), lower, "output")?,
            layers,
            between: config.between.len(),
            mean: mean.to_dtype(place.0)?.to_device(place.1)?,
            latents,
        })
    }

    /// Name of the output's bias, and the value `logit(mean)` that makes the untrained model reproduce the base rate of
    /// each pixel of the lower half (clipped to `[0.001, 0.999]`).
    pub fn base_rate_bias(&self) -> Result<(String, Tensor)> {
        let (upper, lower) = halves(self.mean.dim(0)?)?;
        let bias = base_rate_logits(&self.mean.narrow(0, upper, lower)?)?;
        Ok((format!("output.{}.bias", self.between), bias))
    }

    /// Pixel probabilities `[S, B, D]` of whole images: the upper halves of `x: [B, D]` as they are, and the lower ones
    /// as each of `samples` draws of the units has them.
    pub fn complete(&self, x: &Tensor, samples: usize, key: Key) -> Result<Tensor> {
        let mut h = self.input(x)?.unsqueeze(0)?;
        for (layer, net) in self.layers.iter().enumerate() {
            let law = self.latents.law(&net.forward(&h)?)?;
            h = self.latents.code(&law.sample(samples, key.fold_in(layer as u64))?)?;
        }
        let lower = sigmoid(&self.output.forward(&h)?)?;
        let (upper, _) = halves(x.dim(1)?)?;
        let upper = x.narrow(1, 0, upper)?.unsqueeze(0)?;
        let (s, b, _) = lower.dims3()?;
        Tensor::cat(&[upper.broadcast_as((s, b, upper.dim(2)?))?.contiguous()?, lower], 2)
    }

    /// The upper half of `x: [B, D]` less its mean.
    fn input(&self, x: &Tensor) -> Result<Tensor> {
        check_pixels(x, &self.mean)?;
        let (upper, _) = halves(self.mean.dim(0)?)?;
        x.broadcast_sub(&self.mean)?.narrow(1, 0, upper)
    }
}

/// Pixels of the upper and the lower half.
fn halves(d: usize) -> Result<(usize, usize)> {
    if d < 2 {
        candle_core::bail!("an image of {d} pixels has no two halves")
    }
    Ok((d / 2, d - d / 2))
}

impl LatentVariableModel for StructuredPrediction {
    /// Pixels in `[0, 1]`, row by row from the top: `[B, D]`.
    type Batch = Tensor;

    fn log_likelihood(&self, x: &Tensor, trace: &mut Trace<'_>) -> Result<Tensor> {
        // p(z_1 | upper) p(z_2 | z_1) …
        let mut h = self.input(x)?.unsqueeze(0)?;
        for (layer, net) in self.layers.iter().enumerate() {
            let law = self.latents.law(&net.forward(&h)?)?;
            h = self.latents.code(&trace.generate(("z", layer), law)?)?; // [S, B, width]
        }
        // p(lower | z_L)
        let (upper, lower) = halves(x.dim(1)?)?;
        bernoulli_log_prob(&self.output.forward(&h)?, &x.narrow(1, upper, lower)?) // [S, B]
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};
    use gumbel::estimators::{Enumerate, Estimator, GumbelSoftmax, LeaveOneOut};
    use gumbel::objectives::{Iwae, multi_sample_bound};

    use super::*;
    use crate::check::irregular;

    fn config(categories: usize, layers: usize) -> StructuredPredictionConfig {
        StructuredPredictionConfig {
            latents: 2,
            categories,
            layers,
            between: vec![],
            activation: Activation::Tanh,
            coding: Coding::Signs,
        }
    }

    fn model(config: &StructuredPredictionConfig) -> Result<(StructuredPrediction, Vec<Var>)> {
        let mean = Tensor::new(&[0.2f32, 0., 0.5, 1., 0.9], &Device::Cpu)?;
        let (model, map) =
            irregular(1., |builder| StructuredPrediction::new(config, &mean, builder))?;
        Ok((model, map.all_vars()))
    }

    fn image() -> Result<Tensor> {
        Tensor::new(&[[1f32, 0., 1., 1., 0.]], &Device::Cpu)
    }

    /// The bound of many samples is the likelihood, which four codes of one layer sum up to.
    #[test]
    fn the_bound_of_many_samples_is_the_likelihood() -> Result<()> {
        let ((model, _), x) = (model(&config(2, 1))?, image()?);
        let program = |trace: &mut Trace<'_>| model.log_likelihood(&x, trace);
        let bound = multi_sample_bound(&program, 40_000, 4_000, Key::from_seed(3))?;
        let logits = model.layers[0].forward(&model.input(&x)?)?;
        let p = sigmoid(&logits)?.flatten_all()?.to_vec1::<f32>()?;
        let mut total = 0f32;
        for code in 0..4usize {
            let bits = [code & 1, code >> 1];
            let weight: f32 = (0..2).map(|i| if bits[i] == 1 { p[i] } else { 1. - p[i] }).product();
            let signs = bits.map(|bit| if bit == 1 { 1f32 } else { -1. });
            let h = Tensor::new(&[[signs]], &Device::Cpu)?;
            let lower = x.narrow(1, 2, 3)?;
            let log_px = bernoulli_log_prob(&model.output.forward(&h)?, &lower)?;
            total += weight * log_px.flatten_all()?.to_vec1::<f32>()?[0].exp();
        }
        let found = bound.to_vec1::<f32>()?[0];
        assert!((found - total.ln()).abs() < 0.02, "{found} {}", total.ln());
        Ok(())
    }

    /// The gradient of the bound of two samples, through two layers, against the exact one.
    #[test]
    fn gradients_are_those_of_enumeration() -> Result<()> {
        let ((model, variables), x) = (model(&config(2, 2))?, image()?);
        let gradient = |estimator: &dyn Estimator, x: &Tensor| -> Result<Tensor> {
            let program = |trace: &mut Trace<'_>| model.log_likelihood(x, trace);
            let surrogate = estimator.surrogate(&program, &Iwae, Key::from_seed(4))?;
            let grads = surrogate.loss.backward()?;
            let parts = variables.iter().map(|v| grads.get(v).unwrap().flatten_all());
            Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0)
        };
        let exact = gradient(&Enumerate { samples: 2 }, &x)?;
        let many = x.broadcast_as((20_000, 5))?.contiguous()?;
        let estimate = gradient(&LeaveOneOut { samples: 2 }, &many)?;
        let length = |x: &Tensor| x.sqr()?.sum_all()?.to_scalar::<f32>();
        let error = length(&(&exact - estimate)?)?;
        assert!(error < 1e-3 * length(&exact)?, "{error} of {}", length(&exact)?);
        Ok(())
    }

    #[test]
    fn shapes_and_mistakes() -> Result<()> {
        let x = image()?;
        for (categories, layers) in [(2, 3), (4, 2), (8, 1)] {
            let (model, _) = model(&config(categories, layers))?;
            let program = |trace: &mut Trace<'_>| model.log_likelihood(&x, trace);
            let surrogate =
                GumbelSoftmax::new(3, 0.5).surrogate(&program, &Iwae, Key::from_seed(2))?;
            assert_eq!((surrogate.log_px.dims(), surrogate.sites.len()), (&[3, 1][..], layers));
            assert_eq!(model.complete(&x, 4, Key::from_seed(1))?.dims(), [4, 1, 5]);
            let (name, bias) = model.base_rate_bias()?;
            assert_eq!((name.as_str(), bias.dims()), ("output.0.bias", &[3][..]));
            let narrow = x.narrow(1, 0, 4)?;
            let wrong = |trace: &mut Trace<'_>| model.log_likelihood(&narrow, trace);
            assert!(multi_sample_bound(&wrong, 1, 1, Key::from_seed(3)).is_err());
        }
        for (categories, layers) in [(1, 1), (6, 1), (2, 0), (2, 65)] {
            assert!(model(&config(categories, layers)).is_err());
        }
        Ok(())
    }
}
