//! The units of a study: what is computed by one thread, alone.
use crate::study::{ARITIES, Arity, Family, Learner, Sizes};

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Unit {
    /// Train a model, by a learner and from a seed.
    Train(Arity, Learner, u64),
    /// Measure an estimator at a temperature, on a model that the exact gradient has trained for some steps.
    Measure(Arity, u64, Family, f64),
}

/// The seed whose models gradients are measured on.
pub(crate) const LOOKED_AT: u64 = 1;

impl Unit {
    /// The unit whose models gradients of an arity are measured on.
    fn looked_at(arity: Arity) -> Self {
        Self::Train(arity, Learner::Exact, LOOKED_AT)
    }

    pub(crate) fn is_looked_at(&self) -> bool {
        matches!(self, Self::Train(_, Learner::Exact, LOOKED_AT))
    }
}

/// Those of `units` with `text` in their description, and what they need.
pub(crate) fn wanted(units: &[Unit], text: &str) -> Vec<Unit> {
    let named = |unit: &&Unit| format!("{unit:?}").contains(text);
    let chosen: Vec<&Unit> = units.iter().filter(named).collect();
    let needed = |unit: &&Unit| {
        let measures = |other: &&Unit| match other {
            Unit::Measure(arity, ..) => Unit::looked_at(*arity) == **unit,
            Unit::Train(..) => false,
        };
        chosen.contains(unit) || chosen.iter().any(measures)
    };
    units.iter().filter(needed).cloned().collect()
}

/// All units, first what others need.
pub(crate) fn units(sizes: &Sizes) -> Vec<Unit> {
    // The exact gradient takes as long as forty others, and has no noise that seeds could show: once for each model.
    let mut units: Vec<Unit> = ARITIES.map(Unit::looked_at).to_vec();
    let learners = sizes.learners();
    for seed in 1..=sizes.seeds {
        for arity in ARITIES {
            units.extend(learners.iter().map(|learner| Unit::Train(arity, *learner, seed)));
        }
        if seed == LOOKED_AT {
            for arity in ARITIES {
                for step in sizes.checkpoints() {
                    for family in Family::MEASURED {
                        let each = sizes.measured.iter();
                        units.extend(each.map(|t| Unit::Measure(arity, step, family, *t)));
                    }
                }
            }
        }
    }
    units
}
