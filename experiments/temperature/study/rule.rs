//! Where temperatures come from.
use gumbel::Schedule;

/// Where the temperature of a training run comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rule {
    Fixed(f64),
    /// `max(0.5, exp(-r t))`, refreshed a hundred times, 0.5 after half the steps (Jang et al. 2017, section 4.2).
    Jang,
    Linear,
    Cosine,
    /// A parameter, moved by the gradient of the objective.
    Learned,
    /// Moved to the least error of as many averaged gradients, see [`gumbel::estimators::AdaptiveTemperature`].
    Adaptive(f64),
    /// Another temperature for the law that is drawn from than for the backward pass.
    Decoupled {
        forward: f64,
        backward: f64,
    },
}

/// Where annealing starts and ends.
const ANNEALED: (f64, f64) = (2., 0.2);

impl Rule {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Fixed(temperature) => format!("{temperature}"),
            Self::Jang => "annealed as by Jang".to_owned(),
            Self::Linear => format!("linear {} to {}", ANNEALED.0, ANNEALED.1),
            Self::Cosine => format!("cosine {} to {}", ANNEALED.0, ANNEALED.1),
            Self::Learned => "learned".to_owned(),
            Self::Adaptive(averaged) => format!("adaptive m = {averaged}"),
            Self::Decoupled { forward, backward } => {
                format!("{forward} forward {backward} backward")
            }
        }
    }

    /// The schedule over `steps`; what it starts with, where it depends on more than the step.
    pub(crate) fn schedule(self, steps: u64) -> Schedule {
        let (start, end) = ANNEALED;
        match self {
            Self::Fixed(temperature) => Schedule::constant(temperature),
            Self::Jang => Schedule::Exponential {
                start: 1.,
                floor: 0.5,
                rate: 2f64.ln() / (steps / 2).max(1) as f64,
                every: (steps / 100).max(1),
            },
            Self::Linear => Schedule::Linear { start, end, steps },
            Self::Cosine => Schedule::Cosine { start, end, steps },
            Self::Learned | Self::Adaptive(_) => Schedule::constant(1.),
            Self::Decoupled { backward, .. } => Schedule::constant(backward),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_end_where_they_say() {
        assert!((Rule::Jang.schedule(1000).at(500) - 0.5).abs() < 1e-9);
        assert!((Rule::Jang.schedule(1000).at(250) - 0.5f64.sqrt()).abs() < 1e-9);
        assert!((Rule::Linear.schedule(1000).at(1000) - 0.2).abs() < 1e-9);
        assert_eq!(Rule::Cosine.schedule(1000).at(0), 2.);
    }
}
