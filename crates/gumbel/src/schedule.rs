//! Numbers that depend on the step.
use serde::{Deserialize, Serialize};

/// A number that depends on the training step: a temperature, a learning rate, the weight of a KL term.
///
/// A pure function of the step, so that a resumed run needs no state for it.
///
/// ```
/// use gumbel::Schedule;
/// // Jang et al. (2017), section 4.2: τ = max(0.5, exp(-r t)), refreshed every N steps.
/// let temperature = Schedule::Exponential { start: 1.0, floor: 0.5, rate: 1e-5, every: 1000 };
/// assert_eq!(temperature.at(999), 1.0);
/// assert_eq!(temperature.at(10_000_000), 0.5);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// `value` at every step.
    Constant {
        /// The value.
        value: f64,
    },
    /// From `start` to `end` along a straight line over `steps` steps, `end` from then on.
    Linear {
        /// Value at step 0.
        start: f64,
        /// Value from step `steps` on.
        end: f64,
        /// Length of the ramp in steps.
        steps: u64,
    },
    /// From `start` to `end` along half a cosine over `steps` steps, `end` from then on.
    Cosine {
        /// Value at step 0.
        start: f64,
        /// Value from step `steps` on.
        end: f64,
        /// Length of the ramp in steps.
        steps: u64,
    },
    /// `max(floor, start · exp(-rate · t))` with `t` the step rounded down to a multiple of `every`.
    Exponential {
        /// Value at step 0.
        start: f64,
        /// Smallest value.
        floor: f64,
        /// Decay per step.
        rate: f64,
        /// Steps between refreshes; 0 is taken as 1.
        every: u64,
    },
}

impl Schedule {
    /// A schedule that never changes.
    #[must_use]
    pub fn constant(value: f64) -> Self {
        Self::Constant { value }
    }

    /// The value at `step`.
    #[must_use]
    pub fn at(&self, step: u64) -> f64 {
        match *self {
            Self::Constant { value } => value,
            Self::Linear { start, end, steps } => start + (end - start) * progress(step, steps),
            Self::Cosine { start, end, steps } => {
                let turn = std::f64::consts::PI * progress(step, steps);
                end + (start - end) * 0.5 * (1. + turn.cos())
            }
            Self::Exponential { start, floor, rate, every } => {
                let every = every.max(1);
                (start * (-rate * (step / every * every) as f64).exp()).max(floor)
            }
        }
    }
}

/// Share of a ramp that is done, in `[0, 1]`.
fn progress(step: u64, steps: u64) -> f64 {
    if step >= steps { 1. } else { step as f64 / steps as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ramps_start_and_end_where_they_say() {
        for schedule in [
            Schedule::Linear { start: 2., end: 0.5, steps: 10 },
            Schedule::Cosine { start: 2., end: 0.5, steps: 10 },
        ] {
            assert_eq!(schedule.at(0), 2.);
            assert!((schedule.at(5) - 1.25).abs() < 1e-12);
            assert_eq!((schedule.at(10), schedule.at(u64::MAX)), (0.5, 0.5));
        }
        assert_eq!(Schedule::Linear { start: 2., end: 0.5, steps: 0 }.at(0), 0.5);
    }

    #[test]
    fn exponential_decay_is_refreshed_every_so_many_steps_and_stops_at_the_floor() {
        let tau = Schedule::Exponential { start: 1., floor: 0.5, rate: 1e-4, every: 1000 };
        assert_eq!(tau.at(999), 1.);
        assert!((tau.at(1000) - (-0.1f64).exp()).abs() < 1e-15);
        assert_eq!(tau.at(1999), tau.at(1000));
        assert_eq!(tau.at(1_000_000), 0.5);
        assert!(Schedule::Exponential { start: 1., floor: 0., rate: 1., every: 0 }.at(1) < 0.4);
    }

    #[test]
    fn an_unknown_field_is_an_error() {
        let error = toml::from_str::<Schedule>("kind = \"constant\"\nvalu = 1.0").unwrap_err();
        assert!(error.to_string().contains("valu"), "{error}");
    }
}
