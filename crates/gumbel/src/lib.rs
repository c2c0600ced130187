//! Training with discrete random variables, on candle: Gumbel-Softmax, Concrete and their rivals.
//!
//! 1. A **model** is a program that tells its story to a [`Trace`](estimators::Trace): "draw `z` from q, its
//!    prior is p; given `z`, the data has this log-likelihood".
//! 2. An [`Estimator`](estimators::Estimator) decides how each draw is made and how the gradient flows back.
//! 3. An [`Objective`](estimators::Objective) turns log-weights into a bound.
//!
//! Or take just the functions: [`gumbel_softmax()`], [`sample_categorical`] for training and evaluation in one
//! place, [`mask_logits`] for impossible categories, [`codebook_lookup`]. The differentiable operations that
//! models are made of are in [`kernels`].
//!
//! ```
//! use candle_core::{DType, Device, Var};
//! use gumbel::distributions::Categorical;
//! use gumbel::estimators::{Estimator, LeaveOneOut};
//! use gumbel::{Key, objectives::Elbo};
//!
//! // Which of three arms pays? One variable of three categories, a batch of one.
//! let logits = Var::zeros((1, 1, 1, 3), DType::F32, &Device::Cpu)?;
//! let pay = candle_core::Tensor::new(&[0.1f32, 0.9, 0.3], &Device::Cpu)?;
//! let surrogate = LeaveOneOut { samples: 64 }.surrogate(
//!     &|trace| {
//!         let q = Categorical::from_logits(&logits)?;
//!         let z = trace.sample("arm", &q, &Categorical::uniform_like(&q)?)?; // [S, B, N, K]
//!         z.broadcast_mul(&pay)?.sum((2, 3)) // [S, B]
//!     },
//!     &Elbo::default(),
//!     Key::from_seed(1),
//! )?;
//! let gradient = surrogate.loss.backward()?.get(&logits).cloned();
//! assert_eq!(gradient.unwrap().flatten_all()?.argmin(0)?.to_scalar::<u32>()?, 1);
//! # Ok::<(), candle_core::Error>(())
//! ```
mod codebook;
pub mod distributions;
pub mod estimators;
mod functional;
pub mod lab;
pub mod objectives;
mod schedule;
pub mod structured;

pub use codebook::codebook_lookup;
pub use distributions::mask_logits;
pub use functional::{SampleMode, gumbel_softmax, sample_categorical};
pub use gumbel_kernels as kernels;
pub use gumbel_kernels::Key;
pub use schedule::Schedule;

/// The example of the repository's README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// The lessons for beginners, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/learn.md")]
struct Learn;
