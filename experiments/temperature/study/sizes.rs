//! How large a study is, and what its numbers depend on.
use gumbel::Schedule;
use gumbel::estimators::AdaptiveConfig;
use gumbel_experiments::Budget;
use gumbel_training::{AdamConfig, OptimizerConfig};

use super::{ARITIES, Family, Learner, Rule};

/// To be raised by whoever changes code that numbers depend on.
const VERSION: u32 = 1;

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
    /// Hotter ones, for ReinMax alone: it trains best at the hottest that others can be trained at.
    pub(crate) hotter: &'static [f64],
    /// Learning rate of Adam at the first step.
    pub(crate) learning_rate: f64,
}

/// 0.05 to 5 on a logarithmic grid, as round numbers.
const FINE: [f64; 13] = [0.05, 0.07, 0.1, 0.15, 0.22, 0.33, 0.5, 0.7, 1., 1.5, 2.2, 3.3, 5.];
const MIDDLE: [f64; 9] = [0.1, 0.2, 0.35, 0.5, 0.7, 1., 1.4, 2., 4.];
const COARSE: [f64; 3] = [0.2, 0.7, 2.];
const HOTTER: [f64; 3] = [8., 16., 32.];

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
                hotter: &[],
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
                hotter: &HOTTER,
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
                hotter: &HOTTER,
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
            "{VERSION} {batch} {replicates} {learning_rate} {:?} {:?} {} {models:?} {methods:?} {measured:?}",
            self.learning_rates(),
            // How many gradients are averaged is in the name of a row.
            AdaptiveConfig { averaged: 10., ..AdaptiveConfig::default() },
            optimizer(),
        )
    }

    /// Every way to train a model.
    pub(crate) fn learners(&self) -> Vec<Learner> {
        let fixed = |t: &f64| Learner::Tempered(Family::ReinMax, Rule::Fixed(*t));
        Learner::all(self.trained).into_iter().chain(self.hotter.iter().map(fixed)).collect()
    }

    /// Steps after which the model is looked at: at the start, after 1 %, 10 % and all of them.
    pub(crate) fn checkpoints(&self) -> [u64; 4] {
        [0, self.steps / 100, self.steps / 10, self.steps]
    }
}

/// What moves the parameters, in the words of the rows on record, whatever its type is called.
fn optimizer() -> String {
    match OptimizerConfig::default() {
        OptimizerConfig::Adam(AdamConfig { beta1, beta2, epsilon, weight_decay }) => format!(
            "Adam {{ beta1: {beta1:?}, beta2: {beta2:?}, epsilon: {epsilon:?}, weight_decay: {weight_decay:?} }}"
        ),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    /// Whoever changes numbers raises [`VERSION`]; other words alone would make a new study of the same numbers.
    #[test]
    fn the_description_is_in_the_words_of_the_rows_on_record() {
        let digest = Sha256::digest(Sizes::of(Budget::Cpu).description().as_bytes());
        let start: Vec<String> = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(start.concat(), "916a90fa");
    }

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
        let learners = Sizes::of(Budget::Cpu).learners();
        let mut names: Vec<_> =
            learners.iter().map(|learner| (learner.estimator(), learner.rule())).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count, "two of one name");
        assert!(names.iter().all(|(name, rule)| !name.contains(',') && !rule.contains(',')));
    }
}
