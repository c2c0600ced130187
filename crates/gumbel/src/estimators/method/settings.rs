//! What the methods have in common, and what of it cannot work.
use super::Method;
use crate::Schedule;
use crate::estimators::SignalConfig;

/// What the variants of [`Method`] have in common.
struct Settings {
    samples: usize,
    /// Fewer samples than this make no estimate.
    least_samples: usize,
    /// Positive settings that depend on the step, the temperature of the posterior first, by key.
    schedules: Vec<(&'static str, Schedule)>,
    signal: Option<SignalConfig>,
    /// Key, value, and the least that it may be.
    count: Option<(&'static str, usize, usize)>,
}

impl Method {
    /// The temperature that draws are made at. Those of control variates change by learning.
    pub(crate) fn posterior_temperature(&self) -> Option<Schedule> {
        if matches!(self, Self::Rebar { .. } | Self::Relax { .. }) {
            return None;
        }
        let schedules = self.schedules();
        schedules.into_iter().find(|(key, _)| *key == "temperature").map(|(_, schedule)| schedule)
    }

    fn schedules(&self) -> Vec<(&'static str, Schedule)> {
        match *self {
            Self::GumbelSoftmax { temperature, prior_temperature, .. } => {
                let prior = prior_temperature.map(|prior| ("prior_temperature", prior));
                [("temperature", temperature)].into_iter().chain(prior).collect()
            }
            Self::StraightThroughGumbelSoftmax { temperature, .. }
            | Self::GappedStraightThrough { temperature, .. }
            | Self::GumbelRao { temperature, .. }
            | Self::ReinMaxRao { temperature, .. }
            | Self::GumbelSparsemax { temperature, .. }
            | Self::GumbelEntmax { temperature, .. }
            | Self::InvertibleGaussian { temperature, .. }
            | Self::ReinMax { temperature, .. } => vec![("temperature", temperature)],
            Self::Rebar { temperature, .. } | Self::Relax { temperature, .. } => {
                vec![("temperature", Schedule::constant(temperature))]
            }
            Self::SlopeAnnealedStraightThrough { slope, .. } => vec![("slope", slope)],
            Self::DecoupledStraightThroughGumbelSoftmax {
                forward_temperature,
                backward_temperature,
                ..
            } => vec![
                ("forward_temperature", forward_temperature),
                ("backward_temperature", backward_temperature),
            ],
            Self::StraightThrough { .. }
            | Self::Zgr { .. }
            | Self::Darn { .. }
            | Self::Reinforce { .. }
            | Self::Nvil { .. }
            | Self::MuProp { .. }
            | Self::LeaveOneOut { .. }
            | Self::DoubleControlVariates { .. }
            | Self::Rodeo { .. }
            | Self::Arm { .. }
            | Self::DisArm { .. }
            | Self::Arms { .. }
            | Self::Carms { .. }
            | Self::SumAndSample { .. }
            | Self::Enumerate { .. } => vec![],
        }
    }

    fn settings(&self) -> Settings {
        let plain = |samples| Settings {
            samples,
            least_samples: 1,
            schedules: self.schedules(),
            signal: None,
            count: None,
        };
        match *self {
            Self::Reinforce { samples, signal } | Self::MuProp { samples, signal } => {
                Settings { signal: Some(signal), ..plain(samples) }
            }
            Self::Nvil { samples, signal, hidden } => Settings {
                signal: Some(signal),
                count: Some(("hidden", hidden, 1)),
                ..plain(samples)
            },
            Self::LeaveOneOut { samples } | Self::DoubleControlVariates { samples } => {
                Settings { least_samples: 2, ..plain(samples) }
            }
            Self::Rodeo { samples, hidden } => {
                Settings { least_samples: 2, count: Some(("hidden", hidden, 1)), ..plain(samples) }
            }
            Self::Relax { samples, hidden, .. } => {
                Settings { count: Some(("hidden", hidden, 1)), ..plain(samples) }
            }
            Self::Arms { samples, copies } | Self::Carms { samples, copies } => {
                Settings { count: Some(("copies", copies, 2)), ..plain(samples) }
            }
            Self::GumbelRao { samples, draws, .. } | Self::ReinMaxRao { samples, draws, .. } => {
                Settings { count: Some(("draws", draws, 1)), ..plain(samples) }
            }
            Self::SumAndSample { classes } => {
                Settings { count: Some(("classes", classes, 1)), ..plain(1) }
            }
            Self::GumbelSoftmax { samples, .. }
            | Self::StraightThroughGumbelSoftmax { samples, .. }
            | Self::StraightThrough { samples }
            | Self::SlopeAnnealedStraightThrough { samples, .. }
            | Self::DecoupledStraightThroughGumbelSoftmax { samples, .. }
            | Self::GappedStraightThrough { samples, .. }
            | Self::GumbelSparsemax { samples, .. }
            | Self::GumbelEntmax { samples, .. }
            | Self::InvertibleGaussian { samples, .. }
            | Self::ReinMax { samples, .. }
            | Self::Rebar { samples, .. }
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
        let Settings { samples, least_samples, schedules, signal, count } = self.settings();
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
        match count {
            Some((key, value, least)) if value < least => {
                Err(format!("{key} is {value}; use at least {least}"))
            }
            _ => Ok(()),
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
