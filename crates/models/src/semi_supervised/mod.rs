//! Classification with few labels, by a generative model of all images.
use candle_core::{D, Result, Tensor};
use candle_nn::{Init, VarBuilder};
use gumbel::Key;
use gumbel::distributions::Categorical;
use gumbel::estimators::Trace;
use gumbel_kernels::{add, bernoulli_log_prob, linear, log_softmax, sigmoid};
use serde::{Deserialize, Serialize};

mod networks;

use networks::{Decoder, Trunk};

use crate::latents::{base_rate_logits, check_pixels, check_units};
use crate::{Activation, LatentVariableModel, Mlp};

/// Sizes of a [`SemiSupervisedVae`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SemiSupervisedVaeConfig {
    /// Number of classes `K`.
    pub classes: usize,
    /// Numbers that say what the class does not: the dimension of `z`.
    pub style: usize,
    /// Channels of the three convolutions, from the image up.
    pub channels: [usize; 3],
    /// Units of the layer between convolutions and code.
    pub hidden: usize,
}

impl SemiSupervisedVaeConfig {
    /// What is wrong with the sizes, if anything: key, value, what to do.
    ///
    /// # Errors
    /// If there are fewer than two classes, or a size is 0 or more than 2²⁰.
    pub fn check(&self) -> std::result::Result<(), String> {
        if self.classes < 2 {
            return Err(format!("classes is {}; use at least 2", self.classes));
        }
        check_units([
            ("classes", &[self.classes][..]),
            ("style", &[self.style]),
            ("channels", &self.channels),
            ("hidden", &[self.hidden]),
        ])
    }
}

/// Images, with their classes where those are known.
#[derive(Clone, Debug)]
pub struct ImagesWithLabels {
    /// Pixels in `[0, 1]`: `[B, D]`.
    pub x: Tensor,
    /// One-hot classes `[1, B, 1, K]`.
    pub labels: Option<Tensor>,
}

/// The model `M2` of Kingma et al. (2014): `p(y) N(z; 0, I) Π_d Bernoulli(x_d; σ(decoder(y, z)_d))` of a class `y` and a
/// style `z`, inferred by `q(y|x) q(z|x, y)`.
///
/// The class is the site `y`: discrete and latent, or observed where there is a label. The style is Gaussian and comes by
/// reparameterisation; its divergence is part of what the program returns, `log p(x|y, z) - KL(q(z|x, y) ‖ N(0, I))`,
/// which makes the objective a bound of one sample, not of many, and which the weight of an objective's divergence does not
/// weigh. Sum over `y` by the estimator `enumerate`, and it is the
/// marginalised objective of Kingma et al.; draw `y` by any other, and it is that of Jang, Gu, Poole (2017), section 4.3.
///
/// Three convolutions each for `q(y|x)` and `q(z|x, y)`, where the class joins after them; four transposed ones, of which
/// the first has one position, for `p(x|y, z)`. Parameters are named `classifier.*`, `style.*`, `decoder.*`.
#[derive(Clone, Debug)]
pub struct SemiSupervisedVae {
    config: SemiSupervisedVaeConfig,
    image: (usize, usize),
    mean: Tensor,
    classifier: Trunk,
    classes: Mlp,
    style: Trunk,
    /// Of the class, to the hidden layer of the style.
    join: Tensor,
    styles: Mlp,
    decoder: Decoder,
    /// Equally likely classes.
    prior: Categorical,
}

impl SemiSupervisedVae {
    /// Builds the model on the parameters of `builder`, for images of height and width `image` whose mean over the
    /// training set is `mean: [D]`; the inference networks see images less their mean.
    ///
    /// # Errors
    /// Those of [`SemiSupervisedVaeConfig::check`], or if the images are too small to be halved three times.
    pub fn new(
        config: &SemiSupervisedVaeConfig,
        image: (usize, usize),
        mean: &Tensor,
        builder: &VarBuilder<'_>,
    ) -> Result<Self> {
        config.check().map_err(candle_core::Error::msg)?;
        let (dtype, device) = (builder.dtype(), builder.device());
        let SemiSupervisedVaeConfig { classes, style, hidden, .. } = *config;
        let bound = (6. / (classes + hidden) as f64).sqrt();
        let join = Init::Uniform { lo: -bound, up: bound };
        let head = |output, name: &str| {
            Mlp::new(hidden, &[], output, Activation::Relu, &builder.pp(name).pp("output"))
        };
        Ok(Self {
            classifier: Trunk::new(config, image, &builder.pp("classifier"))?,
            classes: head(classes, "classifier")?,
            style: Trunk::new(config, image, &builder.pp("style"))?,
            join: builder.pp("style").get_with_hints((hidden, classes), "class.weight", join)?,
            styles: head(2 * style, "style")?,
            decoder: Decoder::new(config, image, &builder.pp("decoder"))?,
            prior: Categorical::from_logits(&Tensor::zeros((1, 1, 1, classes), dtype, device)?)?,
            mean: mean.to_dtype(dtype)?.to_device(device)?,
            image,
            config: config.clone(),
        })
    }

