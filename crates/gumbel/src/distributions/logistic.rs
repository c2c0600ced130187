//! The logistic distribution.
use candle_core::{DType, Device, Result, Shape, Tensor};
use gumbel_kernels::{Key, Real};

use super::location_scale::LocationScale;

/// `Logistic(loc, scale)`: the law of the difference of two Gumbel variables.
///
/// Its density is, with `z = (x - loc) / scale`:
///
/// ```math
/// f(x) = \frac{e^{-z}}{\mathrm{scale}\, (1 + e^{-z})^2}
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Logistic(LocationScale);

impl Logistic {
    /// From the centre `loc` and a positive `scale`.
    ///
    /// # Errors
    /// If `loc` is not finite or `scale` not positive and finite.
    pub fn new(loc: f64, scale: f64) -> Result<Self> {
        LocationScale::new(loc, scale).map(Self)
    }

    /// Independent samples.
    pub fn sample(
        &self,
        shape: impl Into<Shape>,
        dtype: DType,
        device: &Device,
        key: Key,
    ) -> Result<Tensor> {
        key.logistic(shape, dtype, device)?.affine(self.0.scale, self.0.loc)
    }

    /// `log f(x)`, in nats.
    #[must_use]
    pub fn log_density(&self, x: f64) -> f64 {
        let z = self.0.z(x);
        -z.softplus() - (-z).softplus() - self.0.scale.ln()
    }

    /// `log P(X ≤ x) = -ln(1 + e^{-z})`.
    #[must_use]
    pub fn log_cdf(&self, x: f64) -> f64 {
        -(-self.0.z(x)).softplus()
    }

    /// `log P(X > x) = -ln(1 + e^z)`.
    #[must_use]
    pub fn log_survival(&self, x: f64) -> f64 {
        -self.0.z(x).softplus()
    }

    /// `loc`, which is also the mode and the median.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.0.loc
    }

    /// `π² scale² / 3`.
    #[must_use]
    pub fn variance(&self) -> f64 {
        (std::f64::consts::PI * self.0.scale).powi(2) / 3.
    }

    /// Differential entropy `ln scale + 2`, in nats.
    #[must_use]
    pub fn entropy(&self) -> f64 {
        self.0.scale.ln() + 2.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cdf_and_survival_sum_to_one() -> Result<()> {
        let l = Logistic::new(1., 2.)?;
        for x in [-800., -1., 1., 40.] {
            assert!((l.log_cdf(x).exp() + l.log_survival(x).exp() - 1.).abs() < 1e-14);
            assert!(l.log_density(x).is_finite());
        }
        assert!(Logistic::new(0., -1.).is_err());
        Ok(())
    }
}
