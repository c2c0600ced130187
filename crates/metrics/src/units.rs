//! Conversions out of nats: the only place where another unit appears.

/// Bits per dimension: `nats / (dims · ln 2)`.
///
/// `nats` is a negative log-likelihood of a whole observation (or an upper bound of one, such as the
/// negative ELBO), `dims` its number of dimensions `D`. Infinite or NaN for `dims = 0`.
///
/// ```
/// // A fair coin costs one bit per toss.
/// let nats = 784.0 * 2f64.ln();
/// assert!((gumbel_metrics::bits_per_dim(nats, 784) - 1.0).abs() < 1e-12);
/// ```
#[must_use]
pub fn bits_per_dim(nats: f64, dims: usize) -> f64 {
    nats / (dims as f64 * std::f64::consts::LN_2)
}

/// Perplexity: `exp(mean_nats)`, the size of the uniform choice that is as hard to guess.
///
/// `mean_nats` is a cross-entropy per token, or the entropy of a distribution over codes.
///
/// ```
/// assert!((gumbel_metrics::perplexity(10f64.ln()) - 10.0).abs() < 1e-12);
/// ```
#[must_use]
pub fn perplexity(mean_nats: f64) -> f64 {
    mean_nats.exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_agree_on_uniform_bytes() {
        let nats = 3. * 256f64.ln();
        assert!((bits_per_dim(nats, 3) - 8.).abs() < 1e-12);
        assert!((perplexity(nats / 3.) - 256.).abs() < 1e-9);
        assert_eq!(perplexity(0.), 1.);
        assert!(bits_per_dim(1., 0).is_infinite());
    }
}
