//! Elementary symmetric polynomials, in logarithms: what is known of subsets of a fixed size.
use candle_core::Result;

/// A number and its derivative in one direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dual {
    pub(super) value: f64,
    pub(super) slope: f64,
}

impl Dual {
    const LOG_ZERO: Self = Self { value: f64::NEG_INFINITY, slope: 0. };
    const LOG_ONE: Self = Self { value: 0., slope: 0. };

    fn plus(self, other: Self) -> Self {
        Self { value: self.value + other.value, slope: self.slope + other.slope }
    }

    /// `ln(e^a + e^b)`.
    fn log_add(self, other: Self) -> Self {
        let top = self.value.max(other.value);
        if top == f64::NEG_INFINITY {
            return Self::LOG_ZERO;
        }
        let (a, b) = ((self.value - top).exp(), (other.value - top).exp());
        Self { value: top + (a + b).ln(), slope: (a * self.slope + b * other.slope) / (a + b) }
    }
}

/// `table[i][j]`: logarithm of the polynomial of degree `j ≤ size` of the items before `i`.
fn prefixes(row: impl Iterator<Item = Dual>, size: usize) -> Vec<Vec<Dual>> {
    let mut last = vec![Dual::LOG_ZERO; size + 1];
    last[0] = Dual::LOG_ONE;
    let mut table = vec![last.clone()];
    for item in row {
        for j in (1..=size).rev() {
            last[j] = last[j].log_add(last[j - 1].plus(item));
        }
        table.push(last.clone());
    }
    table
}

fn duals<'a>(row: &'a [f64], slope: &'a [f64]) -> impl DoubleEndedIterator<Item = Dual> + 'a {
    let zeros = std::iter::repeat_n(&0., row.len() - slope.len());
    let slopes: Vec<f64> = slope.iter().chain(zeros).copied().collect();
    row.iter()
        .zip(slopes)
        .map(|(value, slope)| Dual { value: *value, slope })
        .collect::<Vec<_>>()
        .into_iter()
}

fn possible(log_partition: f64, size: usize) -> Result<f64> {
    if log_partition == f64::NEG_INFINITY || log_partition.is_nan() {
        candle_core::bail!(
            "fewer than {size} items have a finite logit: there is no subset of that size"
        )
    }
    Ok(log_partition)
}

pub(super) fn log_partition(row: &[f64], size: usize) -> Result<f64> {
    let table = prefixes(duals(row, &[]), size);
    possible(table[row.len()][size].value, size)
}

/// The marginals, and their derivative along `direction` (none: 0).
pub(super) fn marginals(row: &[f64], size: usize, direction: &[f64]) -> Result<Vec<Dual>> {
    let before = prefixes(duals(row, direction), size);
    let after = prefixes(duals(row, direction).rev(), size);
    let total = before[row.len()][size];
    possible(total.value, size)?;
    let marginal = |(i, item): (usize, Dual)| {
        // Of the other items, size - 1 are taken: j before this one, the rest after it.
        let (left, right) = (&before[i], &after[row.len() - 1 - i]);
        let others =
            (0..size).fold(Dual::LOG_ZERO, |sum, j| sum.log_add(left[j].plus(right[size - 1 - j])));
        let log = others.plus(item);
        let value = (log.value - total.value).exp();
        let slope = if value == 0. { 0. } else { value * (log.slope - total.slope) };
        Dual { value, slope }
    };
    Ok(duals(row, direction).enumerate().map(marginal).collect())
}

/// One subset as zeros and ones, item by item.
pub(super) fn draw(row: &[f64], size: usize, uniform: impl Fn(usize) -> f64) -> Result<Vec<f64>> {
    // after[n][j]: the last n items, j of them taken.
    let after = prefixes(duals(row, &[]).rev(), size);
    possible(after[row.len()][size].value, size)?;
    let mut left = size;
    let taken = row.iter().enumerate().map(|(i, item)| {
        let n = row.len() - i;
        if left == 0 {
            return 0.;
        }
        let with = item + after[n - 1][left - 1].value;
        let probability = (with - after[n][left].value).exp();
        let must = after[n - 1][left].value == f64::NEG_INFINITY;
        if must || uniform(i) < probability {
            left -= 1;
            1.
        } else {
            0.
        }
    });
    Ok(taken.collect())
}
