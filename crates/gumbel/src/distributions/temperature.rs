//! Temperatures of relaxed distributions.
use candle_core::{DType, Result, Tensor};

/// A temperature `τ > 0`: a number, or a tensor (learned, or one per variable).
///
/// A tensor broadcasts to the logits *without* their category axis: to `[S | 1, B, N]`; a scalar is the same
/// everywhere. It never enlarges the logits: where they have `B` rows, `[B, 1]` is one temperature for each row,
/// and no result has `B²` rows. A tensor that keeps the category axis as 1, `[S | 1, B, N, 1]`, is taken, too.
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
    /// An error that names the value, unless every value is positive and finite.
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Self::Fixed(value) => check(*value),
            Self::Tensor(t) => {
                let values = t.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
                values.into_iter().try_for_each(check)
            }
        }
    }

    /// Itself, if positive and finite, as something that broadcasts to `logits`; `categories` says whether their
    /// last axis is that of categories.
    pub(crate) fn against(self, logits: &Tensor, categories: bool) -> Result<Self> {
        self.check()?;
        let Self::Tensor(t) = self else { return Ok(self) };
        let shape = logits.dims();
        let keeps_axis = categories && t.rank() == shape.len() && t.dims().last() == Some(&1);
        let wide = if categories && !keeps_axis { t.unsqueeze(t.rank())? } else { t.clone() };
        // From the right: each axis 1 or that of the logits. The samples may be those of the temperature.
        let fits =
            wide.rank() <= shape.len()
                && wide.dims().iter().rev().zip(shape.iter().rev()).enumerate().all(
                    |(i, (t, axis))| *t == 1 || t == axis || (i + 1 == shape.len() && *axis == 1),
                );
        if !fits {
            candle_core::bail!(
                "a temperature of shape {:?} does not broadcast to logits of shape {shape:?} without their \
                 category axis; expand the logits first",
                t.shape()
            )
        }
        Ok(Self::Tensor(wide.to_dtype(logits.dtype())?))
    }

    /// Whether logits `[1 | samples, ..]` of rank `rank` can be drawn `samples` times at this temperature.
    pub(crate) fn allows(&self, samples: usize, rank: usize) -> bool {
        match self {
            Self::Tensor(t) if t.rank() == rank => {
                matches!(t.dims()[0], s if s == 1 || s == samples)
            }
            _ => true,
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

    /// `ln τ`: a scalar, or of the shape of the tensor.
    pub(crate) fn log(&self, like: &Tensor) -> Result<Tensor> {
        match self {
            Self::Fixed(value) => Tensor::new(value.ln(), like.device())?.to_dtype(like.dtype()),
            Self::Tensor(t) => t.log(),
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
    positive("temperature", value).map(|_| ())
}

/// A setting that has to be positive and finite.
pub(crate) fn positive(name: &str, value: f64) -> Result<f64> {
    if value > 0. && value.is_finite() {
        return Ok(value);
    }
    candle_core::bail!("{name} must be positive and finite, got {value}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn only_positive_finite_temperatures_pass() -> Result<()> {
        let logits = Tensor::zeros((1, 2, 2, 3), DType::F64, &Device::Cpu)?;
        for bad in [0., -1., f64::NAN, f64::INFINITY] {
            let error = Temperature::from(bad).against(&logits, true).unwrap_err();
            assert!(error.to_string().contains(&bad.to_string()), "{error}");
            let tensor = Tensor::new(&[1., bad], &Device::Cpu)?;
            let error = Temperature::from(&tensor).against(&logits, true).unwrap_err();
            assert!(error.to_string().contains(&bad.to_string()), "{error}");
        }
        assert!(Temperature::from(0.5).against(&logits, true).is_ok());
        Ok(())
    }

    #[test]
    fn a_tensor_broadcasts_to_the_logits_without_categories_and_never_enlarges_them() -> Result<()>
    {
        let logits = Tensor::zeros((1, 4, 2, 3), DType::F32, &Device::Cpu)?;
        let shape_of = |shape: &[usize]| -> Result<Vec<usize>> {
            let tau = Tensor::ones(shape, DType::F64, &Device::Cpu)?;
            match Temperature::from(&tau).against(&logits, true)? {
                Temperature::Tensor(t) => Ok(t.dims().to_vec()),
                Temperature::Fixed(_) => Ok(vec![]),
            }
        };
        assert_eq!(shape_of(&[])?, [1]);
        assert_eq!(shape_of(&[2])?, [2, 1]);
        assert_eq!(shape_of(&[4, 1])?, [4, 1, 1]);
        assert_eq!(shape_of(&[5, 4, 2])?, [5, 4, 2, 1]); // five samples
        assert_eq!(shape_of(&[1, 4, 1, 1])?, [1, 4, 1, 1]);
        for bad in [&[4][..], &[3, 1], &[1, 4, 2, 3], &[5, 4, 2, 1, 1]] {
            let error = shape_of(bad).unwrap_err().to_string();
            assert!(error.contains("does not broadcast"), "{error}");
        }
        Ok(())
    }
}
