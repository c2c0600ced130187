//! Distributions over discrete variables and their relaxations.
//!
//! Shapes: `S` samples, `B` batch, `N` latent variables, `K` categories; the sample axis is 1 where a
//! distribution does not depend on a sample. `rsample` is differentiable, `sample` is not; `log_prob` is of
//! a discrete value, `log_density` of a relaxed one; nats everywhere. Nothing here learns.
//!
//! Logits in half precision are held in `f32`, and so is everything that is computed from them; samples come
//! in the dtype that the logits were given in.
mod bernoulli;
mod bin_concrete;
mod categorical;
mod closed_form;
mod concrete_kl;
mod conditional;
mod discrete;
mod exp_concrete;
mod gumbel;
mod invertible_gaussian;
mod location_scale;
mod logistic;
mod mask;
pub(crate) mod special;
mod stick_breaking;
mod temperature;

pub use bernoulli::Bernoulli;
pub use bin_concrete::BinConcrete;
pub use categorical::Categorical;
pub use conditional::{conditional_gumbel, conditional_logistic};
pub(crate) use conditional::{conditional_gumbel_weight, conditional_logistic_slope};
pub(crate) use discrete::MOST_JOINT_VALUES;
pub use discrete::{Discrete, Relaxed};
pub use exp_concrete::ExpConcrete;
pub use gumbel::Gumbel;
pub use invertible_gaussian::InvertibleGaussian;
pub use logistic::Logistic;
pub use mask::mask_logits;
pub(crate) use mask::{Support, zero_masked};
pub use stick_breaking::StickBreakingGaussian;
pub use temperature::Temperature;
pub(crate) use temperature::positive;
