//! Estimators by the name they have in a configuration.
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

/// What the variants of [`Method`] have in common.
struct Settings {
    samples: usize,
    /// Fewer samples than this make no estimate.
    least_samples: usize,
    /// Positive settings that depend on the step, the temperature of the posterior first, by key.
    schedules: Vec<(&'static str, Schedule)>,
    signal: Option<SignalConfig>,
    hidden: Option<usize>,
    copies: Option<usize>,
}

impl Method {
    /// The temperature that draws are made at. Those of control variates change by learning.
    pub(crate) fn posterior_temperature(&self) -> Option<Schedule> {
        if matches!(self, Self::Rebar { .. } | Self::Relax { .. }) {
            return None;
        }
        let schedules = self.settings().schedules;
        schedules.into_iter().find(|(key, _)| *key == "temperature").map(|(_, schedule)| schedule)
    }

    fn settings(&self) -> Settings {
        let plain = |samples| Settings {
            samples,
            least_samples: 1,
            schedules: vec![],
            signal: None,
            hidden: None,
            copies: None,
        };
        let constant = |temperature| vec![("temperature", Schedule::constant(temperature))];
        match *self {
            Self::GumbelSoftmax { samples, temperature, prior_temperature, .. } => {
                let prior = prior_temperature.map(|prior| ("prior_temperature", prior));
                let schedules = [("temperature", temperature)].into_iter().chain(prior).collect();
                Settings { schedules, ..plain(samples) }
            }
            Self::StraightThroughGumbelSoftmax { samples, temperature }
            | Self::GappedStraightThrough { samples, temperature, .. }
            | Self::GumbelRao { samples, temperature, .. }
            | Self::ReinMaxRao { samples, temperature, .. }
            | Self::GumbelSparsemax { samples, temperature }
            | Self::GumbelEntmax { samples, temperature }
            | Self::InvertibleGaussian { samples, temperature }
            | Self::ReinMax { samples, temperature } => {
                Settings { schedules: vec![("temperature", temperature)], ..plain(samples) }
            }
            Self::SlopeAnnealedStraightThrough { samples, slope } => {
                Settings { schedules: vec![("slope", slope)], ..plain(samples) }
            }
            Self::DecoupledStraightThroughGumbelSoftmax {
                samples,
                forward_temperature,
                backward_temperature,
            } => Settings {
                schedules: vec![
                    ("forward_temperature", forward_temperature),
                    ("backward_temperature", backward_temperature),
                ],
                ..plain(samples)
            },
            Self::Reinforce { samples, signal } | Self::MuProp { samples, signal } => {
                Settings { signal: Some(signal), ..plain(samples) }
            }
            Self::Nvil { samples, signal, hidden } => {
                Settings { signal: Some(signal), hidden: Some(hidden), ..plain(samples) }
            }
            Self::LeaveOneOut { samples } | Self::DoubleControlVariates { samples } => {
                Settings { least_samples: 2, ..plain(samples) }
            }
            Self::Rodeo { samples, hidden } => {
                Settings { least_samples: 2, hidden: Some(hidden), ..plain(samples) }
            }
            Self::Arms { samples, copies } | Self::Carms { samples, copies } => {
                Settings { copies: Some(copies), ..plain(samples) }
            }
            Self::SumAndSample { .. } => plain(1),
            Self::Rebar { samples, temperature } => {
                Settings { schedules: constant(temperature), ..plain(samples) }
            }
            Self::Relax { samples, temperature, hidden } => Settings {
                schedules: constant(temperature),
                hidden: Some(hidden),
                ..plain(samples)
            },
            Self::StraightThrough { samples }
            | Self::Zgr { samples }
            | Self::Darn { samples }
            | Self::Arm { samples }
            | Self::DisArm { samples }
            | Self::Enumerate { samples } => plain(samples),
        }
    }

    /// What is wrong with the settings, if anything: key, value, what to do.
    ///
    /// # Errors
    /// If there are too few samples or units, a temperature is not positive and finite at every step, or a
    /// decay is not in `[0, 1)`.
    pub fn check(&self) -> Result<(), String> {
        let settings = self.settings();
        let Settings { samples, least_samples, schedules, signal, hidden, copies } = settings;
        if samples < least_samples {
            return Err(format!("samples is {samples}; use at least {least_samples}"));
        }
        for (key, schedule) in schedules {
            let (low, high) = schedule.range();
            if !(low > 0. && high.is_finite()) {
                return Err(format!(
                    "{key} runs through [{low}, {high}]; keep it positive and finite at every step"
                ));
            }
        }
        if let Some(SignalConfig { decay, .. }) = signal
            && !(0. ..1.).contains(&decay)
        {
            return Err(format!("signal.decay is {decay}; keep it in [0, 1)"));
        }
        if let Some(copies) = copies.filter(|copies| *copies < 2) {
            return Err(format!("copies is {copies}; use at least 2"));
        }
        for (key, value) in [("hidden", hidden), self.count()] {
            if value == Some(0) {
                return Err(format!("{key} is 0; use at least 1"));
            }
        }
        Ok(())
    }

    /// A count that only one method has, by key.
    fn count(&self) -> (&'static str, Option<usize>) {
        match *self {
            Self::GumbelRao { draws, .. } | Self::ReinMaxRao { draws, .. } => {
                ("draws", Some(draws))
            }
            Self::SumAndSample { classes } => ("classes", Some(classes)),
            _ => ("", None),
        }
    }

    /// Number of samples `S`.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.settings().samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_found_before_training() {
        for (text, word) in [
            ("method = \"leave-one-out\"\nsamples = 1", "at least 2"),
            ("method = \"straight-through\"\nsamples = 0", "samples is 0"),
            ("method = \"gumbel-softmax\"\ntemperature = -1", "temperature runs through [-1, -1]"),
            (
                "method = \"gumbel-softmax\"\ntemperature = 1\nprior_temperature = 0",
                "prior_temperature",
            ),
            (
                "method = \"gumbel-softmax\"\n\
                 temperature = { kind = \"exponential\", start = -1.0, floor = 0.5, rate = 0.1, every = 1 }",
                "[-1, 0.5]",
            ),
            ("method = \"reinforce\"\nsignal.decay = 1", "signal.decay is 1"),
            ("method = \"nvil\"\nhidden = 0", "hidden is 0"),
            ("method = \"rebar\"\ntemperature = 0", "temperature"),
            ("method = \"arms\"\ncopies = 1", "copies is 1"),
            ("method = \"gumbel-rao\"\ntemperature = 1\ndraws = 0", "draws is 0"),
        ] {
            let error = toml::from_str::<Method>(text).unwrap().check().unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        let good: Method =
            toml::from_str("method = \"gumbel-softmax\"\ntemperature = 0.5").unwrap();
        assert_eq!(good.check(), Ok(()));
    }

    #[test]
    fn a_setting_that_the_method_does_not_have_is_an_error() {
        let text = "method = \"leave-one-out\"\nsamples = 4\ntemperature = 1.0";
        assert!(toml::from_str::<Method>(text).unwrap_err().to_string().contains("temperature"));
        assert!(toml::from_str::<Method>("method = \"reinforced\"").is_err());
        let method: Method = toml::from_str("method = \"straight-through\"").unwrap();
        assert_eq!(method, Method::StraightThrough { samples: 1 });
    }
}