    /// Name of the decoder's output bias, and the value `logit(mean)` that makes the untrained decoder reproduce the base
    /// rate of each pixel (clipped to `[0.001, 0.999]`).
    pub fn base_rate_bias(&self) -> Result<(String, Tensor)> {
        Ok(("decoder.3.bias".to_owned(), base_rate_logits(&self.mean)?))
    }

    /// Logits of `q(y | x)`, `[B, K]`, for `x: [B, D]`.
    pub fn class_logits(&self, x: &Tensor) -> Result<Tensor> {
        self.classes.forward(&self.classifier.forward(&self.input(x)?)?.relu()?)
    }

    /// `log q(y | x)` of the right classes, `[B]` in nats: what a classifier maximises.
    ///
    /// # Errors
    /// If the images have no labels.
    pub fn log_prob_of_labels(&self, batch: &ImagesWithLabels) -> Result<Tensor> {
        let Some(labels) = &batch.labels else {
            candle_core::bail!("there are no labels to compare with")
        };
        (log_softmax(&self.class_logits(&batch.x)?)? * labels.squeeze(2)?.squeeze(0)?)?.sum(1)
    }

    /// Pixel probabilities `[styles, K, D]`: every class in each of a number of styles that are drawn from the prior.
    pub fn analogies(&self, styles: usize, key: Key) -> Result<Tensor> {
        let (k, d) = (self.config.classes, self.config.style);
        let (dtype, device) = (self.mean.dtype(), self.mean.device());
        let z = key.normal((styles, 1, d), dtype, device)?.broadcast_as((styles, k, d))?;
        let y = Tensor::eye(k, dtype, device)?.unsqueeze(0)?.broadcast_as((styles, k, k))?;
        sigmoid(&self.decoder.forward(&Tensor::cat(&[y, z], 2)?)?)
    }

    /// `x: [B, D]` less its mean, as images of one channel.
    fn input(&self, x: &Tensor) -> Result<Tensor> {
        check_pixels(x, &self.mean)?;
        x.broadcast_sub(&self.mean)?.reshape(((), self.image.0, self.image.1, 1))
    }

    /// Mean and logarithm of the scale of `q(z | x, y)`, `[S, B, style]` each, for `y: [S, B, K]`.
    fn style(&self, x: &Tensor, y: &Tensor) -> Result<[Tensor; 2]> {
        let of_image = self.style.forward(&self.input(x)?)?; // [B, hidden]
        let none = Tensor::zeros(self.config.hidden, y.dtype(), y.device())?;
        let h = add(&linear(y, &self.join, &none)?, &of_image)?.relu()?;
        let both = self.styles.forward(&h)?;
        let style = self.config.style;
        Ok([both.narrow(D::Minus1, 0, style)?, both.narrow(D::Minus1, style, style)?])
    }
}

impl LatentVariableModel for SemiSupervisedVae {
    type Batch = ImagesWithLabels;

    fn log_likelihood(&self, batch: &ImagesWithLabels, trace: &mut Trace<'_>) -> Result<Tensor> {
        let ImagesWithLabels { x, labels } = batch;
        // q(y | x), or the label
        let y = match labels {
            Some(labels) => trace.observe("y", &self.prior, labels)?,
            None => {
                let logits = self.class_logits(x)?.unsqueeze(1)?.unsqueeze(0)?;
                trace.sample("y", &Categorical::from_logits(&logits)?, &self.prior)?
            }
        };
        let y = y.squeeze(2)?; // [S, B, K]
        // q(z | x, y)
        let [mean, log_scale] = self.style(x, &y)?;
        let z = (&mean + log_scale.exp()? * trace.normal("z", &mean)?)?;
        let variance = (&log_scale * 2.)?.exp()?;
        let kl = (((mean.sqr()? + variance)? - (log_scale * 2.)?)? - 1.)?;
        // p(x | y, z)
        let pixels = self.decoder.forward(&Tensor::cat(&[y, z], 2)?)?;
        bernoulli_log_prob(&pixels, x)? - (kl.sum(2)? * 0.5)?
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};
    use gumbel::estimators::{Enumerate, Estimator, GumbelSoftmax, Independent, LeaveOneOut};
    use gumbel::objectives::Elbo;

    use super::*;
    use crate::check::irregular;

    const IMAGE: (usize, usize) = (9, 8);

    fn model() -> Result<(SemiSupervisedVae, Vec<Var>)> {
        let config =
            SemiSupervisedVaeConfig { classes: 3, style: 2, channels: [2, 3, 4], hidden: 5 };
        let mean = Tensor::full(0.3f32, 72, &Device::Cpu)?;
        let (model, map) =
            irregular(0.5, |builder| SemiSupervisedVae::new(&config, IMAGE, &mean, builder))?;
        Ok((model, map.all_vars()))
    }

