//! Bounds of trained models: the best temperature, how wide the window is, what a schedule is worth.
use std::collections::BTreeMap;

use gumbel::lab::Estimate;

use crate::errors::{End, lowest};
use crate::record::Row;
use crate::study::Family;

/// What is known of one trained model, nats per image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    pub(crate) test_elbo: f64,
    pub(crate) test_log_likelihood: f64,
    pub(crate) valid_elbo: f64,
    pub(crate) test_objective: f64,
    pub(crate) last_temperature: f64,
    pub(crate) milliseconds: f64,
}

impl Numbers {
    /// None of a model that diverged.
    pub(crate) fn of(row: Row<'_>) -> Option<Self> {
        let numbers = Self {
            test_elbo: row.number("test_elbo"),
            test_log_likelihood: row.number("test_log_likelihood"),
            valid_elbo: row.number("valid_elbo"),
            test_objective: row.number("test_objective"),
            last_temperature: row.number("temperature_at_the_end"),
            milliseconds: row.number("milliseconds_per_step"),
        };
        (numbers.test_elbo.is_finite() && numbers.valid_elbo.is_finite()).then_some(numbers)
    }
}

/// Trained models of one kind, by seed.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) estimator: String,
    /// A temperature or a rule.
    pub(crate) rule: String,
    pub(crate) seeds: BTreeMap<u64, Numbers>,
    pub(crate) diverged: usize,
}

impl Group {
    pub(crate) fn new(estimator: &str, rule: &str) -> Self {
        let (estimator, rule) = (estimator.to_owned(), rule.to_owned());
        Self { estimator, rule, seeds: BTreeMap::new(), diverged: 0 }
    }

    pub(crate) fn temperature(&self) -> Option<f64> {
        self.rule.parse().ok()
    }

    /// Mean over seeds.
    pub(crate) fn mean(&self, of: impl Fn(&Numbers) -> f64) -> Estimate {
        over_seeds(self.seeds.values().map(of))
    }

    fn valid_elbo(&self) -> f64 {
        self.mean(|numbers| numbers.valid_elbo).value
    }

    /// By how much the test ELBO is above that of another, over the seeds that both have: with a seed, initial values, batches
    /// and noise are the same.
    pub(crate) fn above(&self, other: &Self) -> Estimate {
        let pairs = self.seeds.iter().filter_map(|(seed, own)| Some((own, other.seeds.get(seed)?)));
        over_seeds(pairs.map(|(own, other)| own.test_elbo - other.test_elbo))
    }
}

/// Mean and its standard error, which a single number has not.
fn over_seeds(values: impl Iterator<Item = f64>) -> Estimate {
    let values: Vec<f64> = values.collect();
    let n = values.len() as f64;
    let value = values.iter().sum::<f64>() / n;
    let spread: f64 = values.iter().map(|x| (x - value).powi(2)).sum();
    Estimate { value, error: (spread / (n * (n - 1.))).sqrt() }
}

/// Models of one estimator at fixed temperatures, in order, judged on validation images.
pub(crate) struct Fixed<'a> {
    pub(crate) groups: Vec<&'a Group>,
    /// `ln τ`, and the ELBO on validation images.
    curve: Vec<(f64, f64)>,
}

impl<'a> Fixed<'a> {
    /// None where there is no such model.
    pub(crate) fn of(groups: &'a [Group], family: Family) -> Option<Self> {
        let mut placed: Vec<(f64, &Group)> = groups
            .iter()
            .filter(|group| group.estimator == family.name() && !group.seeds.is_empty())
            .filter_map(|group| Some((group.temperature()?.ln(), group)))
            .collect();
        placed.sort_by(|a, b| a.0.total_cmp(&b.0));
        let curve = placed.iter().map(|(log, group)| (*log, group.valid_elbo())).collect();
        let groups: Vec<&Group> = placed.into_iter().map(|(_, group)| group).collect();
        (!groups.is_empty()).then_some(Self { groups, curve })
    }

    fn top(&self) -> usize {
        let by_bound = |a: &usize, b: &usize| self.curve[*a].1.total_cmp(&self.curve[*b].1);
        (0..self.curve.len()).max_by(by_bound).unwrap_or(0)
    }

