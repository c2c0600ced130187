//! What is measured: models, estimators, temperatures, schedules; and how much of it a budget affords.
mod arity;
mod family;
mod learner;
mod rule;
mod sizes;

pub(crate) use arity::{ARITIES, Arity};
pub(crate) use family::Family;
pub(crate) use learner::Learner;
pub(crate) use rule::Rule;
pub(crate) use sizes::Sizes;
