//! The function that users of other libraries know.
use candle_core::shape::Dim;
use candle_core::{D, Result, Tensor};
use gumbel_kernels::{Forward, Key};

/// A Gumbel-Softmax sample of `logits` along the axis `dim`, as PyTorch's function of that name.
///
/// `softmax((logits + G) / tau)` with Gumbel noise `G`; same shape and dtype as `logits` (`f32` or `f64`).
/// With `hard` the value is the one-hot vector of the largest entry, and the gradient that of the soft
/// sample (straight-through, biased). A logit of `-∞` masks a category. All noise comes from `key`: derive
/// one per call (`key.fold_in(step)`).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use gumbel::{Key, gumbel_softmax};
/// let logits = Tensor::new(&[[1f32, 2., 0.5], [0.1, 0., 3.]], &Device::Cpu)?;
/// let soft = gumbel_softmax(&logits, 0.5, false, 1, Key::from_seed(1))?;
/// let hard = gumbel_softmax(&logits, 0.5, true, 1, Key::from_seed(1))?; // the same noise
/// assert_eq!(soft.argmax(1)?.to_vec1::<u32>()?, hard.argmax(1)?.to_vec1::<u32>()?);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// Source: Jang, Gu, Poole (2017), eq. 2 and section 2.2.
///
/// # Errors
/// If `tau` is not positive and finite, `dim` is not an axis of `logits`, or a row has no finite logit.
pub fn gumbel_softmax<I: Dim>(
    logits: &Tensor,
    tau: f64,
    hard: bool,
    dim: I,
    key: Key,
) -> Result<Tensor> {
    let dim = dim.to_index(logits.shape(), "gumbel_softmax")?;
    let forward = if hard { Forward::Hard } else { Forward::Soft };
    let last = logits.rank() - 1;
    let rows = logits.transpose(dim, last)?.unsqueeze(0)?;
    let y = gumbel_kernels::gumbel_softmax(&rows, 1, tau, forward, key)?;
    y.squeeze(0)?.transpose(dim, D::Minus1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Var};

    #[test]
    fn rows_sum_to_one_along_the_axis_asked_for() -> Result<()> {
        let logits = Key::from_seed(1).normal((3, 4, 5), DType::F32, &Device::Cpu)?;
        for dim in 0..3 {
            for hard in [false, true] {
                let y = gumbel_softmax(&logits, 0.7, hard, dim, Key::from_seed(2))?;
                assert_eq!(y.dims(), logits.dims());
                let off = (y.sum(dim)? - 1.)?.abs()?.max_all()?.to_scalar::<f32>()?;
                assert!(off < 1e-6, "{off}");
            }
        }
        assert_eq!(
            gumbel_softmax(&logits.flatten_all()?, 1., true, 0, Key::from_seed(2))?.dims(),
            [60]
        );
        assert!(gumbel_softmax(&logits, 1., true, 3, Key::from_seed(2)).is_err());
        assert!(gumbel_softmax(&logits, 0., true, 2, Key::from_seed(2)).is_err());
        Ok(())
    }

    #[test]
    fn a_hard_sample_has_the_gradient_of_the_soft_one() -> Result<()> {
        let logits =
            Var::from_tensor(&Key::from_seed(1).normal((3, 4), DType::F64, &Device::Cpu)?)?;
        let weights = Key::from_seed(3).normal((3, 4), DType::F64, &Device::Cpu)?;
        let gradient = |hard| {
            let y = gumbel_softmax(&logits, 0.7, hard, 0, Key::from_seed(2))?;
            let grads = (y * &weights)?.sum_all()?.backward()?;
            grads.get(logits.as_tensor()).unwrap().to_vec2::<f64>()
        };
        let (soft, hard) = (gradient(false)?, gradient(true)?);
        for (soft, hard) in soft.iter().flatten().zip(hard.iter().flatten()) {
            assert!((soft - hard).abs() < 1e-12 && *soft != 0.);
        }
        Ok(())
    }
}
