//! What can go wrong with parameters.
use super::Mismatch;
use super::strict::list;

/// What can go wrong with parameters.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParamsError {
    /// There is no parameter of that name.
    #[error("there is no parameter `{name}`; the model has {}", list(known))]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// The tensors to load are not those of this model.
    #[error("these are not the parameters of this model: {0}")]
    Mismatch(#[from] Mismatch),
    /// A value has another shape than its parameter.
    #[error("parameter `{name}` has shape {expected:?}, its new value has {got:?}")]
    Shape {
        /// The parameter.
        name: String,
        /// Its shape.
        expected: Vec<usize>,
        /// The shape of the value.
        got: Vec<usize>,
    },
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl From<ParamsError> for crate::Error {
    /// Exit code 65, bad data, for tensors that do not fit the model; 70, internal, for the rest.
    fn from(error: ParamsError) -> Self {
        match error {
            ParamsError::Tensor(error) => error.into(),
            ParamsError::Mismatch(_) => Self::caller(65, error),
            _ => Self::caller(70, error),
        }
    }
}
