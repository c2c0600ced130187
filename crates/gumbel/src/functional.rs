//! The functions that users of other libraries know.
use candle_core::shape::Dim;
use candle_core::{D, Result, Tensor};
use gumbel_kernels::{Forward, Key, compute_dtype, in_single, log_softmax, one_hot_argmax};
use serde::{Deserialize, Serialize};

use crate::distributions::{ExpConcrete, Temperature};

/// A Gumbel-Softmax sample of `logits` along the axis `dim`, as PyTorch's function of that name.
///
/// With independent Gumbel noise `G` and the temperature `tau`, entry `k` along the axis is:
///
/// ```math
/// \frac{\exp\bigl((\mathrm{logits}_k + G_k) / \tau\bigr)}{\sum_j \exp\bigl((\mathrm{logits}_j + G_j) / \tau\bigr)}
/// ```
///
/// Same shape and dtype as `logits` (any float; half precision is computed in `f32`). With `hard` the value is the
/// one-hot vector of the largest entry, and the gradient that of the soft sample (straight-through, biased). All
/// noise comes from `key`: derive one per call (`key.fold_in(step)`). Impossible categories are masked by
/// [`mask_logits`](crate::mask_logits).
///
/// `tau` is a number, or a tensor that broadcasts to the shape of `logits` without the axis `dim`, or with that
/// axis kept as 1: for `logits: [n, K]`, both `[n]` and `[n, 1]` are one temperature for each row. Then it has a
/// gradient, too.
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
/// If `tau` is not positive and finite, or does not broadcast, `dim` is not an axis of `logits`, or a row has no
/// finite logit.
pub fn gumbel_softmax<I: Dim>(
    logits: &Tensor,
    tau: impl Into<Temperature>,
    hard: bool,
    dim: I,
    key: Key,
) -> Result<Tensor> {
    let dim = dim.to_index(logits.shape(), "gumbel_softmax")?;
    let rows = logits.transpose(dim, D::Minus1)?;
    let y = match tau.into() {
        Temperature::Fixed(tau) => {
            let forward = if hard { Forward::Hard } else { Forward::Soft };
            gumbel_kernels::gumbel_softmax(&rows.unsqueeze(0)?, 1, tau, forward, key)?.squeeze(0)?
        }
        Temperature::Tensor(tau) => {
            let tau = temperature_of_rows(&tau, logits, dim)?;
            let (count, k) = (tau.dim(0)?, rows.dim(D::Minus1)?);
            let wide = rows.to_dtype(compute_dtype(rows.dtype()))?.reshape((1, 1, count, k))?;
            let log_y = ExpConcrete::new(&wide, &tau)?.rsample(1, key)?;
            let soft = log_y.exp()?;
            let y = if hard { (one_hot_argmax(&log_y)? + (&soft - soft.detach())?)? } else { soft };
            y.reshape(rows.shape())?.to_dtype(rows.dtype())?
        }
    };
    y.transpose(dim, D::Minus1)
}

/// The temperature of each row of `logits` along `dim`, in the order in which rows are numbered: `[rows]`.
fn temperature_of_rows(tau: &Tensor, logits: &Tensor, dim: usize) -> Result<Tensor> {
    let mut shape = logits.dims().to_vec();
    shape[dim] = 1;
    let keeps_axis = tau.rank() == shape.len() && tau.dim(dim)? == 1;
    let mut without = shape.clone();
    without.remove(dim);
    let wide = if keeps_axis {
        tau.broadcast_as(shape.as_slice())
    } else {
        tau.broadcast_as(without.as_slice()).and_then(|tau| tau.unsqueeze(dim))
    };
    match wide {
        Ok(wide) => wide.transpose(dim, D::Minus1)?.flatten_all(),
        Err(_) => candle_core::bail!(
            "a temperature of shape {:?} does not broadcast to {without:?}, the shape of the logits without \
             the axis {dim}",
            tau.shape()
        ),
    }
}

/// How [`sample_categorical`] turns logits into a vector of categories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SampleMode {
    /// A relaxed sample, with noise: Gumbel-Softmax.
    Train,
    /// A one-hot sample, with noise, whose gradient is that of the relaxed one: straight-through Gumbel-Softmax.
    Hard,
    /// The one-hot vector of the largest logit (the first of several). No noise, no gradient.
    Mode,
    /// The probabilities, `softmax(logits)`: the expected one-hot vector. No noise.
    Mean,
}

