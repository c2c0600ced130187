//! The Gumbel distribution.
use candle_core::{DType, Device, Result, Shape, Tensor};
use gumbel_kernels::Key;

use super::location_scale::LocationScale;
use super::special::EULER;

/// `Gumbel(loc, scale)`: the law of the largest of many independent variables.
///
/// Its density is, with `z = (x - loc) / scale`:
///
/// ```math
/// f(x) = \frac{\exp\bigl(-(z + e^{-z})\bigr)}{\mathrm{scale}}
/// ```
///
/// `loc` is the mode, not the mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gumbel(LocationScale);

impl Gumbel {
    /// From the mode `loc` and a positive `scale`.
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
        key.gumbel(shape, dtype, device)?.affine(self.0.scale, self.0.loc)
    }

    /// `log f(x)`, in nats.
    #[must_use]
    pub fn log_density(&self, x: f64) -> f64 {
        let z = self.0.z(x);
        -(z + (-z).exp()) - self.0.scale.ln()
    }

    /// `log P(X ≤ x) = -e^{-z}`.
    #[must_use]
    pub fn log_cdf(&self, x: f64) -> f64 {
        -(-self.0.z(x)).exp()
    }

    /// `log P(X > x)`, exact in both tails.
    #[must_use]
    pub fn log_survival(&self, x: f64) -> f64 {
        let t = (-self.0.z(x)).exp();
        if t > std::f64::consts::LN_2 { (-(-t).exp()).ln_1p() } else { (-(-t).exp_m1()).ln() }
    }

    /// `loc + γ scale`.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.0.loc + EULER * self.0.scale
    }

    /// `π² scale² / 6`.
    #[must_use]
    pub fn variance(&self) -> f64 {
        (std::f64::consts::PI * self.0.scale).powi(2) / 6.
    }

    /// Differential entropy `ln scale + γ + 1`, in nats.
    #[must_use]
    pub fn entropy(&self) -> f64 {
        self.0.scale.ln() + EULER + 1.
    }

    /// `loc`.
    #[must_use]
    pub fn mode(&self) -> f64 {
        self.0.loc
    }

    /// `loc - scale ln ln 2`.
    #[must_use]
    pub fn median(&self) -> f64 {
        self.0.loc - self.0.scale * std::f64::consts::LN_2.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cdf_and_survival_sum_to_one() -> Result<()> {
        let g = Gumbel::new(1., 2.)?;
        for x in [-10., -1., 0., 1., 3., 40.] {
            assert!((g.log_cdf(x).exp() + g.log_survival(x).exp() - 1.).abs() < 1e-14);
        }
        assert!((g.log_cdf(g.median()).exp() - 0.5).abs() < 1e-14);
        assert!(Gumbel::new(f64::NAN, 1.).is_err() && Gumbel::new(0., 0.).is_err());
        Ok(())
    }
}
