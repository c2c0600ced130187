//! Streaming statistics and reports for discrete latent-variable models.
//!
//! [`Mean`] and [`CodeUsage`] take values in one at a time or a batch at a time; [`Report`] collects the
//! named numbers of one step; [`JsonLines`] writes them, one JSON object per line. Everything is in nats;
//! other units appear only in [`bits_per_dim`] and [`perplexity`].
//!
//! Invariants: no randomness, no clock, no file. What is written depends on what was put in and on
//! nothing else, so that two equal runs write equal bytes.
//!
//! ```
//! use gumbel_metrics::{JsonLines, Mean, Report};
//! let mut bound = Mean::new();
//! bound.extend([-103.0, -101.0]);
//! let report = Report::new().number("elbo", bound.mean()).number("error", bound.standard_error());
//! let mut lines = JsonLines::new(Vec::new());
//! lines.write(100, "valid", &report.scalars()?)?;
//! assert_eq!(lines.into_inner(), b"{\"step\":100,\"split\":\"valid\",\"elbo\":-102.0,\"error\":1.0}\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
mod agreement;
mod codes;
mod lines;
mod mean;
mod report;
mod units;

pub use agreement::Agreement;
pub use codes::CodeUsage;
pub use lines::JsonLines;
pub use mean::Mean;
pub use report::Report;
pub use units::{bits_per_dim, perplexity};
