//! Copies of classes that avoid each other.
use candle_core::{DType, Device, Result, Tensor};
use gumbel_kernels::{Key, log_softmax};

use crate::distributions::Categorical;

/// Above this number of categories the orders are too many to average over.
pub(crate) const MOST_CATEGORIES: usize = 16;

/// Classes `[copies, S, B, N, K]` that avoid each other, and for each pair of copies the ratio of independent to
/// joint probability, `[copies, copies, S, B, N]`. On the host, in double precision.
///
/// The categories stand on the unit interval in some order, and a class is where a member of the Dirichlet
/// copula falls. The orders are cyclic ones of rising probability, one for each pair of categories, which puts
/// that pair at the two ends: where members that avoid each other fall. So every pair can occur.
///
/// Source: Dimitriev and Zhou (2021), "CARMS".
pub(crate) fn class_copies(
    q: &Categorical,
    copies: usize,
    samples: usize,
    key: Key,
) -> Result<(Tensor, Tensor)> {
    let (_, b, n, k) = q.logits().dims4()?;
    let logits = q.logits().detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
    let probs = log_softmax(&logits)?.exp()?.flatten_all()?.to_vec1::<f64>()?;
    let couplings: Vec<Coupling> =
        probs.chunks(k.max(1)).map(|row| Coupling::new(row, copies)).collect();
    let draws = samples * b * n;
    let (mut values, mut ratios) =
        (vec![0f64; copies * draws * k], vec![1f64; copies * copies * draws]);
    let (order_key, copula_key) = (key.named("order"), key.named("copula"));
    for draw in 0..draws {
        let Some(coupling) = couplings.get(draw % (b * n).max(1)) else { continue };
        let uniform = |i: usize| copula_key.uniform_at((draw * copies + i) as u64);
        let classes = coupling.draw(order_key.uniform_at(draw as u64), uniform);
        for (i, class) in classes.iter().enumerate() {
            if let Some(value) = values.get_mut((i * draws + draw) * k + class) {
                *value = 1.;
            }
            for (j, other) in classes.iter().enumerate().filter(|(_, other)| *other != class) {
                if let Some(ratio) = ratios.get_mut((i * copies + j) * draws + draw) {
                    *ratio = coupling.ratio(*class, *other);
                }
            }
        }
    }
    let (dtype, device) = (q.logits().dtype(), q.logits().device());
    let tensor = |values: Vec<f64>, shape: &[usize]| {
        Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)?.to_device(device)
    };
    Ok((
        tensor(values, &[copies, samples, b, n, k])?,
        tensor(ratios, &[copies, copies, samples, b, n])?,
    ))
}

/// The joint law of copies of one variable.
struct Coupling {
    probs: Vec<f64>,
    copies: usize,
    orders: Vec<Order>,
}

/// Categories from left to right, and for each category the ends of its interval to the power of `1 / m`.
struct Order {
    categories: Vec<usize>,
    ends: Vec<(f64, f64)>,
}

impl Coupling {
    fn new(probs: &[f64], copies: usize) -> Self {
        let k = probs.len();
        let mut rising: Vec<usize> = (0..k).collect();
        rising.sort_by(|a, b| probs[*a].total_cmp(&probs[*b]));
        let pairs = (0..k).flat_map(|first| (first + 1..k).map(move |last| (first, last)));
        let mut orders: Vec<Order> = pairs
            .map(|(first, last)| {
                // From the first, then cyclically from what follows the last, to the last.
                let others: Vec<usize> = (0..k).filter(|i| *i != first).collect();
                let (up_to, after) = others.split_at(last);
                let places = std::iter::once(&first).chain(after).chain(up_to);
                Order::new(places.map(|place| rising[*place]).collect(), probs, copies)
            })
            .collect();
        if orders.is_empty() {
            orders.push(Order::new(rising, probs, copies));
        }
        Self { probs: probs.to_vec(), copies, orders }
    }

    /// A class for each copy, from a uniform number for the order and one for each copy.
    fn draw(&self, choice: f64, uniform: impl Fn(usize) -> f64) -> Vec<usize> {
        let exponential: Vec<f64> = (0..self.copies).map(|i| -uniform(i).ln()).collect();
        let total: f64 = exponential.iter().sum();
        let which = (choice * self.orders.len() as f64) as usize;
        let order = &self.orders[which.min(self.orders.len() - 1)];
        // s^{1/m} = 1 - d: what is left of the simplex without this member.
        exponential.iter().map(|e| order.class_at(1. - e / total, &self.probs)).collect()
    }

    /// `q(a) q(b) / P(a, b)`, with `P` the mean over the orders.
    fn ratio(&self, a: usize, b: usize) -> f64 {
        let m = self.copies as i32 - 1;
        let joint = |order: &Order| {
            let ((a0, a1), (b0, b1)) = (order.ends[a], order.ends[b]);
            let below = |x: f64, y: f64| (x + y - 1.).max(0.).powi(m);
            below(a1, b1) - below(a0, b1) - below(a1, b0) + below(a0, b0)
        };
        let mean = self.orders.iter().map(joint).sum::<f64>() / self.orders.len() as f64;
        self.probs[a] * self.probs[b] / mean
    }
}

impl Order {
    fn new(categories: Vec<usize>, probs: &[f64], copies: usize) -> Self {
        let power = 1. / (copies as f64 - 1.);
        let mut ends = vec![(0., 0.); probs.len()];
        let (mut from, mut left) = (0f64, 0.);
        for category in &categories {
            from = (from + probs[*category]).min(1.);
            let right = from.powf(power);
            ends[*category] = (left, right);
            left = right;
        }
        // Whatever rounding left out belongs to the last that can be drawn.
        if let Some(last) = categories.iter().rev().find(|category| probs[**category] > 0.) {
            ends[*last].1 = 1.;
        }
        Self { categories, ends }
    }

    fn class_at(&self, place: f64, probs: &[f64]) -> usize {
        let possible = self.categories.iter().filter(|category| probs[**category] > 0.);
        let mut class = 0;
        for category in possible {
            class = *category;
            if place < self.ends[class].1 {
                break;
            }
        }
        class
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_have_the_probability_that_the_ratio_says_and_each_copy_the_law() {
        let probs = [0.5, 0.1, 0.25, 0.15];
        for copies in [2, 4] {
            let coupling = Coupling::new(&probs, copies);
            let (n, key) = (60_000u64, Key::from_seed(1));
            let (mut pairs, mut single) = ([[0f64; 4]; 4], [0f64; 4]);
            for i in 0..n {
                let uniform = |c: usize| key.named("copula").uniform_at(8 * i + c as u64);
                let classes = coupling.draw(key.named("order").uniform_at(i), uniform);
                pairs[classes[0]][classes[1]] += 1. / n as f64;
                single[classes[copies - 1]] += 1. / n as f64;
            }
            for a in 0..4 {
                let error = (probs[a] * (1. - probs[a]) / n as f64).sqrt();
                assert!((single[a] - probs[a]).abs() < 4.5 * error);
                for b in (0..4).filter(|b| *b != a) {
                    let p = probs[a] * probs[b] / coupling.ratio(a, b);
                    assert!(p > 0. && (pairs[a][b] - p).abs() < 4.5 * (p / n as f64).sqrt());
                }
            }
            let repeats: f64 = (0..4).map(|a| pairs[a][a]).sum();
            let independent: f64 = probs.iter().map(|p| p * p).sum();
            assert!(repeats < 0.9 * independent, "{repeats} {independent}");
        }
    }
}
