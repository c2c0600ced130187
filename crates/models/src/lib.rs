//! Latent-variable models, written as programs over a [`Trace`]. They have no randomness of their own, no
//! loss and no logging: an estimator brings the first, an objective the second.
mod categorical_vae;
#[cfg(test)]
mod check;
mod code_lm;
mod convolution;
mod defaults;
mod encoder;
mod generate;
mod language_model;
mod latents;
mod mlp;
mod segments;
mod semi_supervised;
mod stack;
mod structured_prediction;
mod switch_lm;
mod transformer;

pub use categorical_vae::{CategoricalVae, CategoricalVaeConfig, ContextConfig, Prior};
pub use code_lm::{CodeLm, CodeLmConfig};
pub use generate::{Choice, Written};
pub use language_model::{LanguageModel, Latents};
pub use latents::Coding;
pub use mlp::{Activation, Mlp};
pub use semi_supervised::{ImagesWithLabels, SemiSupervisedVae, SemiSupervisedVaeConfig};
pub use structured_prediction::{StructuredPrediction, StructuredPredictionConfig};
pub use switch_lm::{Emission, SwitchLm, SwitchLmConfig};
pub use transformer::{Sequences, Transformer, TransformerConfig};

use candle_core::{Result, Tensor};
use gumbel::estimators::Trace;

/// A latent-variable model.
pub trait LatentVariableModel {
    /// What one batch looks like.
    type Batch;

    /// Draws the latents from `trace` and returns `log p(x | z): [S, B]` in nats.
    fn log_likelihood(&self, batch: &Self::Batch, trace: &mut Trace<'_>) -> Result<Tensor>;
}

/// The lesson on language, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/language.md")]
struct Language;
