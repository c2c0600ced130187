//! Means over the other samples.
use candle_core::{DType, Result, Tensor};

/// The mean over all samples but the own one, along axis 0: `[S, ..]`.
pub(crate) fn mean_of_others(x: &Tensor) -> Result<Tensor> {
    let s = x.dim(0)?;
    x.sum_keepdim(0)?.broadcast_sub(x)? / (s - 1) as f64
}

/// The same of log-weights, of which one of an impossible draw takes nothing from the others.
pub(crate) fn mean_of_other_weights(log_w: &Tensor) -> Result<Tensor> {
    if is_extreme(log_w)? {
        sum_of_others(log_w)? / (log_w.dim(0)? - 1) as f64
    } else {
        mean_of_others(log_w)
    }
}

/// Whether a number is so large, as the log-weight of an impossible draw, that a sum forgets the others.
fn is_extreme(x: &Tensor) -> Result<bool> {
    if x.elem_count() == 0 {
        return Ok(false);
    }
    let largest = x.detach().abs()?.flatten_all()?.max(0)?.to_dtype(DType::F64)?;
    Ok(largest.to_scalar::<f64>()? > 1e20)
}

/// The sum over all samples but the own one, without taking it away from a sum that it is in.
fn sum_of_others(x: &Tensor) -> Result<Tensor> {
    let s = x.dim(0)?;
    let of = |own: usize| {
        let others = [x.narrow(0, 0, own)?, x.narrow(0, own + 1, s - own - 1)?];
        Tensor::cat(&others, 0)?.sum_keepdim(0)
    };
    Tensor::cat(&(0..s).map(of).collect::<Result<Vec<_>>>()?, 0)
}

/// An error unless there are others.
pub(crate) fn at_least_two(what: &str, samples: usize) -> Result<()> {
    if samples < 2 {
        candle_core::bail!("{what} needs at least 2 samples, got {samples}; raise `samples`")
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn an_impossible_draw_takes_nothing_from_the_others() -> Result<()> {
        for impossible in [-1e30, f64::NEG_INFINITY] {
            let x = Tensor::new(&[[impossible], [-100.], [-120.]], &Device::Cpu)?;
            let mean = mean_of_other_weights(&x)?.flatten_all()?.to_vec1::<f64>()?;
            assert_eq!(mean[0], -110.);
            assert!(mean[1] <= -4e29 && mean[2] <= -4e29, "{mean:?}");
        }
        let x = Tensor::new(&[[1f64], [2.], [4.]], &Device::Cpu)?;
        assert_eq!(mean_of_other_weights(&x)?.flatten_all()?.to_vec1::<f64>()?, [3., 2.5, 1.5]);
        Ok(())
    }
}
