//! The model: layers of latents, up from the data and down to it.
use candle_core::{Tensor, Var};
use candle_nn::{Init, VarBuilder};
use gumbel::Key;
use gumbel::distributions::Discrete;
use gumbel::estimators::Trace;
use gumbel_kernels::{bernoulli_log_prob, sigmoid};

use super::pixels::Context;
use super::{CategoricalVaeConfig, Prior};
use crate::latents::{Latents, base_rate_logits, check_pixels};
use crate::{LatentVariableModel, Mlp};

/// A result whose error is candle's, unless said otherwise.
pub(super) type Result<T, E = candle_core::Error> = std::result::Result<T, E>;

/// VAE with `L` layers of `N` latents of `K` values and a Bernoulli decoder:
/// `p(z_L) p(z_{L-1}|z_L) … p(z_1|z_2) Π_d Bernoulli(x_d; σ(decoder(z_1)_d))`, inferred from the data up by
/// `q(z_1|x) q(z_2|z_1) … q(z_L|z_{L-1})`, where `q(z_1|x) = Π_n Categorical(encoder(x - mean)_n)`.
///
/// With [`ContextConfig`](super::ContextConfig), pixels also see those before them nearby.
///
/// Parameters are named `encoder.*`, `decoder.*`, from the second layer on `encoder_2.*`, `decoder_2.*`, …, with a
/// learned prior `prior.logits`, and with a context `context.*`. Sites are `("z", 0)`, the layer next to the data, to `("z", L - 1)`.
///
/// Source: Jang, Gu, Poole (2017), section 4.2, for one layer; Maddison, Mnih, Teh (2017), section 5.1, for more, which
/// also centres what the inference networks of upper layers see.
#[derive(Clone, Debug)]
pub struct CategoricalVae {
    pub(super) config: CategoricalVaeConfig,
    pub(super) latents: Latents,
    /// Of each layer, from the data up.
    encoders: Vec<Mlp>,
    /// Of each layer, to the one below it or the data.
    decoders: Vec<Mlp>,
    /// What pixels see of each other, if anything.
    context: Option<Context>,
    prior: Discrete,
    pub(super) mean: Tensor,
    /// Running means of the codes of all layers but the last, where those are centred.
    pub(super) centres: Vec<Var>,
}

impl CategoricalVae {
    /// Builds the model on the parameters of `builder`, for data whose mean over the training set is
    /// `mean`, `[D]` or `[H, W]`; the encoder sees the data less its mean.
    ///
    /// # Errors
    /// Those of [`CategoricalVaeConfig::check`], or if the decoder sees neighbours and `mean` is `[D]`.
    pub fn new(
        config: &CategoricalVaeConfig,
        mean: &Tensor,
        builder: &VarBuilder<'_>,
    ) -> Result<Self> {
        config.check().map_err(candle_core::Error::msg)?;
        let CategoricalVaeConfig { latents, categories, coding, activation, .. } = *config;
        let place = (builder.dtype(), builder.device());
        let latents = Latents::new(latents, categories, coding, place)?;
        let mean = mean.to_dtype(builder.dtype())?.to_device(builder.device())?;
        let (d, logits, code) = (mean.elem_count(), latents.logits(), latents.width());
        let context = config.context.as_ref();
        let context = context.map(|context| Context::new(context, &mean, activation, builder));
        let numbers = config.context.as_ref().map_or(d, |context| d * context.maps);
        let (mut encoders, mut decoders) = (Vec::new(), Vec::new());
        for layer in 0..config.layers {
            let name = |part: &str| match layer {
                0 => builder.pp(part),
                _ => builder.pp(format!("{part}_{}", layer + 1)),
            };
            let first = layer == 0;
            let (input, output) = if first { (d, numbers) } else { (code, logits) };
            let up = if first { &config.encoder } else { &config.between };
            let down = if first { &config.decoder } else { &config.between };
            encoders.push(Mlp::new(input, up, logits, activation, &name("encoder"))?);
            decoders.push(Mlp::new(code, down, output, activation, &name("decoder"))?);
        }
        let prior = match config.prior {
            Prior::Uniform => Tensor::zeros(latents.shape(), builder.dtype(), builder.device())?,
            Prior::Learned => {
                builder.pp("prior").get_with_hints(latents.shape(), "logits", Init::Const(0.))?
            }
        };
        Ok(Self {
            encoders,
            decoders,
            prior: latents.law(&prior)?,
            mean: mean.flatten_all()?,
            context: context.transpose()?,
            latents,
            centres: Vec::new(),
            config: config.clone(),
        })
    }

