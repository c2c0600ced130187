//! Estimators by the name they have in a configuration.
use serde::{Deserialize, Serialize};

use super::{
    Enumerate, Estimator, GumbelSoftmax, LeaveOneOut, StraightThrough, StraightThroughGumbelSoftmax,
};
use crate::Schedule;

/// An estimator whose temperatures depend on the step: what a configuration file says.
///
/// ```
/// let method: gumbel::estimators::Method = toml::from_str(r#"
///     method = "gumbel-softmax"
///     temperature = { kind = "exponential", start = 1.0, floor = 0.5, rate = 1e-5, every = 1000 }
/// "#)?;
/// assert!(!method.at(0).is_unbiased());
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Method {
    /// [`GumbelSoftmax`].
    GumbelSoftmax {
        /// Number of samples `S`.
        #[serde(default = "one")]
        samples: usize,
        /// Temperature of the posterior.
        temperature: Schedule,
        /// Temperature of the prior where its density is used; that of the posterior if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prior_temperature: Option<Schedule>,
    },
    /// [`StraightThroughGumbelSoftmax`].
    StraightThroughGumbelSoftmax {
        /// Number of samples `S`.
        #[serde(default = "one")]
        samples: usize,
        /// Temperature of the backward pass.
        temperature: Schedule,
    },
    /// [`StraightThrough`].
    StraightThrough {
        /// Number of samples `S`.
        #[serde(default = "one")]
        samples: usize,
    },
    /// [`LeaveOneOut`].
    LeaveOneOut {
        /// Number of samples `S ≥ 2`.
        samples: usize,
    },
    /// [`Enumerate`].
    Enumerate {
        /// Number of samples `S` of the bound.
        #[serde(default = "one")]
        samples: usize,
    },
}

fn one() -> usize {
    1
}

impl Method {
    /// The estimator at a training step.
    #[must_use]
    pub fn at(&self, step: u64) -> Box<dyn Estimator> {
        match *self {
            Self::GumbelSoftmax { samples, temperature, prior_temperature } => {
                Box::new(GumbelSoftmax {
                    samples,
                    temperature: temperature.at(step),
                    prior_temperature: prior_temperature.unwrap_or(temperature).at(step),
                })
            }
            Self::StraightThroughGumbelSoftmax { samples, temperature } => {
                Box::new(StraightThroughGumbelSoftmax {
                    samples,
                    temperature: temperature.at(step),
                })
            }
            Self::StraightThrough { samples } => Box::new(StraightThrough { samples }),
            Self::LeaveOneOut { samples } => Box::new(LeaveOneOut { samples }),
            Self::Enumerate { samples } => Box::new(Enumerate { samples }),
        }
    }

    /// What is wrong with the settings, if anything: key, value, what to do.
    ///
    /// # Errors
    /// If there are too few samples, or a temperature is not positive and finite at every step.
    pub fn check(&self) -> Result<(), String> {
        let least = if matches!(self, Self::LeaveOneOut { .. }) { 2 } else { 1 };
        let samples = self.samples();
        if samples < least {
            return Err(format!("samples is {samples}; use at least {least}"));
        }
        let (temperature, prior) = match *self {
            Self::GumbelSoftmax { temperature, prior_temperature, .. } => {
                (Some(temperature), prior_temperature)
            }
            Self::StraightThroughGumbelSoftmax { temperature, .. } => (Some(temperature), None),
            Self::StraightThrough { .. } | Self::LeaveOneOut { .. } | Self::Enumerate { .. } => {
                (None, None)
            }
        };
        for (key, schedule) in [("temperature", temperature), ("prior_temperature", prior)] {
            let Some((low, high)) = schedule.map(|schedule| schedule.range()) else { continue };
            if !(low > 0. && high.is_finite()) {
                return Err(format!(
                    "{key} runs through [{low}, {high}]; keep it positive and finite at every step"
                ));
            }
        }
        Ok(())
    }

    /// Number of samples `S`.
    #[must_use]
    pub fn samples(&self) -> usize {
        match *self {
            Self::GumbelSoftmax { samples, .. }
            | Self::StraightThroughGumbelSoftmax { samples, .. }
            | Self::StraightThrough { samples }
            | Self::LeaveOneOut { samples }
            | Self::Enumerate { samples } => samples,
        }
    }

    /// The posterior's temperature at a step, of an estimator that has one.
    #[must_use]
    pub fn temperature_at(&self, step: u64) -> Option<f64> {
        match self {
            Self::GumbelSoftmax { temperature, .. }
            | Self::StraightThroughGumbelSoftmax { temperature, .. } => Some(temperature.at(step)),
            Self::StraightThrough { .. } | Self::LeaveOneOut { .. } | Self::Enumerate { .. } => {
                None
            }
        }
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
        assert!(toml::from_str::<Method>("method = \"reinforce\"").is_err());
        let method: Method = toml::from_str("method = \"straight-through\"").unwrap();
        assert_eq!(method, Method::StraightThrough { samples: 1 });
    }
}
