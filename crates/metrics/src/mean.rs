//! Mean and standard error of a stream of numbers.
use candle_core::{DType, Device, Result, Tensor};

/// Mean, variance and standard error of a stream of numbers, without keeping them.
///
/// Welford (1962): `mean ← mean + δ/n`, `M₂ ← M₂ + δ (x - mean)` with `δ = x - mean` before the update.
/// Nothing cancels, also where the mean is large against the spread. A NaN or an infinity put in shows
/// in every result.
///
/// The standard error is that of independent numbers; several samples of one observation are not.
///
/// ```
/// let mut mean = gumbel_metrics::Mean::new();
/// mean.extend([1.0, 2.0, 3.0]);
/// assert_eq!((mean.count(), mean.mean(), mean.variance()), (3, 2.0, 1.0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mean {
    count: u64,
    mean: f64,
    /// `Σ (x - mean)²`.
    squares: f64,
}

impl Mean {
    /// The statistics of an empty stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in one number.
    pub fn push(&mut self, x: f64) {
        self.count += 1;
        let delta = x - self.mean;
        self.mean += delta / self.count as f64;
        self.squares += delta * (x - self.mean);
    }

    /// Takes in every element of a tensor of any shape and number type, in row-major order.
    ///
    /// Copies the tensor to the host.
    pub fn push_tensor(&mut self, values: &Tensor) -> Result<()> {
        let host = values.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        self.extend(host.flatten_all()?.to_vec1::<f64>()?);
        Ok(())
    }

    /// How many numbers came in.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The mean; NaN for an empty stream.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.count == 0 { f64::NAN } else { self.mean }
    }

    /// The unbiased sample variance `Σ (x - mean)² / (n - 1)`; NaN below two numbers.
    #[must_use]
    pub fn variance(&self) -> f64 {
        if self.count < 2 { f64::NAN } else { self.squares / (self.count - 1) as f64 }
    }

    /// The standard error of the mean, `√(variance / n)`; NaN below two numbers.
    #[must_use]
    pub fn standard_error(&self) -> f64 {
        (self.variance() / self.count as f64).sqrt()
    }
}

impl Extend<f64> for Mean {
    fn extend<I: IntoIterator<Item = f64>>(&mut self, values: I) {
        for x in values {
            self.push(x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_offset_does_not_spoil_the_variance() {
        let mut mean = Mean::new();
        mean.extend([4., 7., 13., 16.].map(|x| x + 1e9));
        assert_eq!(mean.mean(), 1e9 + 10.);
        assert_eq!(mean.variance(), 30.);
        assert_eq!(mean.standard_error(), 7.5f64.sqrt());
    }

    #[test]
    fn too_few_numbers_have_no_statistics() {
        let mut mean = Mean::new();
        assert!(mean.mean().is_nan() && mean.variance().is_nan());
        mean.push(3.);
        assert_eq!((mean.mean(), mean.count()), (3., 1));
        assert!(mean.variance().is_nan() && mean.standard_error().is_nan());
    }

    #[test]
    fn a_tensor_counts_element_by_element_whatever_its_layout() -> Result<()> {
        let values = Tensor::new(&[[1u8, 2, 3], [4, 5, 9]], &Device::Cpu)?;
        let mut by_tensor = Mean::new();
        by_tensor.push_tensor(&values.t()?)?;
        let mut by_number = Mean::new();
        by_number.extend([1., 4., 2., 5., 3., 9.]);
        assert_eq!(by_tensor, by_number);
        assert_eq!(by_tensor.mean(), 4.);
        Ok(())
    }

    #[test]
    fn a_non_finite_number_shows() {
        for bad in [f64::NAN, f64::INFINITY] {
            let mut mean = Mean::new();
            mean.extend([1., bad, 2.]);
            assert!(!mean.mean().is_finite() && !mean.variance().is_finite());
        }
    }
}