    fn images(count: usize) -> Result<Tensor> {
        let x = Key::from_seed(2).uniform((1, 72), DType::F32, &Device::Cpu)?;
        x.gt(0.6)?.to_dtype(DType::F32)?.broadcast_as((count, 72))?.contiguous()
    }

    /// A latent class, summed over, is the average of what labels give, less the divergence.
    #[test]
    fn marginalisation_is_the_sum_over_all_labels() -> Result<()> {
        let (model, _) = model()?;
        let x = images(1)?;
        let key = Key::from_seed(3);
        let unlabelled = ImagesWithLabels { x: x.clone(), labels: None };
        let marginal = Enumerate { samples: 1 }.surrogate(
            &|trace: &mut Trace<'_>| model.log_likelihood(&unlabelled, trace),
            &Elbo { beta: 0., ..Elbo::default() },
            key,
        )?;
        let q =
            gumbel_kernels::softmax(&model.class_logits(&x)?)?.flatten_all()?.to_vec1::<f32>()?;
        // Three images with one label each have the same noise as one image with three classes.
        let labels = Tensor::eye(3, DType::F32, &Device::Cpu)?.reshape((1, 3, 1, 3))?;
        let batch = ImagesWithLabels { x: images(3)?, labels: Some(labels) };
        let program = |trace: &mut Trace<'_>| model.log_likelihood(&batch, trace);
        let (log_px, sites) = Trace::run(&program, &mut Independent { samples: 1 }, key)?;
        assert!(sites[0].is_observed());
        let each = log_px.flatten_all()?.to_vec1::<f32>()?;
        let expected: f32 = each.iter().zip(q).map(|(f, q)| f * q).sum();
        let found = marginal.bound.to_vec1::<f32>()?[0];
        assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        Ok(())
    }

    /// Drawn classes give the gradient of the sum, on average over draws of class and style.
    #[test]
    fn gradients_of_drawn_classes_are_those_of_the_sum() -> Result<()> {
        let (model, variables) = model()?;
        let batch = ImagesWithLabels { x: images(20_000)?, labels: None };
        let gradient = |estimator: &dyn Estimator| -> Result<Tensor> {
            let program = |trace: &mut Trace<'_>| model.log_likelihood(&batch, trace);
            let surrogate = estimator.surrogate(&program, &Elbo::default(), Key::from_seed(4))?;
            let grads = surrogate.loss.backward()?;
            let parts = variables.iter().map(|v| grads.get(v).unwrap().flatten_all());
            Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0)
        };
        let exact = gradient(&Enumerate { samples: 1 })?;
        let length = |x: &Tensor| x.sqr()?.sum_all()?.to_scalar::<f32>();
        for (estimator, within) in [
            (&LeaveOneOut { samples: 2 } as &dyn Estimator, 2e-3),
            // Biased, but not another thing.
            (&GumbelSoftmax::new(1, 0.3), 0.2),
        ] {
            let error = length(&(&exact - gradient(estimator)?)?)? / length(&exact)?;
            assert!(error < within, "{estimator:?}: {error}");
        }
        Ok(())
    }

    #[test]
    fn a_classifier_learns_from_labels_only_where_there_are_some() -> Result<()> {
        let (model, _) = model()?;
        let labels = Tensor::new(&[[[[0f32, 1., 0.]], [[1., 0., 0.]]]], &Device::Cpu)?;
        let batch = ImagesWithLabels { x: images(2)?, labels: Some(labels) };
        let found = model.log_prob_of_labels(&batch)?.to_vec1::<f32>()?;
        let q = log_softmax(&model.class_logits(&batch.x)?)?.to_vec2::<f32>()?;
        assert_eq!(found, [q[0][1], q[1][0]]);
        assert!(model.log_prob_of_labels(&ImagesWithLabels { labels: None, ..batch }).is_err());
        assert_eq!(model.analogies(4, Key::from_seed(1))?.dims(), [4, 3, 72]);
        let (name, bias) = model.base_rate_bias()?;
        assert_eq!((name.as_str(), bias.dims()), ("decoder.3.bias", &[72][..]));
        Ok(())
    }

    #[test]
    fn impossible_sizes_are_errors() {
        let fine = SemiSupervisedVaeConfig { classes: 3, style: 2, channels: [2, 3, 4], hidden: 5 };
        assert!(fine.check().is_ok());
        for (wrong, part) in [
            (SemiSupervisedVaeConfig { classes: 1, ..fine.clone() }, "classes is 1"),
            (SemiSupervisedVaeConfig { style: 0, ..fine.clone() }, "style"),
            (SemiSupervisedVaeConfig { channels: [1, 0, 1], ..fine.clone() }, "channels"),
            (SemiSupervisedVaeConfig { hidden: 1 << 21, ..fine }, "hidden"),
        ] {
            assert!(wrong.check().unwrap_err().contains(part));
        }
    }
}
