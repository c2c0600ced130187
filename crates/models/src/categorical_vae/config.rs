//! Sizes and choices of the model.
use candle_core::{DType, Device, Result as TensorResult, Tensor};
use serde::{Deserialize, Serialize};

use crate::Activation;

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
pub enum Prior {
    /// Every value is equally likely.
    #[default]
    Uniform,
    /// Independent variables whose logits are parameters, starting uniform.
    Learned,
}

/// What a variable is to the networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Coding {
    /// 0 or 1 of a bit, a one-hot vector of a category, as in Jang et al. (2017).
    #[default]
    Bits,
    /// A corner of the hypercube `{-1, 1}^{log₂ K}`, as in Maddison et al. (2017), section 5.1: -1 or 1 of a bit, and
    /// of a category the signs of the binary digits of its number, for which `K` has to be a power of two.
    Signs,
}

/// Units of one layer above which a size is taken for a mistake.
const MOST_UNITS: usize = 1 << 20;

/// Layers of latents above which their number is taken for a mistake.
const MOST_LAYERS: usize = 64;

impl CategoricalVaeConfig {
    /// Numbers that the logits of a layer have: `N` of bits, `N · K` of categories.
    pub(crate) fn logits(&self) -> Option<usize> {
        self.latents.checked_mul(if self.categories == 2 { 1 } else { self.categories })
    }

    /// Numbers of a layer that the networks see.
    pub(crate) fn code(&self) -> Option<usize> {
        match self.coding {
            Coding::Bits => self.logits(),
            Coding::Signs => self.latents.checked_mul(self.categories.ilog2() as usize),
        }
    }

    /// What is wrong with the sizes, if anything: key, value, what to do.
    ///
    /// # Errors
    /// If a layer has no unit or more than 2²⁰, `categories` is below 2, or no power of two where `coding` is signs, or
    /// `layers` is not within 1 to 64.
    pub fn check(&self) -> Result<(), String> {
        let Self { categories, layers, .. } = *self;
        if categories < 2 {
            return Err(format!("categories is {categories}; use at least 2"));
        }
        if self.coding == Coding::Signs && !categories.is_power_of_two() {
            return Err(format!(
                "categories is {categories}; coding = \"signs\" needs a power of two"
            ));
        }
        if !(1..=MOST_LAYERS).contains(&layers) {
            return Err(format!("layers is {layers}; use 1 to {MOST_LAYERS}"));
        }
        let latents = ("latents × categories", self.logits().unwrap_or(usize::MAX));
        let units = |key, layers: &[usize]| layers.iter().map(|n| (key, *n)).collect::<Vec<_>>();
        let mut all = vec![latents];
        all.extend(units("encoder", &self.encoder));
        all.extend(units("decoder", &self.decoder));
        all.extend(units("between", &self.between));
        match all.into_iter().find(|(_, units)| !(1..=MOST_UNITS).contains(units)) {
            Some((key, units)) => {
                Err(format!("{key} has a layer of {units} units; use 1 to {MOST_UNITS}"))
            }
            None => Ok(()),
        }
    }

    /// `[K, log₂ K]`: the corner of the hypercube that each category is, the last digit first.
    pub(crate) fn corners(&self, dtype: DType, device: &Device) -> TensorResult<Tensor> {
        let digits = self.categories.ilog2();
        let sign =
            |category: usize, digit: u32| if category >> digit & 1 == 1 { 1f32 } else { -1. };
        let corners: Vec<f32> = (0..self.categories)
            .flat_map(|category| (0..digits).map(move |digit| sign(category, digit)))
            .collect();
        Tensor::from_vec(corners, (self.categories, digits as usize), device)?.to_dtype(dtype)
    }
}
