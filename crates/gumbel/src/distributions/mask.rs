//! Categories that are impossible.
use std::collections::BTreeMap;

use candle_core::{D, DType, Result, Tensor};
use gumbel_kernels::one_hot_argmax;
use gumbel_kernels::optimizer::all_finite;

/// `logits` with `-∞` where `mask` is 0: a category that is impossible.
///
/// `mask` holds 0 and 1 (`U8`, as comparisons of tensors give) and broadcasts to `logits`. Everything that takes
/// logits leaves such a category out: it is never drawn, its probability is 0, and the gradient in its logit
/// is exactly 0, whatever flows in. Rows of different length ("ragged") are rows with a mask.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use gumbel::{Key, gumbel_softmax, mask_logits};
/// let logits = Tensor::new(&[[1f32, 2., 0.5], [0.1, 0., 3.]], &Device::Cpu)?;
/// let mask = Tensor::new(&[[1u8, 1, 1], [1, 1, 0]], &Device::Cpu)?;
/// let y = gumbel_softmax(&mask_logits(&logits, &mask)?, 0.5, false, 1, Key::from_seed(1))?;
/// assert_eq!(y.to_vec2::<f32>()?[1][2], 0.);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// If the mask is not of dtype `U8`, or does not broadcast to the logits. A row with no category left is an
/// error of whatever uses it, which names the row.
pub fn mask_logits(logits: &Tensor, mask: &Tensor) -> Result<Tensor> {
    if mask.dtype() != DType::U8 {
        candle_core::bail!(
            "expected a mask of dtype U8, got {:?}; compare, or convert",
            mask.dtype()
        )
    }
    let Ok(mask) = mask.broadcast_as(logits.shape()) else {
        candle_core::bail!(
            "a mask of shape {:?} does not broadcast to logits of shape {:?}",
            mask.shape(),
            logits.shape()
        )
    };
    mask.where_cond(logits, &filled(f64::NEG_INFINITY, logits)?)
}

/// `x` where `mask` is 1, 0 elsewhere, whatever `x` is there. Shapes broadcast.
pub(crate) fn zero_masked(x: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let shape = x.shape().broadcast_shape_binary_op(mask.shape(), "zero_masked")?;
    let x = x.broadcast_as(&shape)?;
    mask.broadcast_as(&shape)?.where_cond(&x, &filled(0., &x)?)
}

fn filled(value: f64, like: &Tensor) -> Result<Tensor> {
    let value = Tensor::new(value, like.device())?.to_dtype(like.dtype())?;
    value.broadcast_as(like.shape())
}

/// Which categories are possible, where not all are.
#[derive(Clone, Debug)]
pub(crate) struct Support {
    /// 1 for a possible category: `[.., K]`, of dtype `U8`.
    pub(crate) mask: Tensor,
    /// Number of possible categories of each row.
    counts: Vec<usize>,
}

impl Support {
    /// That of `logits: [.., K]`; `None` where no category is masked.
    ///
    /// # Errors
    /// If a row has no category left.
    pub(crate) fn of(logits: &Tensor) -> Result<Option<Self>> {
        let logits = logits.detach();
        if !has_minus_infinity(&logits)? {
            return Ok(None);
        }
        // An error that names the row, where a row has no category left.
        one_hot_argmax(&logits)?;
        let mask = logits.ne(f64::NEG_INFINITY)?;
        let counts = mask.to_dtype(DType::U32)?.sum(D::Minus1)?.flatten_all()?.to_vec1::<u32>()?;
        let counts: Vec<usize> = counts.into_iter().map(|count| count as usize).collect();
        let all = logits.dim(D::Minus1)?;
        Ok(counts.iter().any(|count| *count < all).then_some(Self { mask, counts }))
    }

    /// `f(number of possible categories)` for each row: `[.., 1]`, of the dtype of `like`.
    pub(crate) fn of_counts(&self, like: &Tensor, f: impl Fn(usize) -> f64) -> Result<Tensor> {
        let mut known = BTreeMap::new();
        let values: Vec<f64> = self
            .counts
            .iter()
            .map(|count| *known.entry(*count).or_insert_with(|| f(*count)))
            .collect();
        let mut shape = self.mask.dims().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = 1;
        }
        Tensor::from_vec(values, shape, like.device())?.to_dtype(like.dtype())
    }

    /// Whether two laws mask the same categories.
    pub(crate) fn same(a: Option<&Self>, b: Option<&Self>) -> Result<bool> {
        match (a, b) {
            (None, None) => Ok(true),
            (Some(a), Some(b)) => {
                Ok(a.mask.broadcast_ne(&b.mask)?.flatten_all()?.max(0)?.to_scalar::<u8>()? == 0)
            }
            _ => Ok(false),
        }
    }
}

/// Whether an entry is `-∞`, and none NaN or `+∞`: sums are much cheaper than a search.
pub(crate) fn has_minus_infinity(x: &Tensor) -> Result<bool> {
    if all_finite(x)? {
        return Ok(false);
    }
    let total = x.detach().sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    Ok(total == f64::NEG_INFINITY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn a_mask_broadcasts_and_stops_every_gradient() -> Result<()> {
        let logits = Var::new(&[[1f64, 2., 3.], [4., 5., 6.]], &Device::Cpu)?;
        let mask = Tensor::new(&[1u8, 0, 1], &Device::Cpu)?;
        let masked = mask_logits(&logits, &mask)?;
        let inf = f64::INFINITY;
        assert_eq!(masked.to_vec2::<f64>()?, [[1., -inf, 3.], [4., -inf, 6.]]);
        // The gradient that flows into the masked entries is not a number.
        let grads = masked.sqr()?.exp()?.log()?.sum_all()?.backward()?;
        let gradient = grads.get(logits.as_tensor()).unwrap().to_vec2::<f64>()?;
        assert!(
            gradient.iter().all(|row| row[1] == 0. && (row[0] - 2.).abs() < 10.),
            "{gradient:?}"
        );
        Ok(())
    }

    #[test]
    fn a_mask_of_another_kind_or_shape_is_an_error_that_says_so() -> Result<()> {
        let logits = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
        let error = mask_logits(&logits, &logits).unwrap_err().to_string();
        assert!(error.contains("U8") && error.contains("F32"), "{error}");
        for shape in [vec![2], vec![4, 2, 3]] {
            let mask = Tensor::ones(shape, DType::U8, &Device::Cpu)?;
            let error = mask_logits(&logits, &mask).unwrap_err().to_string();
            assert!(error.contains("[2, 3]") && error.contains("broadcast"), "{error}");
        }
        Ok(())
    }

    #[test]
    fn support_is_found_and_counted() -> Result<()> {
        let inf = f32::INFINITY;
        let logits = Tensor::new(&[[0f32, -inf, 1.], [0., 1., 2.]], &Device::Cpu)?;
        let support = Support::of(&logits)?.unwrap();
        assert_eq!(support.mask.to_vec2::<u8>()?, [[1, 0, 1], [1, 1, 1]]);
        let counts = support.of_counts(&logits, |count| count as f64)?;
        assert_eq!(counts.to_vec2::<f32>()?, [[2.], [3.]]);
        assert!(Support::of(&logits.narrow(0, 1, 1)?)?.is_none());
        let nothing = Tensor::new(&[[0f32, 1.], [-inf, -inf]], &Device::Cpu)?;
        assert!(Support::of(&nothing).unwrap_err().to_string().contains("row 1"));
        Ok(())
    }
}
