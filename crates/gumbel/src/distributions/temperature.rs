//! Temperatures of relaxed distributions.
use candle_core::{DType, Result, Tensor};

/// A temperature `τ > 0`: a number, or a tensor (learned, or one per variable).
///
/// A tensor broadcasts against the logits *without* their category axis: `[S | 1, B, N]`, or a scalar.
#[derive(Clone, Debug)]
pub enum Temperature {
    /// The same number everywhere.
    Fixed(f64),
    /// A tensor that may carry a gradient.
    Tensor(Tensor),
}

impl From<f64> for Temperature {
    fn from(value: f64) -> Self {
        Self::Fixed(value)
    }
}

impl From<&Tensor> for Temperature {
    fn from(value: &Tensor) -> Self {
        Self::Tensor(value.clone())
    }
}

impl Temperature {
    /// Itself, if positive and finite; `categories` says whether a category axis has to be added.
    pub(crate) fn checked(self, categories: bool) -> Result<Self> {
        match self {
            Self::Fixed(value) => check(value).map(|()| self),
            Self::Tensor(t) => {
                let values = t.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
                values.into_iter().try_for_each(check)?;
                let axis = t.rank();
                Ok(Self::Tensor(if categories { t.unsqueeze(axis)? } else { t }))
            }
        }
    }

    pub(crate) fn times(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Fixed(value) => x * *value,
            Self::Tensor(t) => x.broadcast_mul(t),
        }
    }

    pub(crate) fn divide(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Fixed(value) => x / *value,
            Self::Tensor(t) => x.broadcast_div(t),
        }
    }

    /// `x + c ln τ`.
    pub(crate) fn add_log(&self, x: &Tensor, c: f64) -> Result<Tensor> {
        match self {
            Self::Fixed(value) => x + c * value.ln(),
            Self::Tensor(t) => x.broadcast_add(&(t.log()? * c)?),
        }
    }

    /// The number, for closed forms that have no gradient in the temperature.
    pub(crate) fn fixed(&self, what: &str) -> Result<f64> {
        match self {
            Self::Fixed(value) => Ok(*value),
            Self::Tensor(_) => candle_core::bail!(
                "{what} has a closed form for a fixed temperature only; use the sampled divergence"
            ),
        }
    }
}

fn check(value: f64) -> Result<()> {
    if value > 0. && value.is_finite() {
        return Ok(());
    }
    candle_core::bail!("temperature must be positive and finite, got {value}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn only_positive_finite_temperatures_pass() -> Result<()> {
        for bad in [0., -1., f64::NAN, f64::INFINITY] {
            let error = Temperature::from(bad).checked(true).unwrap_err();
            assert!(error.to_string().contains(&bad.to_string()), "{error}");
            let tensor = Tensor::new(&[1., bad], &Device::Cpu)?;
            assert!(Temperature::from(&tensor).checked(true).is_err());
        }
        assert!(Temperature::from(0.5).checked(true).is_ok());
        Ok(())
    }
}
