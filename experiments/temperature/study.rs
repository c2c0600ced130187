//! What is measured: models, estimators, temperatures, schedules; and how much of it a budget affords.
use gumbel::Schedule;
use gumbel::estimators::{AdaptiveConfig, Divergence, Estimator, Method};
use gumbel::objectives::ObjectiveConfig;
use gumbel_experiments::Budget;
use gumbel_models::{Activation, CategoricalVaeConfig, Coding, Prior};
use gumbel_training::OptimizerConfig;

/// To be raised by whoever changes code that numbers depend on.
const VERSION: u32 = 1;

/// Models whose latents have 4,096 joint values: categories `n` and variables `N`.
pub(crate) const ARITIES: [Arity; 5] = [
    Arity { categories: 2, variables: 12 },
    Arity { categories: 4, variables: 6 },
    Arity { categories: 8, variables: 4 },
    Arity { categories: 16, variables: 3 },
    Arity { categories: 64, variables: 2 },
];

/// The latents of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arity {
    pub(crate) categories: usize,
    pub(crate) variables: usize,
}

impl std::fmt::Display for Arity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}×{}", self.categories, self.variables)
    }
}

impl Arity {
    pub(crate) fn model(self, hidden: usize) -> CategoricalVaeConfig {
        CategoricalVaeConfig {
            latents: self.variables,
            categories: self.categories,
            encoder: vec![hidden],
            decoder: vec![hidden],
            layers: 1,
            between: Vec::new(),
            centred: false,
            context: None,
            activation: Activation::Relu,
            prior: Prior::Uniform,
            coding: Coding::Bits,
        }
    }
}

/// An estimator with a temperature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    GumbelSoftmax,
    /// Gumbel-Softmax with densities, whose objective is a bound of the relaxed model.
    Concrete,
    StraightThroughGumbelSoftmax,
    GumbelRao,
    Gapped,
    ReinMax,
    ReinMaxRao,
    InvertibleGaussian,
    Sparsemax,
}

/// Draws of conditional noise that Gumbel-Rao averages.
const DRAWS: usize = 16;

impl Family {
    /// Those whose gradients are measured.
    pub(crate) const MEASURED: [Self; 8] = [
        Self::GumbelSoftmax,
        Self::StraightThroughGumbelSoftmax,
        Self::GumbelRao,
        Self::Gapped,
        Self::ReinMax,
        Self::ReinMaxRao,
        Self::InvertibleGaussian,
        Self::Sparsemax,
    ];

    /// Those that models are trained with.
    pub(crate) const TRAINED: [Self; 6] = [
        Self::GumbelSoftmax,
        Self::Concrete,
        Self::StraightThroughGumbelSoftmax,
        Self::GumbelRao,
        Self::ReinMax,
        Self::ReinMaxRao,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::GumbelSoftmax => "Gumbel-Softmax",
            Self::Concrete => "Concrete",
            Self::StraightThroughGumbelSoftmax => "ST-GS",
            Self::GumbelRao => "Gumbel-Rao",
            Self::Gapped => "Gapped ST",
            Self::ReinMax => "ReinMax",
            Self::ReinMaxRao => "ReinMax-Rao",
            Self::InvertibleGaussian => "Invertible Gaussian",
            Self::Sparsemax => "Gumbel-sparsemax",
        }
    }

    pub(crate) fn method(self, temperature: Schedule) -> Method {
        let samples = 1;
        match self {
            Self::GumbelSoftmax | Self::Concrete => Method::GumbelSoftmax {
                samples,
                temperature,
                prior_temperature: None,
                learned_temperature: false,
            },
            Self::StraightThroughGumbelSoftmax => {
                Method::StraightThroughGumbelSoftmax { samples, temperature }
            }
            Self::GumbelRao => Method::GumbelRao { samples, temperature, draws: DRAWS },
            Self::Gapped => {
                Method::GappedStraightThrough { samples, temperature, gap: Default::default() }
            }
            Self::ReinMax => Method::ReinMax { samples, temperature },
            Self::ReinMaxRao => Method::ReinMaxRao { samples, temperature, draws: DRAWS },
            Self::InvertibleGaussian => Method::InvertibleGaussian { samples, temperature },
            Self::Sparsemax => Method::GumbelSparsemax { samples, temperature },
        }
    }

    /// The estimator at a temperature.
    pub(crate) fn estimator(self, temperature: f64) -> candle_core::Result<Box<dyn Estimator>> {
        match self.method(Schedule::constant(temperature)).stateless_at(0) {
            Some(estimator) => Ok(estimator),
            None => candle_core::bail!("{} keeps something from step to step", self.name()),
        }
    }

    /// What is maximised.
    pub(crate) fn objective(self) -> ObjectiveConfig {
        let divergence = match self {
            Self::Concrete => Divergence::Sampled,
            _ => Divergence::Analytic,
        };
        ObjectiveConfig::Elbo { divergence, beta: Schedule::constant(1.) }
    }
}

