//! How models are trained.
use gumbel::Schedule;
use gumbel::estimators::Method;
use gumbel::objectives::ObjectiveConfig;

use super::{Family, Rule};

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
