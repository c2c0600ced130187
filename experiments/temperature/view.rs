//! The rows of one study, by what they are of.
use std::collections::BTreeMap;

use crate::bounds::{Group, Numbers};
use crate::errors::Point;
use crate::record::{Row, Table};
use crate::study::{Arity, Family};
use crate::train::ENCODER;

/// What a page is made of.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) gradients: &'a Table,
    pub(crate) training: &'a Table,
    pub(crate) identity: &'a str,
    pub(crate) checkpoints: [u64; 4],
}

impl View<'_> {
    /// The step that figures and comparisons are of: a tenth of the training.
    pub(crate) fn tenth(&self) -> u64 {
        self.checkpoints[2]
    }

    fn is_of(&self, row: &Row<'_>, arity: Arity) -> bool {
        row.text("identity") == self.identity
            && row.text("categories") == arity.categories.to_string()
    }

    /// The gradients of one estimator in the encoder of one model, by temperature.
    pub(crate) fn points(&self, (arity, step): (Arity, u64), family: Family) -> Vec<Point> {
        let wanted = |row: &Row<'_>| {
            self.is_of(row, arity)
                && row.text("step") == step.to_string()
                && row.text("estimator") == family.name()
                && row.text("parameters") == ENCODER
        };
        let mut points: Vec<Point> =
            self.gradients.rows().filter(wanted).filter_map(Point::of).collect();
        points.sort_by(|a, b| a.temperature.total_cmp(&b.temperature));
        points
    }

    /// The trained models of an arity: one group for each learner, over its seeds.
    pub(crate) fn groups(&self, arity: Arity) -> Vec<Group> {
        let mut groups: BTreeMap<(String, String), Group> = BTreeMap::new();
        for row in self.training.rows().filter(|row| self.is_of(row, arity)) {
            let (estimator, rule) = (row.text("estimator"), row.text("temperature"));
            let name = (estimator.to_owned(), rule.to_owned());
            let group = groups.entry(name).or_insert_with(|| Group::new(estimator, rule));
            match Numbers::of(row) {
                Some(numbers) => drop(group.seeds.insert(row.number("seed") as u64, numbers)),
                None => group.diverged += 1,
            }
        }
        groups.into_values().collect()
    }
}