/// How a model is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Learner {
    /// The exact gradient.
    Exact,
    /// An estimator without a temperature, or with one that is its own business.
    Plain(&'static str, Method),
    /// An estimator at the temperatures of a rule.
    Tempered(Family, Rule),
}

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

impl Learner {
    /// The estimator over `steps`.
    pub(crate) fn method(&self, steps: u64) -> Option<Method> {
        Some(match *self {
            Self::Exact => return None,
            Self::Plain(_, method) => method,
            Self::Tempered(family, rule) => match (family.method(rule.schedule(steps)), rule) {
                (
                    Method::GumbelSoftmax { samples, temperature, prior_temperature, .. },
                    Rule::Learned,
                ) => Method::GumbelSoftmax {
                    samples,
                    temperature,
                    prior_temperature,
                    learned_temperature: true,
                },
                (_, Rule::Decoupled { forward, backward }) => {
                    Method::DecoupledStraightThroughGumbelSoftmax {
                        samples: 1,
                        forward_temperature: Schedule::constant(forward),
                        backward_temperature: Schedule::constant(backward),
                    }
                }
                (method, _) => method,
            },
        })
    }

    /// What is maximised.
    pub(crate) fn objective(&self) -> ObjectiveConfig {
        match self {
            Self::Tempered(family, _) => family.objective(),
            _ => Family::GumbelSoftmax.objective(),
        }
    }

    pub(crate) fn estimator(&self) -> &'static str {
        match self {
            Self::Exact => "exact gradient",
            Self::Plain(name, _) => name,
            Self::Tempered(family, _) => family.name(),
        }
    }

    /// The temperature or its rule; nothing where there is none.
    pub(crate) fn rule(&self) -> String {
        match self {
            Self::Tempered(_, rule) => rule.name(),
            _ => String::new(),
        }
    }

    /// All that estimate the gradient, at the temperatures of `grid`.
    pub(crate) fn all(grid: &[f64]) -> Vec<Self> {
        let fixed = Family::TRAINED
            .into_iter()
            .flat_map(|family| grid.iter().map(move |t| Self::Tempered(family, Rule::Fixed(*t))));
        fixed.chain(Self::race()).collect()
    }

    /// Schedules side by side, and what has no temperature.
    fn race() -> Vec<Self> {
        let adaptive = [10., 100., 1000.].map(Rule::Adaptive);
        let moving = [Rule::Jang, Rule::Linear, Rule::Cosine].into_iter().chain(adaptive);
        let mut race: Vec<Self> = Family::TRAINED
            .into_iter()
            .flat_map(|family| moving.clone().map(move |rule| Self::Tempered(family, rule)))
            .collect();
        race.extend(
            [Family::GumbelSoftmax, Family::Concrete]
                .map(|family| Self::Tempered(family, Rule::Learned)),
        );
        for (forward, backward) in [(0.5, 1.), (1., 0.5), (1., 2.), (2., 1.)] {
            race.push(Self::Tempered(
                Family::StraightThroughGumbelSoftmax,
                Rule::Decoupled { forward, backward },
            ));
        }
        race.extend([
            Self::Plain("straight-through", Method::StraightThrough { samples: 1 }),
            Self::Plain("ZGR", Method::Zgr { samples: 1 }),
            Self::Plain("leave-one-out (S = 4)", Method::LeaveOneOut { samples: 4 }),
            // The rule that minimises the variance, for the estimator that has no bias at any temperature.
            Self::Plain("REBAR", Method::Rebar { samples: 1, temperature: 0.5 }),
        ]);
        race
    }
}

