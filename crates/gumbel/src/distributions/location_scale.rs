//! What distributions on the line with a location and a scale have in common.
use candle_core::Result;

/// A location and a positive scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LocationScale {
    pub(crate) loc: f64,
    pub(crate) scale: f64,
}

impl LocationScale {
    pub(crate) fn new(loc: f64, scale: f64) -> Result<Self> {
        if !loc.is_finite() {
            candle_core::bail!("location must be finite, got {loc}")
        }
        if !(scale > 0. && scale.is_finite()) {
            candle_core::bail!("scale must be positive and finite, got {scale}")
        }
        Ok(Self { loc, scale })
    }

    /// `(x - loc) / scale`.
    pub(crate) fn z(&self, x: f64) -> f64 {
        (x - self.loc) / self.scale
    }
}