    /// Name of the decoder's output bias, and the value, `logit(mean)` of each pixel (clipped to `[0.001, 0.999]`), that makes
    /// the untrained decoder reproduce its base rate, but for what pixels see of each other.
    pub fn base_rate_bias(&self) -> Result<(String, Tensor)> {
        let name = format!("decoder.{}.bias", self.config.decoder.len());
        let bias = match &self.context {
            Some(context) => context.base_rate()?,
            None => base_rate_logits(&self.mean)?,
        };
        Ok((name, bias))
    }

    /// `q(z_1 | x)` of `x: [B, D]`.
    pub fn posterior(&self, x: &Tensor) -> Result<Discrete> {
        let logits = self.encoders[0].forward(&x.broadcast_sub(&self.mean)?)?;
        self.latents.law(&logits.unsqueeze(0)?)
    }

    /// Logits of the pixels `[S, B, D]` given latents of the first layer `z: [S, B, N]` (bits) or `[S, B, N, K]` (one-hot).
    ///
    /// # Errors
    /// If pixels see each other: then they have logits only given an image.
    pub fn decode(&self, z: &Tensor) -> Result<Tensor> {
        if self.context.is_some() {
            candle_core::bail!("pixels that see each other have no logits without an image")
        }
        self.decoders[0].forward(&self.latents.code(z)?)
    }

    /// Pixel probabilities `[S, B, D]` of latents of the first layer `z: [S, B, N]` (bits) or `[S, B, N, K]` (one-hot);
    /// where pixels see each other, each given the ones before it as `key` has drawn them.
    pub fn decode_probs(&self, z: &Tensor, key: Key) -> Result<Tensor> {
        let numbers = self.decoders[0].forward(&self.latents.code(z)?)?;
        match &self.context {
            Some(context) => context.generate(&numbers, key),
            None => sigmoid(&numbers),
        }
    }

    /// `samples` draws `[S, 1, N]` or `[S, 1, N, K]` of the latents of the first layer from the model.
    pub fn sample_prior(&self, samples: usize, key: Key) -> Result<Tensor> {
        let mut z = self.prior.sample(samples, key)?;
        for (layer, decoder) in self.decoders.iter().enumerate().skip(1).rev() {
            let law = self.latents.law(&decoder.forward(&self.latents.code(&z)?)?)?;
            z = law.sample(samples, key.fold_in(layer as u64))?;
        }
        Ok(z)
    }
}

impl LatentVariableModel for CategoricalVae {
    /// Pixels in `[0, 1]`: `[B, D]`.
    type Batch = Tensor;