/// Sizes of a study.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) hidden: usize,
    pub(crate) batch: usize,
    pub(crate) steps: u64,
    pub(crate) replicates: usize,
    pub(crate) seeds: u64,
    /// Temperatures at which gradients are measured.
    pub(crate) measured: &'static [f64],
    /// Temperatures that models are trained at.
    pub(crate) trained: &'static [f64],
    /// Learning rate of Adam at the first step.
    pub(crate) learning_rate: f64,
}

/// 0.05 to 5 on a logarithmic grid, as round numbers.
const FINE: [f64; 13] = [0.05, 0.07, 0.1, 0.15, 0.22, 0.33, 0.5, 0.7, 1., 1.5, 2.2, 3.3, 5.];
const MIDDLE: [f64; 9] = [0.1, 0.2, 0.35, 0.5, 0.7, 1., 1.4, 2., 4.];
const COARSE: [f64; 3] = [0.2, 0.7, 2.];

impl Sizes {
    /// What a budget affords.
    pub(crate) fn of(budget: Budget) -> Self {
        match budget {
            Budget::Quick => Self {
                hidden: 32,
                batch: 50,
                steps: 100,
                replicates: 40,
                seeds: 1,
                measured: &COARSE,
                trained: &COARSE,
                learning_rate: 1e-2,
            },
            Budget::Cpu => Self {
                hidden: 64,
                batch: 50,
                steps: 5000,
                replicates: 400,
                seeds: 5,
                measured: &FINE,
                trained: &MIDDLE,
                learning_rate: 1e-3,
            },
            Budget::Full => Self {
                hidden: 200,
                batch: 100,
                steps: 100_000,
                replicates: 2000,
                seeds: 10,
                measured: &FINE,
                trained: &FINE,
                learning_rate: 1e-3,
            },
        }
    }

    /// Learning rate by step.
    pub(crate) fn learning_rates(&self) -> Schedule {
        let start = self.learning_rate;
        Schedule::Cosine { start, end: start / 100., steps: self.steps }
    }

    /// Everything that numbers depend on, but for what is in the name of a row: as many words as there are choices.
    pub(crate) fn description(&self) -> String {
        let Self { hidden, batch, steps, replicates, learning_rate, .. } = self;
        let models = ARITIES.map(|arity| arity.model(*hidden));
        let learners = Learner::all(&[1.]);
        let methods: Vec<_> =
            learners.iter().map(|learner| (learner.method(*steps), learner.objective())).collect();
        let measured = Family::MEASURED.map(|family| family.method(Schedule::constant(1.)));
        format!(
            "{VERSION} {batch} {replicates} {learning_rate} {:?} {:?} {:?} {models:?} {methods:?} {measured:?}",
            self.learning_rates(),
            // How many gradients are averaged is in the name of a row.
            AdaptiveConfig { averaged: 10., ..AdaptiveConfig::default() },
            OptimizerConfig::default(),
        )
    }

    /// Steps after which the model is looked at: at the start, after 1 %, 10 % and all of them.
    pub(crate) fn checkpoints(&self) -> [u64; 4] {
        [0, self.steps / 100, self.steps / 10, self.steps]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_has_as_many_joint_values_and_every_method_its_settings() {
        for arity in ARITIES {
            assert_eq!(arity.categories.pow(arity.variables as u32), 4096, "{arity}");
            assert_eq!(arity.model(10).check(), Ok(()));
        }
        for family in Family::MEASURED.into_iter().chain(Family::TRAINED) {
            assert_eq!(family.method(Schedule::constant(0.5)).check(), Ok(()), "{family:?}");
            assert!(family.estimator(0.5).is_ok(), "{family:?}");
        }
        let learners = Learner::all(&COARSE);
        let mut names: Vec<_> =
            learners.iter().map(|learner| (learner.estimator(), learner.rule())).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count, "two of one name");
        assert!(names.iter().all(|(name, rule)| !name.contains(',') && !rule.contains(',')));
    }

    #[test]
    fn schedules_end_where_they_say() {
        assert!((Rule::Jang.schedule(1000).at(500) - 0.5).abs() < 1e-9);
        assert!((Rule::Jang.schedule(1000).at(250) - 0.5f64.sqrt()).abs() < 1e-9);
        assert!((Rule::Linear.schedule(1000).at(1000) - 0.2).abs() < 1e-9);
        assert_eq!(Rule::Cosine.schedule(1000).at(0), 2.);
    }
}
