//! What the conformance tests share: statistics of samples, numerical derivatives, a reader of Rust tokens.
//!
//! Plain Rust without dependencies, so that nothing here can agree with the library by sharing its code.
//!
//! ```
//! use gumbel_conformance::{kolmogorov_smirnov, normal_cdf};
//! let evenly_spaced = (0..100).map(|i| (f64::from(i) + 0.5) / 100.).collect();
//! assert!(kolmogorov_smirnov(evenly_spaced, |u| u) < 0.1);
//! assert_eq!(normal_cdf(0.), 0.5);
//! ```
mod differences;
mod source;
mod statistics;

pub use differences::central_gradient;
pub use source::lines_with_token;
pub use statistics::{
    KOLMOGOROV_SMIRNOV_CRITICAL, Z_CRITICAL, binomial_z, correlation_z, kolmogorov_smirnov,
    mean_and_error, normal_cdf,
};
