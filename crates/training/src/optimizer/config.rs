//! The choice of an optimiser, as written in a configuration file.
use serde::{Deserialize, Serialize};

use super::OptimizerError;

/// The constants of Adam and of rectified Adam; what a configuration leaves out has its default.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamConfig {
    /// Decay rate of the first moment, in `[0, 1)`.
    pub beta1: f64,
    /// Decay rate of the second moment, in `[0, 1)`.
    pub beta2: f64,
    /// Added to the root of the second moment, positive.
    pub epsilon: f64,
    /// Decoupled weight decay, not negative.
    pub weight_decay: f64,
}

impl Default for AdamConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0. }
    }
}

/// The update rule and its constants.
///
/// In a configuration file: `optimizer = { kind = "adam", beta2 = 0.99 }`; what is left out has the default
/// of the field. Weight decay is decoupled from the gradient (Loshchilov and Hutter, 2019): every step
/// first multiplies the parameter by `1 - learning rate · weight_decay`: every parameter, biases and what an estimator
/// learns (a baseline, the logarithm of a temperature) included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum OptimizerConfig {
    /// Adam (Kingma and Ba, 2015, algorithm 1); with weight decay AdamW.
    Adam(AdamConfig),
    /// Rectified Adam (Liu et al., 2020, algorithm 2): no adaptation while `v` rests on few gradients.
    Radam(AdamConfig),
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

fn momentum() -> f64 {
    0.9
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self::Adam(AdamConfig::default())
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
            Self::Adam(AdamConfig { beta1, beta2, epsilon, weight_decay })
            | Self::Radam(AdamConfig { beta1, beta2, epsilon, weight_decay }) => {
                check("beta1", beta1, RATE)?;
                check("beta2", beta2, RATE)?;
                check("epsilon", epsilon, POSITIVE)?;
                check("weight_decay", weight_decay, NOT_NEGATIVE)
            }
            Self::Sgd { momentum, .. } => check("momentum", momentum, RATE),
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
        let expected = OptimizerConfig::Radam(AdamConfig { beta2: 0.9, ..AdamConfig::default() });
        assert_eq!(radam, expected);
        let sgd: OptimizerConfig = toml::from_str("kind = \"sgd\"").unwrap();
        assert_eq!(sgd, OptimizerConfig::Sgd { momentum: 0.9, nesterov: false });
        for config in [adam, radam, sgd] {
            let text = toml::to_string(&config).unwrap();
            assert_eq!(toml::from_str::<OptimizerConfig>(&text).unwrap(), config);
        }
    }

    /// Runs are told apart by a hash of this text.
    #[test]
    fn the_text_of_each_rule_is_the_same_in_every_version() {
        let rules = [
            ("adam", "beta1 = 0.9\nbeta2 = 0.999\nepsilon = 0.00000001\nweight_decay = 0.0\n"),
            ("radam", "beta1 = 0.9\nbeta2 = 0.999\nepsilon = 0.00000001\nweight_decay = 0.0\n"),
            ("sgd", "momentum = 0.9\nnesterov = false\n"),
        ];
        for (kind, constants) in rules {
            let rule = format!("kind = \"{kind}\"\n{constants}");
            let short: OptimizerConfig = toml::from_str(&format!("kind = \"{kind}\"")).unwrap();
            assert_eq!(toml::to_string(&short).unwrap(), rule);
            let train = crate::TrainConfig { optimizer: short, ..crate::TrainConfig::new(5) };
            let expected = format!(
                "steps = 5\nlog_every = 100\nevaluate_every = 0\ncheckpoint_every = 1000\nkeep = 2\n\n[optimizer]\n{rule}"
            );
            assert_eq!(crate::config::to_toml(&train).unwrap(), expected);
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