    fn log_likelihood(&self, x: &Tensor, trace: &mut Trace<'_>) -> Result<Tensor> {
        check_pixels(x, &self.mean)?;
        // q(z_1 | x) q(z_2 | z_1) …
        let mut codes = vec![self.latents.code(&trace.infer("z", self.posterior(x)?)?)?];
        for (layer, encoder) in self.encoders.iter().enumerate().skip(1) {
            let posterior = self
                .latents
                .law(&encoder.forward(&self.centred(layer - 1, &codes[layer - 1])?)?)?;
            codes.push(self.latents.code(&trace.infer(("z", layer), posterior)?)?); // [S, B, code]
        }
        // … p(z_1 | z_2)
        let top = self.config.layers - 1;
        trace.prior(("z", top), &self.prior)?;
        for layer in 0..top {
            let prior = self.latents.law(&self.decoders[layer + 1].forward(&codes[layer + 1])?)?;
            trace.prior(("z", layer), prior)?;
        }
        // p(x | z_1)
        let mut logits = self.decoders[0].forward(&codes[0])?;
        if let Some(context) = &self.context {
            logits = context.logits(&logits, x)?;
        }
        bernoulli_log_prob(&logits, x) // [S, B]
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use gumbel::estimators::{
        Enumerate, Estimator, GumbelSoftmax, Independent, LeaveOneOut, SiteDraw,
    };
    use gumbel::objectives::{Elbo, multi_sample_bound};

    use super::super::ContextConfig;
    use super::*;
    use crate::check::irregular;
    use crate::{Activation, Coding};

    fn config(categories: usize) -> CategoricalVaeConfig {
        CategoricalVaeConfig {
            latents: 3,
            categories,
            encoder: vec![6],
            decoder: vec![],
            layers: 1,
            between: vec![],
            centred: false,
            context: None,
            activation: Activation::Tanh,
            prior: Prior::Learned,
            coding: Coding::Signs,
        }
    }

    /// A model whose parameters are irregular numbers.
    fn model(config: &CategoricalVaeConfig, mean: &Tensor) -> Result<CategoricalVae> {
        Ok(with_variables(config, mean)?.0)
    }

    fn with_variables(
        config: &CategoricalVaeConfig,
        mean: &Tensor,
    ) -> Result<(CategoricalVae, Vec<Var>)> {
        let (model, map) = irregular(1., |builder| CategoricalVae::new(config, mean, builder))?;
        Ok((model, map.all_vars()))
    }

    #[test]
    fn bits_and_one_hot_vectors_run_through_the_same_story() -> Result<()> {
        let mean = Tensor::new(&[0.2f32, 0., 0.5, 1., 0.9], &Device::Cpu)?;
        let x = Tensor::new(&[[1f32, 0., 1., 1., 0.], [0., 0., 0., 1., 1.]], &Device::Cpu)?;
        for (categories, layers, between) in
            [(2, 1, vec![]), (4, 1, vec![]), (2, 3, vec![4]), (8, 2, vec![])]
        {
            let config = CategoricalVaeConfig { layers, between, ..config(categories) };
            let model = model(&config, &mean)?;
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
        for (latents, categories) in [(0, 2), (3, 1), (3, 6), (1 << 21, 2), (usize::MAX, 4)] {
            let config = CategoricalVaeConfig { latents, ..config(categories) };
            assert!(model(&config, &mean).is_err());
        }
        for layers in [0, 65, usize::MAX] {
            assert!(model(&CategoricalVaeConfig { layers, ..config(2) }, &mean).is_err());
        }
        Ok(())
    }

    /// Draws of the model itself have the frequency that its story says: exact marginals of two layers.
    #[test]
    fn samples_of_two_layers_follow_the_prior() -> Result<()> {
        let mean = Tensor::new(&[0.2f32, 0., 0.5, 1., 0.9], &Device::Cpu)?;
        let config =
            CategoricalVaeConfig { latents: 2, layers: 2, prior: Prior::Learned, ..config(2) };
        let model = model(&config, &mean)?;
        let p = model.prior.probs()?.flatten_all()?.to_vec1::<f32>()?;
        let mut expected = [0f32; 2];
        for code in 0..4usize {
            let bits = [code & 1, code >> 1];
            let weight: f32 = (0..2).map(|i| if bits[i] == 1 { p[i] } else { 1. - p[i] }).product();
            let signs = bits.map(|bit| if bit == 1 { 1f32 } else { -1. });
            let z = Tensor::new(&[[signs]], &Device::Cpu)?;
            let below =
                sigmoid(&model.decoders[1].forward(&z)?)?.flatten_all()?.to_vec1::<f32>()?;
            (0..2).for_each(|i| expected[i] += weight * below[i]);
        }
        let samples = 40_000;
        let z = model.sample_prior(samples, Key::from_seed(5))?.mean(0)?.flatten_all()?;
        for (found, expected) in z.to_vec1::<f32>()?.into_iter().zip(expected) {
            let error = (expected * (1. - expected) / samples as f32).sqrt();
            assert!((found - expected).abs() < 4.5 * error, "{found} {expected}");
        }
        Ok(())
    }

    /// The gradient of the bound of two layers, whose priors come after the draws, against the exact one.
    #[test]
    fn gradients_of_two_layers_are_those_of_enumeration() -> Result<()> {
        let mean = Tensor::new(&[0.2f32, 0., 0.5, 1., 0.9], &Device::Cpu)?;
        let rows = 20_000;
        let x = Tensor::new(&[[1f32, 0., 1., 1., 0.]], &Device::Cpu)?;
        let config =
            CategoricalVaeConfig { latents: 2, layers: 2, prior: Prior::Learned, ..config(2) };
        let (model, variables) = with_variables(&config, &mean)?;
        let gradient = |estimator: &dyn Estimator, x: &Tensor| -> Result<Tensor> {
            let program = |trace: &mut Trace<'_>| model.log_likelihood(x, trace);
            let surrogate = estimator.surrogate(&program, &Elbo::default(), Key::from_seed(4))?;
            let grads = surrogate.loss.backward()?;
            let parts = variables.iter().map(|v| grads.get(v).unwrap().flatten_all());
            Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0)
        };
        let exact = gradient(&Enumerate { samples: 1 }, &x)?;
        let many = x.broadcast_as((rows, 5))?.contiguous()?;
        let estimate = gradient(&LeaveOneOut { samples: 2 }, &many)?;
        let length = |x: &Tensor| x.sqr()?.sum_all()?.to_scalar::<f32>();
        let error = length(&(&exact - estimate)?)?;
        assert!(error < 1e-3 * length(&exact)?, "{error} of {}", length(&exact)?);
        Ok(())
    }

    #[test]
    fn a_decoder_that_sees_neighbours_runs_through_the_same_story() -> Result<()> {
        let mean = Tensor::new(&[[0.2f32, 0., 0.5], [1., 0.9, 0.3]], &Device::Cpu)?;
        let context = ContextConfig { window: 3, maps: 2, hidden: vec![4] };
        let config = CategoricalVaeConfig { context: Some(context), decoder: vec![5], ..config(2) };
        let (model, variables) = with_variables(&config, &mean)?;
        let (name, bias) = model.base_rate_bias()?;
        assert_eq!((name.as_str(), bias.dims()), ("decoder.1.bias", &[12][..]));
        let x = Tensor::new(&[[1f32, 0., 1., 1., 0., 1.]], &Device::Cpu)?;
        let program = |trace: &mut Trace<'_>| model.log_likelihood(&x, trace);
        let estimator = GumbelSoftmax::new(2, 0.5);
        let surrogate = estimator.surrogate(&program, &Elbo::default(), Key::from_seed(2))?;
        let grads = surrogate.loss.backward()?;
        assert!(variables.iter().all(|v| grads.get(v).is_some()));
        let z = model.sample_prior(3, Key::from_seed(1))?;
        let probs = model.decode_probs(&z, Key::from_seed(2))?;
        assert_eq!(probs.dims(), [3, 1, 6]);
        assert!(probs.to_vec3::<f32>()?.concat().concat().iter().all(|p| (0. ..=1.).contains(p)));
        let nothing = x.narrow(0, 0, 0)?;
        let program = |trace: &mut Trace<'_>| model.log_likelihood(&nothing, trace);
        assert_eq!(
            Trace::run(&program, &mut Independent { samples: 2 }, Key::from_seed(3))?.0.dims(),
            [2, 0]
        );
        assert!(with_variables(&config, &mean.flatten_all()?).is_err());
        Ok(())
    }

    #[test]
    fn centres_follow_the_codes_and_change_what_the_encoder_above_sees() -> Result<()> {
        let mean = Tensor::new(&[0.2f32, 0., 0.5, 1., 0.9], &Device::Cpu)?;
        let x = Tensor::new(&[[1f32, 0., 1., 1., 0.], [0., 0., 0., 1., 1.]], &Device::Cpu)?;
        let config = CategoricalVaeConfig { layers: 2, centred: true, ..config(2) };
        let (plain, mut model) = (model(&config, &mean)?, model(&config, &mean)?);
        let mut held = Vec::new();
        model.centre(|name, initial| {
            held.push((name.to_owned(), Var::from_tensor(initial)?));
            Ok(held[held.len() - 1].1.clone())
        })?;
        assert_eq!(
            held.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            ["encoder_2.centre"]
        );
        let sites = |model: &CategoricalVae| {
            let program = |trace: &mut Trace<'_>| model.log_likelihood(&x, trace);
            let estimator = LeaveOneOut { samples: 3 };
            Ok::<_, candle_core::Error>(
                estimator.surrogate(&program, &Elbo::default(), Key::from_seed(2))?.sites,
            )
        };
        let logits =
            |sites: &[SiteDraw]| sites[1].posterior.logits().flatten_all()?.to_vec1::<f32>();
        let before = sites(&model)?;
        assert_eq!(logits(&before)?, logits(&sites(&plain)?)?);
        model.update_centres(&before)?;
        let codes = before[0].draw.value.affine(2., -1.)?.flatten_to(1)?;
        let expected = (codes.mean(0)? * 0.1)?.to_vec1::<f32>()?;
        for (found, expected) in held[0].1.to_vec1::<f32>()?.into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6);
        }
        let changed = logits(&sites(&model)?)? != logits(&before)?;
        assert!(changed || held[0].1.abs()?.sum_all()?.to_scalar::<f32>()? == 0.);
        assert!(model.update_centres(&[]).is_err());
        Ok(())
    }
}
