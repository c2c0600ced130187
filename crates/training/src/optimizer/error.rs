//! What can go wrong in an update.
use crate::params::Mismatch;

/// What can go wrong in an update.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptimizerError {
    /// A setting outside its range.
    #[error("{name} must be {range}, got {value}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// Its range, in words.
        range: &'static str,
        /// The value.
        value: f64,
    },
    /// A parameter that the loss does not depend on.
    #[error(
        "parameter `{name}` has no gradient: the loss does not depend on it; leave it out of the model"
    )]
    NoGradient {
        /// The first such parameter in name order.
        name: String,
    },
    /// A gradient with a NaN or an infinity in it.
    #[error("the gradient of `{name}` is not finite")]
    NotFinite {
        /// The first such parameter in name order.
        name: String,
    },
    /// A parameter that was defined after the optimiser.
    #[error("parameter `{name}` is unknown to the optimiser; build the whole model before it")]
    Unknown {
        /// The parameter.
        name: String,
    },
    /// The tensors to load are not a state of this optimiser.
    #[error("this is not a state of this optimiser: {0}")]
    Mismatch(#[from] Mismatch),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl From<OptimizerError> for crate::Error {
    /// Exit codes: 2 for a setting, 65 for a state that does not fit, 77 for a gradient that is not finite.
    fn from(error: OptimizerError) -> Self {
        let code = match &error {
            OptimizerError::Setting { .. } => 2,
            OptimizerError::Mismatch(_) => 65,
            OptimizerError::NotFinite { .. } => 77,
            _ => 70,
        };
        Self::caller(code, error)
    }
}
