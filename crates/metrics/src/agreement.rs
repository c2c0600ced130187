//! How far two labellings agree, whatever their labels are called.
use std::collections::BTreeMap;

/// The mutual information of two labellings of the same things, counted from pairs.
///
/// ```
/// use gumbel_metrics::Agreement;
/// let mut agreement = Agreement::new();
/// agreement.extend([(0, 7), (1, 3), (0, 7), (1, 3)]);
/// assert!((agreement.normalised_mutual_information() - 1.0).abs() < 1e-12);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    pairs: BTreeMap<(u32, u32), u64>,
}

impl Agreement {
    /// Nothing counted yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one thing with its two labels.
    pub fn push(&mut self, a: u32, b: u32) {
        *self.pairs.entry((a, b)).or_default() += 1;
    }

    /// `I(a; b)` of the counted frequencies, in nats. With few counts for each pair of labels it is too large: by about
    /// `(A - 1)(B - 1) / 2n` for `A` and `B` labels (Miller 1955).
    #[must_use]
    pub fn mutual_information(&self) -> f64 {
        let (of_a, of_b) = self.entropies();
        (of_a + of_b - entropy(self.pairs.values())).max(0.)
    }

    /// `I(a; b)` over the mean of the two entropies: 0 where one says nothing about the other, 1 where each says all. One
    /// if neither has more than one label.
    ///
    /// Source: Strehl and Ghosh (2002), with the arithmetic mean.
    #[must_use]
    pub fn normalised_mutual_information(&self) -> f64 {
        let (of_a, of_b) = self.entropies();
        if of_a + of_b == 0. { 1. } else { 2. * self.mutual_information() / (of_a + of_b) }
    }

    fn entropies(&self) -> (f64, f64) {
        let (mut of_a, mut of_b) = (BTreeMap::new(), BTreeMap::new());
        for ((a, b), count) in &self.pairs {
            *of_a.entry(a).or_default() += count;
            *of_b.entry(b).or_default() += count;
        }
        (entropy(of_a.values()), entropy(of_b.values()))
    }
}

impl Extend<(u32, u32)> for Agreement {
    fn extend<I: IntoIterator<Item = (u32, u32)>>(&mut self, pairs: I) {
        pairs.into_iter().for_each(|(a, b)| self.push(a, b));
    }
}

/// Entropy of frequencies, in nats.
fn entropy<'a>(counts: impl Iterator<Item = &'a u64> + Clone) -> f64 {
    let total: u64 = counts.clone().sum();
    let term = |count: &u64| {
        let p = *count as f64 / total as f64;
        -p * p.ln()
    };
    counts.map(term).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(pairs: &[(u32, u32, u64)]) -> Agreement {
        let mut agreement = Agreement::new();
        for (a, b, count) in pairs {
            (0..*count).for_each(|_| agreement.push(*a, *b));
        }
        agreement
    }

    #[test]
    fn values_known_by_hand() {
        let ln2 = 2f64.ln();
        let same = counted(&[(0, 5, 3), (1, 2, 3)]);
        assert!((same.mutual_information() - ln2).abs() < 1e-12);
        let none = counted(&[(0, 0, 2), (0, 1, 2), (1, 0, 2), (1, 1, 2)]);
        assert!(none.mutual_information() < 1e-12 && none.normalised_mutual_information() < 1e-12);
        // a splits b in two: I = ln 2, entropies ln 4 and ln 2.
        let finer = counted(&[(0, 0, 1), (1, 0, 1), (2, 1, 1), (3, 1, 1)]);
        assert!((finer.normalised_mutual_information() - 2. / 3.).abs() < 1e-12);
        let constant = counted(&[(0, 0, 2), (0, 1, 2)]);
        assert!(constant.normalised_mutual_information() < 1e-12);
        assert_eq!(Agreement::new().normalised_mutual_information(), 1.);
    }
}
