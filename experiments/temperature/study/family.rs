//! Estimators that have a temperature.
use gumbel::Schedule;
use gumbel::estimators::{Divergence, Estimator, Method};
use gumbel::objectives::ObjectiveConfig;

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