    /// The best of them.
    pub(crate) fn best(&self) -> &'a Group {
        self.groups[self.top()]
    }

    /// The best temperature, between those of the grid by a parabola in `ln τ`, and the end that it is at.
    pub(crate) fn best_temperature(&self) -> (f64, Option<End>) {
        let loss: Vec<(f64, f64)> = self.curve.iter().map(|(x, y)| (*x, -y)).collect();
        lowest(&loss).map_or((f64::NAN, None), |(log, end)| (log.exp(), end))
    }

    /// The temperatures between which the bound is within `nats` of the best, by a line in `ln τ` between those of the grid; of
    /// each, whether the grid ends before the bound has fallen so far.
    pub(crate) fn window(&self, nats: f64) -> [(f64, Option<End>); 2] {
        let level = self.curve[self.top()].1 - nats;
        let crossing = |step: isize, end: End| {
            let mut at = self.top();
            while let Some(next) = at.checked_add_signed(step).filter(|at| *at < self.curve.len()) {
                let ((x0, y0), (x1, y1)) = (self.curve[at], self.curve[next]);
                if y1 < level {
                    return ((x0 + (x1 - x0) * (y0 - level) / (y0 - y1)).exp(), None);
                }
                at = next;
            }
            (self.curve[at].0.exp(), Some(end))
        };
        [crossing(-1, End::Cold), crossing(1, End::Hot)]
    }

    /// What a temperature loses against the best; none outside the grid.
    pub(crate) fn loss_at(&self, temperature: f64) -> Option<f64> {
        let x = temperature.ln();
        let between = |pair: &&[(f64, f64)]| (pair[0].0 - 1e-9..=pair[1].0 + 1e-9).contains(&x);
        let pair = self.curve.windows(2).find(between)?;
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        Some(self.curve[self.top()].1 - (y0 + (y1 - y0) * (x - x0) / (x1 - x0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(rule: &str, valid: &[f64]) -> Group {
        let mut group = Group::new("ST-GS", rule);
        for (seed, valid) in valid.iter().enumerate() {
            let numbers = Numbers {
                test_elbo: valid - 1.,
                test_log_likelihood: 0.,
                valid_elbo: *valid,
                test_objective: 0.,
                last_temperature: 0.,
                milliseconds: 1.,
            };
            group.seeds.insert(seed as u64, numbers);
        }
        group
    }

    #[test]
    fn windows_end_where_the_bound_has_fallen() {
        let all = [
            group("2", &[-104.]),
            group("0.5", &[-101.]),
            group("1", &[-100.]),
            group("0.25", &[-100.8]),
            group("linear", &[-90.]),
            group("4", &[]),
        ];
        let fixed = Fixed::of(&all, Family::StraightThroughGumbelSoftmax).unwrap();
        assert_eq!((fixed.groups.len(), fixed.best().rule.as_str()), (4, "1"));
        let [(low, cold), (high, hot)] = fixed.window(0.5);
        assert!((low - 0.5f64.sqrt()).abs() < 1e-9 && cold.is_none(), "{low}");
        assert!((high - 2f64.powf(0.125)).abs() < 1e-9 && hot.is_none(), "{high}");
        let [(low, cold), (high, hot)] = fixed.window(10.);
        assert!((low - 0.25).abs() < 1e-9 && (high - 2.).abs() < 1e-9);
        assert_eq!((cold, hot), (Some(End::Cold), Some(End::Hot)));
        assert!((fixed.loss_at(2f64.sqrt()).unwrap() - 2.).abs() < 1e-9);
        assert_eq!((fixed.loss_at(9.), fixed.loss_at(0.1)), (None, None));
        assert!((fixed.loss_at(2.).unwrap() - 4.).abs() < 1e-9);
        let (best, end) = fixed.best_temperature();
        assert!((0.5..2.).contains(&best) && end.is_none());
        assert!(Fixed::of(&all, Family::ReinMax).is_none());
    }

    #[test]
    fn differences_are_over_common_seeds() {
        let (a, b) = (group("1", &[-100., -110., -90.]), group("2", &[-101., -112.]));
        let above = a.above(&b);
        assert!((above.value - 1.5).abs() < 1e-9 && (above.error - 0.5).abs() < 1e-9, "{above:?}");
        assert!(a.above(&group("4", &[])).value.is_nan());
        assert!(group("1", &[-100.]).mean(|n| n.valid_elbo).error.is_nan());
    }
}
