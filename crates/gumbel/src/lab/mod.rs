//! A laboratory: exact bias and measured variance of any estimator, on any program small enough to enumerate.
//!
//! ```
//! use gumbel::distributions::Bernoulli;
//! use gumbel::estimators::{LeaveOneOut, StraightThrough};
//! use gumbel::{Key, lab, objectives::Elbo};
//!
//! // Three bits with logits of their own, and a likelihood that is not linear in them.
//! let problem = lab::Problem::new(&[0.3, -1.0, 0.5], |logits, trace| {
//!     let q = Bernoulli::from_logits(&logits.unsqueeze(0)?)?; // [1, B, N]
//!     let z = trace.sample("z", &q, &Bernoulli::uniform_like(&q)?)?;
//!     z.sum(2)?.powf(3.)
//! });
//! let measure = |estimator: &dyn gumbel::estimators::Estimator, samples| {
//!     problem.measure(estimator, &Elbo::default(), samples, 20_000, Key::from_seed(1))
//! };
//! assert!(measure(&LeaveOneOut { samples: 2 }, 2)?.check_unbiased(4.5).is_ok());
//! let straight_through = measure(&StraightThrough { samples: 1 }, 1)?;
//! assert!(straight_through.check_unbiased(4.5).unwrap_err().contains("standard errors"));
//! # Ok::<(), candle_core::Error>(())
//! ```
//!
//! [`measure`] does the same for a model of any size and a batch whose exact gradient is known; [`Probe`] in a training
//! run, where it is not.
mod batch;
mod measurement;
mod probe;
mod problem;

pub use batch::{Exact, measure};
pub use measurement::{Estimate, Measurement};
pub use probe::{Bias, Probe, Reading};
pub use problem::Problem;
