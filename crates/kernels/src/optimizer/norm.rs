//! What is asked of gradients before a step: are they finite, and how large are they.
use candle_core::{DType, Device, Result, Tensor};
use rayon::prelude::*;

use super::inplace::{CHUNK, Float, PARALLEL_ABOVE, fused_dtype, read};
use crate::reduce::{LANES, sum};
use crate::threads::parallel;
use crate::vectorised::vectorised;

/// `Σ x²` of each of some float tensors, as [`sum_of_squares`] has it; on an NVIDIA GPU with one wait for the device.
///
/// A sum is finite if and only if all elements are, but for sums beyond the largest double.
pub fn sums_of_squares(tensors: &[&Tensor]) -> Result<Vec<f64>> {
    #[cfg(feature = "cuda")]
    if tensors.iter().all(|x| crate::cuda::takes([tensors[0], x])) {
        return crate::cuda::sums_of_squares(tensors);
    }
    tensors.iter().map(|x| sum_of_squares(x)).collect()
}

/// The place of the first of some float tensors of which an element is NaN or infinite.
pub fn first_not_finite(tensors: &[&Tensor]) -> Result<Option<usize>> {
    #[cfg(feature = "cuda")]
    if tensors.iter().all(|x| crate::cuda::takes([tensors[0], x])) {
        // Squares of single precision do not overflow in double.
        let sums = crate::cuda::sums_of_squares(tensors)?;
        return Ok(sums.iter().position(|sum| !sum.is_finite()));
    }
    for (i, x) in tensors.iter().enumerate() {
        if !all_finite(x)? {
            return Ok(Some(i));
        }
    }
    Ok(None)
}

/// Whether no element of a float tensor, of any shape, is NaN or infinite.
pub fn all_finite(x: &Tensor) -> Result<bool> {
    // 0 x is 0 for a finite number and NaN for any other; a sum keeps the NaN.
    match fused_dtype(x) {
        Some(DType::F32) => read(x, |x| Ok(finite::<f32>(x))),
        Some(_) => read(x, |x| Ok(finite::<f64>(x))),
        None => all_finite_reference(x),
    }
}

/// The twin of [`all_finite`] from plain candle operations.
pub fn all_finite_reference(x: &Tensor) -> Result<bool> {
    Ok(to_f64(&x.detach().affine(0., 0.)?.sum_all()?)? == 0.)
}

/// `Σ x²` over all elements of a float tensor of any shape, summed in double precision in a fixed order.
pub fn sum_of_squares(x: &Tensor) -> Result<f64> {
    match fused_dtype(x) {
        Some(DType::F32) => read(x, |x| Ok(squares::<f32>(x))),
        Some(_) => read(x, |x| Ok(squares::<f64>(x))),
        None => sum_of_squares_reference(x),
    }
}

/// The twin of [`sum_of_squares`] from plain candle operations.
pub fn sum_of_squares_reference(x: &Tensor) -> Result<f64> {
    let dtype = if x.device().is_cpu() { DType::F64 } else { DType::F32 };
    to_f64(&x.detach().to_dtype(dtype)?.sqr()?.sum_all()?)
}

vectorised! {
    /// `Σ 0 x`: 0 if all numbers are finite, else NaN.
    fn zeros_of<T: Float>(x: &[T]) -> T {
        sum(x, |x| T::zero() * x)
    }

    /// Sixteen interleaved sums of squares: a fixed order that vectorises.
    fn squares_of<T: Float>(x: &[T]) -> f64 {
        let (chunks, rest) = x.as_chunks::<LANES>();
        let mut lanes = [0f64; LANES];
        for x in chunks.iter().map(<[T; LANES]>::as_slice).chain([rest]) {
            for (lane, x) in lanes.iter_mut().zip(x) {
                let x = x.to_f64();
                *lane += x * x;
            }
        }
        lanes.iter().sum()
    }
}

fn finite<T: Float>(x: &[T]) -> bool {
    if x.len() <= PARALLEL_ABOVE || !parallel() {
        return zeros_of(x) == T::zero();
    }
    x.par_chunks(CHUNK).all(|x| zeros_of(x) == T::zero())
}

fn squares<T: Float>(x: &[T]) -> f64 {
    if x.len() <= PARALLEL_ABOVE || !parallel() {
        return x.chunks(CHUNK).map(squares_of).sum();
    }
    let partial: Vec<f64> = x.par_chunks(CHUNK).map(squares_of).collect();
    partial.iter().sum()
}

fn to_f64(x: &Tensor) -> Result<f64> {
    x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_scalar()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::check::irregular;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn one_bad_number_anywhere_is_found(n in 1usize..70, at: prop::sample::Index, which in 0..3usize) {
            let mut x = vec![1e30f32; n];
            prop_assert!(all_finite(&Tensor::new(x.as_slice(), &Device::Cpu).unwrap()).unwrap());
            x[at.index(n)] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][which];
            let x = Tensor::new(x.as_slice(), &Device::Cpu).unwrap();
            for dtype in [DType::F32, DType::F64, DType::BF16] {
                let x = x.to_dtype(dtype).unwrap();
                prop_assert!(!all_finite(&x).unwrap() && !all_finite_reference(&x).unwrap());
            }
        }
    }

    #[test]
    fn squares_of_any_length_equal_the_twin_and_do_not_overflow() -> Result<()> {
        for n in [0, 1, 15, 16, 17, 1000, CHUNK + 1, PARALLEL_ABOVE + 1] {
            for dtype in [DType::F32, DType::F64, DType::BF16] {
                let x = irregular(&[n], 7, dtype)?;
                let (fused, twin) = (sum_of_squares(&x)?, sum_of_squares_reference(&x)?);
                assert!((fused - twin).abs() <= 1e-12 * twin, "{n}: {fused} {twin}");
            }
        }
        let large = Tensor::new(&[[3e30f32, 0.], [4e30, 0.]], &Device::Cpu)?.t()?;
        assert!((sum_of_squares(&large)?.sqrt() - 5e30).abs() < 1e24);
        Ok(())
    }
}
