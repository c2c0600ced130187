//! Means over the other samples.
use candle_core::{Result, Tensor};

/// The mean over all samples but the own one, along axis 0: `[S, ..]`.
pub(crate) fn mean_of_others(x: &Tensor) -> Result<Tensor> {
    let s = x.dim(0)?;
    x.sum_keepdim(0)?.broadcast_sub(x)? / (s - 1) as f64
}

/// An error unless there are others.
pub(crate) fn at_least_two(what: &str, samples: usize) -> Result<()> {
    if samples < 2 {
        candle_core::bail!("{what} needs at least 2 samples, got {samples}; raise `samples`")
    }
    Ok(())
}
