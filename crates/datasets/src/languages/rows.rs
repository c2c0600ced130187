//! Tables of probabilities.

/// The most probabilities of a language.
pub(super) const MOST: usize = 1 << 24;

/// Conditional distributions: rows of probabilities and their logarithms.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    width: usize,
    probs: Vec<f64>,
    logs: Vec<f64>,
}

impl Rows {
    pub(super) fn new(width: usize, probs: Vec<f64>) -> Self {
        let logs = probs.iter().map(|p| p.ln()).collect();
        Self { width, probs, logs }
    }

    pub(super) fn probs(&self, row: usize) -> &[f64] {
        self.probs.get(row * self.width..(row + 1) * self.width).unwrap_or_default()
    }

    /// -∞ of what is not in the table.
    pub(super) fn log(&self, row: usize, symbol: usize) -> f64 {
        if symbol >= self.width {
            return f64::NEG_INFINITY;
        }
        self.logs.get(row * self.width + symbol).copied().unwrap_or(f64::NEG_INFINITY)
    }
}

/// `log Σ exp`, -∞ of nothing.
pub(super) fn log_sum_exp(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let most = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    if most == f64::NEG_INFINITY {
        return most;
    }
    most + terms.map(|x| (x - most).exp()).sum::<f64>().ln()
}