/// `logits` turned into a vector of categories along the axis `dim`: [`gumbel_softmax()`] where `mode` asks for
/// noise, and a fixed vector where it does not.
///
/// For one place in a model that serves training and evaluation: a model that is evaluated in
/// [`SampleMode::Mode`] or [`SampleMode::Mean`] gives the same output for every `key`. Shape and dtype are those
/// of `logits`. These two modes use neither `tau` nor `key`.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use gumbel::{Key, SampleMode, sample_categorical};
/// let logits = Tensor::new(&[1f32, 3., 2.], &Device::Cpu)?;
/// let training = true;
/// let mode = if training { SampleMode::Train } else { SampleMode::Mode };
/// let z = sample_categorical(&logits, 0.5, mode, 0, Key::from_seed(1))?;
/// # assert_eq!(z.dims(), [3]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// Those of [`gumbel_softmax()`]; of a tensor `tau`, dtype and shape are looked at where noise is asked for.
pub fn sample_categorical<I: Dim>(
    logits: &Tensor,
    tau: impl Into<Temperature>,
    mode: SampleMode,
    dim: I,
    key: Key,
) -> Result<Tensor> {
    let dim = dim.to_index(logits.shape(), "sample_categorical")?;
    let tau = tau.into();
    let row_by_row = |f: fn(&Tensor) -> Result<Tensor>| {
        tau.check()?;
        f(&logits.transpose(dim, D::Minus1)?)?.transpose(dim, D::Minus1)
    };
    match mode {
        SampleMode::Train => gumbel_softmax(logits, tau, false, dim, key),
        SampleMode::Hard => gumbel_softmax(logits, tau, true, dim, key),
        SampleMode::Mode => row_by_row(one_hot_argmax),
        SampleMode::Mean => row_by_row(|rows| in_single([rows], |[rows]| log_softmax(rows)?.exp())),
    }
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

    #[test]
    fn a_tensor_of_temperatures_is_one_for_each_row_and_draws_as_the_number_does() -> Result<()> {
        let logits = Key::from_seed(1).normal((3, 4, 5), DType::F64, &Device::Cpu)?;
        for (dim, shapes) in [
            (0, [vec![], vec![5], vec![4, 1], vec![1, 4, 5]]),
            (1, [vec![], vec![3, 1], vec![3, 5], vec![3, 1, 1]]),
            (2, [vec![1], vec![3, 4], vec![3, 1], vec![3, 4, 1]]),
        ] {
            for hard in [false, true] {
                let number = gumbel_softmax(&logits, 0.7, hard, dim, Key::from_seed(2))?;
                for shape in &shapes {
                    let tau = Tensor::full(0.7f32, shape.as_slice(), &Device::Cpu)?;
                    let y = gumbel_softmax(&logits, &tau, hard, dim, Key::from_seed(2))?;
                    let off = (y - &number)?.abs()?.max_all()?.to_scalar::<f64>()?;
                    assert!(off < 1e-6, "{shape:?} along {dim}: {off}");
                }
            }
        }
        let rows = Tensor::zeros((4, 3), DType::F32, &Device::Cpu)?;
        let tau = Var::new(&[[0.1f32], [1.], [2.], [0.5]], &Device::Cpu)?;
        let y = gumbel_softmax(&rows, tau.as_tensor(), false, 1, Key::from_seed(3))?;
        assert_eq!(y.dims(), [4, 3]);
        let grads = y.sqr()?.sum_all()?.backward()?;
        assert_eq!(grads.get(tau.as_tensor()).unwrap().dims(), [4, 1]);
        for bad in [vec![3], vec![1, 3], vec![2, 4, 1]] {
            let tau = Tensor::ones(bad, DType::F32, &Device::Cpu)?;
            let error = gumbel_softmax(&rows, &tau, false, 1, Key::from_seed(3)).unwrap_err();
            assert!(error.to_string().contains("without the axis 1"), "{error}");
        }
        Ok(())
    }

    #[test]
    fn modes_are_what_they_are_called_along_any_axis() -> Result<()> {
        let logits = Key::from_seed(1).normal((3, 4), DType::F64, &Device::Cpu)?;
        let sample = |mode, seed| {
            sample_categorical(&logits, 0.7, mode, 0, Key::from_seed(seed))?.to_vec2::<f64>()
        };
        let soft = gumbel_softmax(&logits, 0.7, false, 0, Key::from_seed(1))?.to_vec2::<f64>()?;
        let hard = gumbel_softmax(&logits, 0.7, true, 0, Key::from_seed(1))?.to_vec2::<f64>()?;
        assert_eq!(sample(SampleMode::Train, 1)?, soft);
        assert_eq!(sample(SampleMode::Hard, 1)?, hard);
        assert_ne!(sample(SampleMode::Train, 2)?, soft);
        let mean = Tensor::new(sample(SampleMode::Mean, 1)?, &Device::Cpu)?;
        let exp = logits.exp()?;
        let softmax = exp.broadcast_div(&exp.sum_keepdim(0)?)?;
        assert!((mean - softmax)?.abs()?.max_all()?.to_scalar::<f64>()? < 1e-15);
        let mode = Tensor::new(sample(SampleMode::Mode, 1)?, &Device::Cpu)?;
        assert_eq!(mode.argmax(0)?.to_vec1::<u32>()?, logits.argmax(0)?.to_vec1::<u32>()?);
        assert_eq!(mode.sum(0)?.to_vec1::<f64>()?, [1.; 4]);
        for mode in [SampleMode::Mode, SampleMode::Mean] {
            assert_eq!(sample(mode, 1)?, sample(mode, 2)?);
            assert!(sample_categorical(&logits, 0., mode, 0, Key::from_seed(1)).is_err());
        }
        Ok(())
    }
}
