//! Symbols and the segments that they are parts of.
use candle_core::{Result, Tensor};

/// The sums `[B, N, _]` of numbers `[B, T, _]` over segments of `segment` places; the last may be shorter.
pub(crate) fn sum_segments(x: &Tensor, segment: usize) -> Result<Tensor> {
    let (b, t, width) = x.dims3()?;
    let n = t.div_ceil(segment);
    if n == t {
        return Ok(x.clone());
    }
    let x = x.pad_with_zeros(1, 0, n * segment - t)?;
    x.reshape((b, n, segment, width))?.sum(2)
}

/// What each of `length` places has of its segment: `[B, N, _]` → `[B, T, _]`.
pub(crate) fn spread(x: &Tensor, segment: usize, length: usize) -> Result<Tensor> {
    let (b, n, width) = x.dims3()?;
    if n == 1 {
        return x.broadcast_as((b, length, width))?.contiguous();
    }
    let wide = x.unsqueeze(2)?.broadcast_as((b, n, segment, width))?;
    wide.reshape((b, n * segment, width))?.narrow(1, 0, length)?.contiguous()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn places_are_summed_in_their_segment_and_get_what_it_has() -> Result<()> {
        let x = Tensor::arange(0f32, 10., &Device::Cpu)?.reshape((2, 5, 1))?;
        let sums = sum_segments(&x, 2)?;
        assert_eq!(sums.flatten_all()?.to_vec1::<f32>()?, [1., 5., 4., 11., 15., 9.]);
        let back = spread(&sums, 2, 5)?;
        assert_eq!(
            back.flatten_all()?.to_vec1::<f32>()?,
            [1., 1., 5., 5., 4., 11., 11., 15., 15., 9.]
        );
        let whole = sum_segments(&x, 9)?;
        assert_eq!(whole.dims(), [2, 1, 1]);
        assert_eq!(spread(&whole, 9, 2)?.flatten_all()?.to_vec1::<f32>()?, [10., 10., 35., 35.]);
        Ok(())
    }
}
