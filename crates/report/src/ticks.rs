//! Where an axis is labelled.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};

/// A range of numbers with ticks of its own.
pub(crate) struct Ticked {
    range: (f64, f64),
    ticks: Vec<f64>,
}

impl Ticked {
    pub(crate) fn new(range: (f64, f64), count: usize, log: bool) -> Self {
        Self { range, ticks: ticks(range, count, log) }
    }
}

impl Ranged for Ticked {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let (low, high) = self.range;
        // What is beyond the numbers of pixels stays at their end.
        (f64::from(from) + (value - low) / (high - low) * f64::from(to - from)).round() as i32
    }

    fn key_points<H: KeyPointHint>(&self, _: H) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.0..self.range.1
    }
}

/// Steps of a decade that numbers are round at.
const ROUND: [f64; 3] = [1., 2., 5.];

/// About `count` round numbers in `range`; of a logarithmic axis `range` and result are logarithms to the base of ten.
pub(crate) fn ticks((low, high): (f64, f64), count: usize, log: bool) -> Vec<f64> {
    if log {
        let all = decades(low, high, &ROUND);
        let powers = decades(low, high, &[1.]);
        // A decade or two have room for twos and fives.
        return if all.len() <= 2 * count || powers.len() < 2 {
            all
        } else {
            thinned(powers, count)
        };
    }
    let rough = (high - low) / count as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = ROUND.iter().map(|step| step * power).find(|step| *step >= rough * (1. - 1e-9));
    let step = step.unwrap_or(10. * power);
    let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
    (first..=last).map(|tick| tick as f64 * step).collect()
}

/// Logarithms of `steps` times each power of ten.
fn decades(low: f64, high: f64, steps: &[f64]) -> Vec<f64> {
    let powers = low.floor() as i32..=high.floor() as i32;
    let each = powers.flat_map(|power| steps.iter().map(move |s| f64::from(power) + s.log10()));
    each.filter(|log| (low..=high).contains(log)).collect()
}

fn thinned(ticks: Vec<f64>, count: usize) -> Vec<f64> {
    let every = ticks.len().div_ceil(count.max(1));
    ticks.into_iter().step_by(every.max(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within_the_range() {
        let linear = ticks((-103.2, -98.9), 5, false);
        assert_eq!(linear, [-103., -102., -101., -100., -99.]);
        assert_eq!(ticks((0., 5000.), 5, false).len(), 6);
        let numbers = |range, count| -> Vec<f64> {
            let logs = ticks(range, count, true);
            logs.into_iter().map(|log| (10f64.powf(log) * 1e6).round() / 1e6).collect()
        };
        assert_eq!(
            numbers((0.05f64.log10() - 0.1, 5f64.log10() + 0.1), 5),
            [0.05, 0.1, 0.2, 0.5, 1., 2., 5.]
        );
        assert_eq!(numbers((-4.5, 3.5), 4), [0.0001, 0.01, 1., 100.]);
        assert!(ticks((1., 1.), 5, false).len() <= 1);
        assert!(ticks((0.31, 0.32), 5, true).is_empty());
    }
}
