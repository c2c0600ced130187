//! Numbers that depend on the step.
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
///
/// In a configuration it is a table with a `kind`, or a number for a constant.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields, remote = "Self")]
#[non_exhaustive]
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
    /// From `start` to `end` along a straight line over the first `ramp` of each period of `steps` steps, `end` for the
    /// rest of it; `end` from the last of `cycles` periods on. Source: Fu et al. (2019), section 4.
    Cyclical {
        /// Value at the first step of each period.
        start: f64,
        /// Value at the end of each period.
        end: f64,
        /// Steps of a period.
        steps: u64,
        /// Number of periods.
        cycles: u64,
        /// Share of a period in which the value moves; ½ in the paper.
        #[serde(default = "half")]
        ramp: f64,
    },
    /// From `start` by exponential decay, which stops at `floor`.
    ///
    /// With `t` the step, rounded down to a multiple of `every`, the value is:
    ///
    /// ```math
    /// \max\bigl(\mathrm{floor},\ \mathrm{start} \cdot e^{-\mathrm{rate} \cdot t}\bigr)
    /// ```
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

    /// The smallest and the largest value that the schedule runs through.
    ///
    /// NaN where one of its numbers is NaN, or the share of a period is none.
    #[must_use]
    pub fn range(&self) -> (f64, f64) {
        let (a, b) = match *self {
            Self::Constant { value } => (value, value),
            Self::Linear { start, end, .. }
            | Self::Cosine { start, end, .. }
            | Self::Cyclical { start, end, ramp: 0.0..=1.0, .. } => (start, end),
            Self::Cyclical { .. } => (f64::NAN, f64::NAN),
            Self::Exponential { start, floor, rate, .. } if rate >= 0. => (start, floor),
            // It grows for ever.
            Self::Exponential { start, floor, rate, .. } => {
                (start.min(floor), rate * f64::NEG_INFINITY)
            }
        };
        if a.is_nan() || b.is_nan() { (f64::NAN, f64::NAN) } else { (a.min(b), a.max(b)) }
    }

    /// What is wrong with the schedule of `key`, if anything.
    ///
    /// # Errors
    /// If it runs through numbers that are negative, not finite or above `most`.
    pub fn check(&self, key: &str, most: f64) -> Result<(), String> {
        let (low, high) = self.range();
        if low >= 0. && high <= most {
            return Ok(());
        }
        let wanted = match most {
            f64::MAX => "finite numbers from 0 on".to_owned(),
            most => format!("numbers from 0 to {most}"),
        };
        Err(format!("{key} runs through [{low}, {high}]; use {wanted}"))
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
            Self::Cyclical { start, end, steps, cycles, ramp } => {
                let share = progress(step.checked_rem(steps).unwrap_or(0), steps) / ramp;
                // Not a number where the ramp is 0 and has not begun.
                let climbing = step / steps.max(1) < cycles && share < 1.;
                if climbing { start + (end - start) * share } else { end }
            }
            Self::Exponential { start, floor, rate, every } => {
                let every = every.max(1);
                (start * (-rate * (step / every * every) as f64).exp()).max(floor)
            }
        }
    }
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The derived one, named like a method of this type because of `remote = "Self"`.
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrTable;

        impl<'de> Visitor<'de> for NumberOrTable {
            type Value = Schedule;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number, or a table such as { kind = \"constant\", value = 0.5 }")
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Schedule, E> {
                Ok(Schedule::constant(value))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Schedule, E> {
                Ok(Schedule::constant(value as f64))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Schedule, E> {
                Ok(Schedule::constant(value as f64))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Schedule, A::Error> {
                Schedule::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_any(NumberOrTable)
    }
}

fn half() -> f64 {
    0.5
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
    fn cycles_start_again_until_the_last_is_over() {
        let beta: Schedule =
            toml::from_str("kind = \"cyclical\"\nstart = 0\nend = 1\nsteps = 10\ncycles = 3")
                .unwrap();
        for (step, value) in
            [(0, 0.), (1, 0.2), (5, 1.), (9, 1.), (10, 0.), (21, 0.2), (30, 1.), (99, 1.)]
        {
            assert!((beta.at(step) - value).abs() < 1e-12, "{step}: {}", beta.at(step));
        }
        let cliff = Schedule::Cyclical { start: 0., end: 1., steps: 0, cycles: 3, ramp: 0. };
        assert_eq!(cliff.at(0), 1.);
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
    fn a_number_is_a_constant() {
        #[derive(Serialize, Deserialize)]
        struct Config {
            rate: Schedule,
        }
        for (text, value) in [("rate = 1e-3", 1e-3), ("rate = 2", 2.), ("rate = -1", -1.)] {
            let config: Config = toml::from_str(text).unwrap();
            assert_eq!(config.rate, Schedule::constant(value));
            let again: Config = toml::from_str(&toml::to_string(&config).unwrap()).unwrap();
            assert_eq!(config.rate, again.rate);
        }
        let error = toml::from_str::<Config>("rate = \"fast\"").err().unwrap();
        assert!(error.to_string().contains("a number, or a table"), "{error}");
    }

    #[test]
    fn the_range_covers_every_step() {
        let schedules = [
            Schedule::Linear { start: 2., end: 0.5, steps: 10 },
            Schedule::Cosine { start: 0.5, end: 2., steps: 10 },
            Schedule::Cyclical { start: 0., end: 2., steps: 7, cycles: 3, ramp: 0.6 },
            Schedule::Exponential { start: 1., floor: 0.5, rate: 0.1, every: 3 },
            Schedule::Exponential { start: 1., floor: 0.5, rate: -0.1, every: 3 },
        ];
        for schedule in schedules {
            let (low, high) = schedule.range();
            assert!((0..100).all(|step| (low..=high).contains(&schedule.at(step))), "{schedule:?}");
        }
        assert!(Schedule::constant(f64::NAN).range().0.is_nan());
        let wrong = Schedule::Cyclical { start: 0., end: 2., steps: 7, cycles: 3, ramp: -0.5 };
        assert!(wrong.range().0.is_nan());
    }

    #[test]
    fn what_is_negative_too_large_or_without_end_is_refused_with_what_is_allowed() {
        let ramp = |end| Schedule::Linear { start: 1., end, steps: 10 };
        let refused = |schedule: Schedule, most| schedule.check("rate", most).unwrap_err();
        assert_eq!(ramp(2.).check("rate", f64::MAX), Ok(()));
        for (end, range) in
            [(f64::INFINITY, "[1, inf]"), (-1., "[-1, 1]"), (f64::NAN, "[NaN, NaN]")]
        {
            let expected = format!("rate runs through {range}; use finite numbers from 0 on");
            assert_eq!(refused(ramp(end), f64::MAX), expected);
        }
        let growing = Schedule::Exponential { start: 1., floor: 0., rate: -1., every: 1 };
        assert!(refused(growing, f64::MAX).contains("[0, inf]"));
        assert_eq!(refused(ramp(2.), 1.), "rate runs through [1, 2]; use numbers from 0 to 1");
    }

    #[test]
    fn an_unknown_field_is_an_error() {
        let error = toml::from_str::<Schedule>("kind = \"constant\"\nvalu = 1.0").unwrap_err();
        assert!(error.to_string().contains("valu"), "{error}");
    }
}
