//! The choice of an optimiser, as written in a configuration file.
use candle_core::{Tensor, Var};
use gumbel_kernels::optimizer::{AdamTensors, adam_update_all, sgd_update};
use serde::{Deserialize, Serialize};

use super::{OptimizerError, adam, radam};

/// The update rule and its constants.
///
/// In a configuration file: `optimizer = { kind = "adam", beta2 = 0.99 }`; what is left out has the default
/// of the field. Weight decay is decoupled from the gradient (Loshchilov and Hutter, 2019): every step
/// first multiplies the parameter by `1 - learning rate · weight_decay`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// Adam (Kingma and Ba, 2015, algorithm 1); with weight decay AdamW.
    Adam {
        /// Decay rate of the first moment, in `[0, 1)`.
        #[serde(default = "beta1")]
        beta1: f64,
        /// Decay rate of the second moment, in `[0, 1)`.
        #[serde(default = "beta2")]
        beta2: f64,
        /// Added to the root of the second moment, positive.
        #[serde(default = "epsilon")]
        epsilon: f64,
        /// Decoupled weight decay, not negative.
        #[serde(default)]
        weight_decay: f64,
    },
    /// Rectified Adam (Liu et al., 2020, algorithm 2): no adaptation while `v` rests on few gradients.
    Radam {
        /// Decay rate of the first moment, in `[0, 1)`.
        #[serde(default = "beta1")]
        beta1: f64,
        /// Decay rate of the second moment, in `[0, 1)`.
        #[serde(default = "beta2")]
        beta2: f64,
        /// Added to the root of the second moment, positive.
        #[serde(default = "epsilon")]
        epsilon: f64,
        /// Decoupled weight decay, not negative.
        #[serde(default)]
        weight_decay: f64,
    },
    /// Stochastic gradient descent with momentum: `m ← μ m + g`, `θ ← θ - learning rate · m`.
    Sgd {
        /// Momentum `μ`, in `[0, 1)`; 0 is plain gradient descent.
        #[serde(default = "momentum")]
        momentum: f64,
        /// Nesterov's variant: steps along `g + μ m`.
        #[serde(default)]
        nesterov: bool,
    },
}

fn beta1() -> f64 {
    0.9
}

fn beta2() -> f64 {
    0.999
}

fn epsilon() -> f64 {
    1e-8
}

fn momentum() -> f64 {
    0.9
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self::Adam { beta1: beta1(), beta2: beta2(), epsilon: epsilon(), weight_decay: 0. }
    }
}

/// A range of numbers and how to say it.
pub(super) type Range = (&'static str, fn(f64) -> bool);
pub(super) const NOT_NEGATIVE: Range = ("finite and not negative", |x| x >= 0. && x.is_finite());
pub(super) const POSITIVE: Range = ("positive and finite", |x| x > 0. && x.is_finite());
const RATE: Range = ("in [0, 1)", |x| (0. ..1.).contains(&x));

pub(super) fn check(name: &'static str, value: f64, range: Range) -> Result<(), OptimizerError> {
    let (range, contains) = range;
    if contains(value) { Ok(()) } else { Err(OptimizerError::Setting { name, range, value }) }
}

impl OptimizerConfig {
    /// An error that names the first constant outside its range.
    pub fn check(&self) -> Result<(), OptimizerError> {
        match *self {
            Self::Adam { beta1, beta2, epsilon, weight_decay }
            | Self::Radam { beta1, beta2, epsilon, weight_decay } => {
                check("beta1", beta1, RATE)?;
                check("beta2", beta2, RATE)?;
                check("epsilon", epsilon, POSITIVE)?;
                check("weight_decay", weight_decay, NOT_NEGATIVE)
            }
            Self::Sgd { momentum, .. } => check("momentum", momentum, RATE),
        }
    }

    /// Names of the state tensors of one parameter.
    pub(super) fn slots(&self) -> &'static [&'static str] {
        match self {
            Self::Adam { .. } => &["adam.m", "adam.v"],
            Self::Radam { .. } => &["radam.m", "radam.v"],
            Self::Sgd { .. } => &["sgd.momentum"],
        }
    }

    /// Step number `t` (from 1) of all parameters, in place: each with its state and its gradient.
    pub(super) fn update(
        &self,
        tensors: &[(&Var, &[Var], &Tensor)],
        learning_rate: f64,
        t: u64,
    ) -> candle_core::Result<()> {
        let step = match *self {
            Self::Adam { beta1, beta2, epsilon, weight_decay } => {
                adam::step([beta1, beta2], epsilon, weight_decay, learning_rate, t)
            }
            Self::Radam { beta1, beta2, epsilon, weight_decay } => {
                radam::step([beta1, beta2], epsilon, weight_decay, learning_rate, t)
            }
            Self::Sgd { momentum, nesterov } => {
                return tensors.iter().try_for_each(|(parameter, slots, gradient)| {
                    let [m] = self.state_of(slots)?;
                    sgd_update(parameter, m, gradient, learning_rate, momentum, nesterov)
                });
            }
        };
        let mut of_adam = Vec::with_capacity(tensors.len());
        for (parameter, slots, gradient) in tensors {
            let [m, v] = self.state_of(slots)?;
            of_adam.push(AdamTensors { parameter, m, v, gradient });
        }
        adam_update_all(&of_adam, &step)
    }

    fn state_of<'a, const N: usize>(&self, slots: &'a [Var]) -> candle_core::Result<&'a [Var; N]> {
        match slots.try_into() {
            Ok(slots) => Ok(slots),
            Err(_) => candle_core::bail!("{:?} has {} state tensors", self.slots(), slots.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_its_default() {
        let adam: OptimizerConfig = toml::from_str("kind = \"adam\"").unwrap();
        assert_eq!(adam, OptimizerConfig::default());
        let radam: OptimizerConfig = toml::from_str("kind = \"radam\"\nbeta2 = 0.9").unwrap();
        let expected =
            OptimizerConfig::Radam { beta1: 0.9, beta2: 0.9, epsilon: 1e-8, weight_decay: 0. };
        assert_eq!(radam, expected);
        let sgd: OptimizerConfig = toml::from_str("kind = \"sgd\"").unwrap();
        assert_eq!(sgd, OptimizerConfig::Sgd { momentum: 0.9, nesterov: false });
        for config in [adam, radam, sgd] {
            let text = toml::to_string(&config).unwrap();
            assert_eq!(toml::from_str::<OptimizerConfig>(&text).unwrap(), config);
        }
    }

    #[test]
    fn unknown_names_are_refused() {
        for text in ["kind = \"adamw\"", "kind = \"adam\"\nbeta3 = 1.0", "beta1 = 0.9"] {
            assert!(toml::from_str::<OptimizerConfig>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        let cases = [
            ("kind = \"adam\"\nbeta1 = 1.0", "beta1"),
            ("kind = \"radam\"\nbeta2 = -0.1", "beta2"),
            ("kind = \"adam\"\nepsilon = 0.0", "epsilon"),
            ("kind = \"adam\"\nweight_decay = inf", "weight_decay"),
            ("kind = \"sgd\"\nmomentum = nan", "momentum"),
        ];
        for (text, name) in cases {
            let config: OptimizerConfig = toml::from_str(text).unwrap();
            let error = config.check().unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
        assert!(OptimizerConfig::default().check().is_ok());
    }
}
