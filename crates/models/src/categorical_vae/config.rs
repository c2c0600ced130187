//! Sizes and choices of the model.
use serde::{Deserialize, Serialize};

use super::ContextConfig;
use crate::defaults::is_false;
use crate::latents::{Latents, check_layers, check_units};
use crate::{Activation, Coding};

/// Sizes and choices of a [`CategoricalVae`](super::CategoricalVae).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CategoricalVaeConfig {
    /// Number of latent variables `N` of a layer.
    pub latents: usize,
    /// Values per variable `K`; 2 makes them Bernoulli variables in logistic form.
    pub categories: usize,
    /// Hidden layers of the encoder; none makes it linear.
    #[serde(default)]
    pub encoder: Vec<usize>,
    /// Hidden layers of the decoder; none makes it linear.
    #[serde(default)]
    pub decoder: Vec<usize>,
    /// Layers of latents `L`.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub layers: usize,
    /// Hidden layers from one layer of latents to the next, up and down; none makes both linear.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub between: Vec<usize>,
    /// Whether what the encoders of upper layers see is centred by its running mean, see
    /// [`CategoricalVae::centre`](super::CategoricalVae::centre).
    #[serde(default, skip_serializing_if = "is_false")]
    pub centred: bool,
    /// What a pixel sees of its neighbours; by default nothing, so that pixels are independent given the code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<ContextConfig>,
    /// Nonlinearity of the hidden layers.
    #[serde(default)]
    pub activation: Activation,
    /// The prior of the last layer of latents.
    #[serde(default)]
    pub prior: Prior,
    /// What a variable is to the networks.
    #[serde(default)]
    pub coding: Coding,
}

fn one() -> usize {
    1
}

fn is_one(n: &usize) -> bool {
    *n == 1
}

/// The prior of the last layer of latents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Prior {
    /// Every value is equally likely.
    #[default]
    Uniform,
    /// Independent variables whose logits are parameters, starting uniform.
    Learned,
}

impl CategoricalVaeConfig {
    /// What is wrong with the sizes, if anything: key, value, what to do.
    ///
    /// # Errors
    /// If a layer has no unit or more than 2²⁰, `categories` is below 2, or no power of two where `coding` is signs, or
    /// `layers` is not within 1 to 64, and those of [`ContextConfig::check`].
    pub fn check(&self) -> Result<(), String> {
        Latents::check(self.latents, self.categories, self.coding)?;
        check_layers(self.layers)?;
        self.context.as_ref().map_or(Ok(()), ContextConfig::check)?;
        check_units([
            ("encoder", &self.encoder[..]),
            ("decoder", &self.decoder),
            ("between", &self.between),
        ])
    }
}
