//! Estimators by the name they have in a configuration.
mod settings;

use serde::{Deserialize, Serialize};

use super::{Gap, SignalConfig};
use crate::Schedule;

/// An estimator whose settings depend on the step: what a configuration file says.
///
/// ```
/// let method: gumbel::estimators::Method = toml::from_str(r#"
///     method = "gumbel-softmax"
///     temperature = { kind = "exponential", start = 1.0, floor = 0.5, rate = 1e-5, every = 1000 }
/// "#)?;
/// assert_eq!(method.samples(), 1);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Method {
    /// [`GumbelSoftmax`](super::GumbelSoftmax).
    GumbelSoftmax {
        /// Number of samples `S`.
        #[serde(default = "one")]
        samples: usize,
        /// Temperature of the posterior.
        temperature: Schedule,
        /// Temperature of the prior where its density is used; that of the posterior if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prior_temperature: Option<Schedule>,
        /// Whether the temperature of the posterior is a parameter, which starts at that of step 0.
        #[serde(default)]
        learned_temperature: bool,
    },
    /// [`StraightThroughGumbelSoftmax`](super::StraightThroughGumbelSoftmax).
    StraightThroughGumbelSoftmax {
        /// Number of samples `S`.
        #[serde(default = "one")]
        samples: usize,
        /// Temperature of the backward pass.
        temperature: Schedule,
    },
    /// [`StraightThrough`](super::StraightThrough).
    StraightThrough {
        /// Number of samples `S`.
        #[serde(default = "one")]
        samples: usize,
    },
    /// [`SlopeAnnealedStraightThrough`](super::SlopeAnnealedStraightThrough).
    SlopeAnnealedStraightThrough {
        /// Number of samples `S`.
        #[serde(default = "one")]
        samples: usize,
        /// Factor of the logits in the backward pass.
        slope: Schedule,
    },
    /// [`DecoupledStraightThroughGumbelSoftmax`](super::DecoupledStraightThroughGumbelSoftmax).
    DecoupledStraightThroughGumbelSoftmax {
        /// Number of samples `S`.
        #[serde(default = "one")]
        samples: usize,
        /// Temperature of the law that is sampled.
        forward_temperature: Schedule,
        /// Temperature of the backward pass.
        backward_temperature: Schedule,
    },
    /// [`GappedStraightThrough`](super::GappedStraightThrough).
    GappedStraightThrough {
        /// Number of samples `S`.
        #[serde(default = "one")]
        samples: usize,
        /// Temperature of the backward pass.
        temperature: Schedule,
        /// How far the drawn class is ahead: a number of nats, or "probability".
        #[serde(default)]
        gap: Gap,
    },
    /// [`GumbelRao`](super::GumbelRao).
    GumbelRao {
        /// Number of samples `S`.
        #[serde(default = "one")]
        samples: usize,
        /// Temperature of the backward pass.
        temperature: Schedule,
        /// Draws of conditional noise that are averaged.
        #[serde(default = "ten")]
        draws: usize,
    },
    /// [`GumbelSparse`](super::GumbelSparse) with sparsemax.
    GumbelSparsemax {
        /// Number of samples `S`.
        #[serde(default = "one")]
        samples: usize,
        /// Temperature.
        temperature: Schedule,
    },
    /// [`GumbelSparse`](super::GumbelSparse) with entmax at α = 1.5.
    GumbelEntmax {
        /// Number of samples `S`.
        #[serde(default = "one")]
        samples: usize,
        /// Temperature.
        temperature: Schedule,
    },
    /// [`InvertibleGaussianReparameterisation`](super::InvertibleGaussianReparameterisation).
    InvertibleGaussian {
        /// Number of samples `S`.
        #[serde(default = "one")]
        samples: usize,
        /// Temperature.
        temperature: Schedule,
    },
    /// [`Zgr`](super::Zgr).
    Zgr {
        /// Number of samples `S`.
        #[serde(default = "one")]
        samples: usize,
    },
    /// [`ReinMax`](super::ReinMax).
    #[serde(rename = "reinmax")]
    ReinMax {
        /// Number of samples `S`.
        #[serde(default = "one")]
        samples: usize,
        /// Temperature of the probabilities that are averaged with the sample.
        #[serde(default = "unit")]
        temperature: Schedule,
    },
    /// [`ReinMaxRao`](super::ReinMaxRao).
    #[serde(rename = "reinmax-rao")]
    ReinMaxRao {
        /// Number of samples `S`.
        #[serde(default = "one")]
        samples: usize,
        /// Temperature of the backward pass.
        temperature: Schedule,
        /// Draws of conditional noise that are averaged.
        #[serde(default = "ten")]
        draws: usize,
    },
    /// [`Reinforce`](super::Reinforce).
    Reinforce {
        /// Number of samples `S`.
        #[serde(default = "one")]
        samples: usize,
        /// Baseline and scale of the signal.
        #[serde(default)]
        signal: SignalConfig,
    },
    /// [`Nvil`](super::Nvil).
    Nvil {
        /// Number of samples `S`.
        #[serde(default = "one")]
        samples: usize,
        /// Baseline and scale of the signal.
        #[serde(default = "SignalConfig::scaled")]
        signal: SignalConfig,
        /// Units of the network behind each learned baseline.
        #[serde(default = "hundred")]
        hidden: usize,
    },
    /// [`LeaveOneOut`](super::LeaveOneOut).
    LeaveOneOut {
        /// Number of samples `S ≥ 2`.
        samples: usize,
    },
    /// [`MuProp`](super::MuProp).
    #[serde(rename = "muprop")]
    MuProp {
        /// Number of samples `S`.
        #[serde(default = "one")]
        samples: usize,
        /// Baseline and scale of the signal.
        #[serde(default)]
        signal: SignalConfig,
    },
    /// [`Darn`](super::Darn).
    Darn {
        /// Number of samples `S`.
        #[serde(default = "one")]
        samples: usize,
    },
    /// [`Rebar`](super::Rebar).
    Rebar {
        /// Number of samples `S`.
        #[serde(default = "one")]
        samples: usize,
        /// Temperature that the control variate starts with.
        #[serde(default = "half")]
        temperature: f64,
    },
    /// [`Relax`](super::Relax).
    Relax {
        /// Number of samples `S`.
        #[serde(default = "one")]
        samples: usize,
        /// Temperature that the control variate starts with.
        #[serde(default = "half")]
        temperature: f64,
        /// Units of the network in each control variate.
        #[serde(default = "hundred")]
        hidden: usize,
    },
    /// [`Arm`](super::Arm).
    Arm {
        /// Number of samples `S` of the bound, each with an antithetic one.
        #[serde(default = "one")]
        samples: usize,
    },
    /// [`DisArm`](super::DisArm).
    #[serde(rename = "disarm")]
    DisArm {
        /// Number of samples `S` of the bound, each with an antithetic one.
        #[serde(default = "one")]
        samples: usize,
    },
    /// [`Arms`](super::Arms).
    Arms {
        /// Number of samples `S` of the bound.
        #[serde(default = "one")]
        samples: usize,
        /// Antithetic copies of each.
        copies: usize,
    },
    /// [`Carms`](super::Carms).
    Carms {
        /// Number of samples `S` of the bound.
        #[serde(default = "one")]
        samples: usize,
        /// Antithetic copies of each.
        copies: usize,
    },
    /// [`DoubleControlVariates`](super::DoubleControlVariates).
    DoubleControlVariates {
        /// Number of samples `S ≥ 2`.
        samples: usize,
    },
    /// [`Rodeo`](super::Rodeo).
    Rodeo {
        /// Number of samples `S ≥ 2`.
        samples: usize,
        /// Units of the learned function in each control variate.
        #[serde(default = "ten")]
        hidden: usize,
    },
    /// [`SumAndSample`](super::SumAndSample).
    SumAndSample {
        /// Values of each variable that are summed over.
        classes: usize,
    },
    /// [`Enumerate`](super::Enumerate).
    Enumerate {
        /// Number of samples `S` of the bound.
        #[serde(default = "one")]
        samples: usize,
    },
}

fn one() -> usize {
    1
}

fn ten() -> usize {
    10
}

fn unit() -> Schedule {
    Schedule::constant(1.)
}

fn hundred() -> usize {
    100
}

fn half() -> f64 {
    0.5
}
