//! Multi-layer perceptrons.
use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use gumbel_kernels::linear_with_activation;
use serde::{Deserialize, Serialize};

/// The nonlinearity between hidden layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// `max(x, 0)`.
    #[default]
    Relu,
    /// `tanh x`.
    Tanh,
}

impl From<Activation> for gumbel_kernels::Activation {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::Relu => Self::Relu,
            Activation::Tanh => Self::Tanh,
        }
    }
}

/// Linear layers with a nonlinearity between them (none after the last).
///
/// Weights are drawn uniformly from `±√(6 / (in + out))` (Glorot and Bengio 2010), biases are 0. The layers
/// are named `0`, `1`, … under the builder's prefix.
#[derive(Clone, Debug)]
pub struct Mlp {
    layers: Vec<Layer>,
    activation: Activation,
}

#[derive(Clone, Debug)]
struct Layer {
    weight: Tensor,
    bias: Tensor,
}

impl Mlp {
    /// `input → hidden… → output`.
    pub fn new(
        input: usize,
        hidden: &[usize],
        output: usize,
        activation: Activation,
        builder: &VarBuilder<'_>,
    ) -> Result<Self> {
        let mut layers = Vec::with_capacity(hidden.len() + 1);
        let mut from = input;
        for (index, to) in hidden.iter().copied().chain([output]).enumerate() {
            if from == 0 || to == 0 {
                candle_core::bail!(
                    "layer {index} would map {from} to {to} units; sizes must be at least 1"
                )
            }
            let bound = (6. / (from + to) as f64).sqrt();
            let layer = builder.pp(index);
            let weight = layer.get_with_hints(
                (to, from),
                "weight",
                Init::Uniform { lo: -bound, up: bound },
            )?;
            let bias = layer.get_with_hints(to, "bias", Init::Const(0.))?;
            layers.push(Layer { weight, bias });
            from = to;
        }
        Ok(Self { layers, activation })
    }

    /// `[.., input]` → `[.., output]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let last = self.layers.len() - 1;
        let mut h = x.clone();
        for (index, Layer { weight, bias }) in self.layers.iter().enumerate() {
            let activation = if index < last { self.activation.into() } else { Default::default() };
            h = linear_with_activation(&h, weight, bias, activation)?;
        }
        Ok(h)
    }
}
