//! Parameter updates in place: one pass over parameter, gradient and state.
//!
//! A dozen tensor operations for each parameter would cost more than the backward pass of a small model.
//! None of these functions is differentiable, and no pending backward pass may still need the tensors that
//! they change. Tensors that are not on the CPU, and half precision, take the twin.
mod adam;
mod inplace;
mod norm;
mod sgd;

pub use adam::{AdamStep, AdamTensors, adam_update, adam_update_all, adam_update_reference};
pub use norm::{
    all_finite, all_finite_reference, first_not_finite, sum_of_squares, sum_of_squares_reference,
    sums_of_squares,
};
pub use sgd::{sgd_update, sgd_update_reference};

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Result, Tensor, Var};
    use proptest::prelude::*;

    use super::inplace::{CHUNK, PARALLEL_ABOVE};
    use super::*;
    use crate::check::{close, irregular};

    const STEP: AdamStep =
        AdamStep { beta1: 0.9, beta2: 0.99, shrink: 0.999, rate: 0.01, scale: 1.5, epsilon: 1e-8 };

    /// Parameter, first moment, second moment, gradient, of `n` numbers each.
    fn setting(n: usize, seed: u64, dtype: DType) -> Result<(Var, Var, Var, Tensor)> {
        let draw = |i| irregular(&[n], seed.wrapping_add(i), dtype);
        let v = Var::from_tensor(&draw(0)?.sqr()?)?;
        Ok((Var::from_tensor(&draw(1)?)?, Var::from_tensor(&draw(2)?)?, v, draw(3)?))
    }

    fn twins_agree(
        n: usize,
        seed: u64,
        dtype: DType,
        tolerance: f64,
        nesterov: bool,
    ) -> Result<()> {
        let (p, m, v, g) = setting(n, seed, dtype)?;
        let (q, k, w, _) = setting(n, seed, dtype)?;
        adam_update(&p, &m, &v, &g, &STEP)?;
        adam_update_reference(&q, &k, &w, &g, &STEP)?;
        close(&p, &q, tolerance)?;
        close(&m, &k, tolerance)?;
        close(&v, &w, tolerance)?;
        sgd_update(&p, &m, &g, 0.1, 0.9, nesterov)?;
        sgd_update_reference(&q, &k, &g, 0.1, 0.9, nesterov)?;
        close(&p, &q, tolerance)?;
        close(&m, &k, tolerance)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn fused_updates_equal_their_twins(n in 1usize..70, seed: u64, double: bool, nesterov: bool) {
            let (dtype, tolerance) = if double { (DType::F64, 1e-14) } else { (DType::F32, 1e-6) };
            twins_agree(n, seed, dtype, tolerance, nesterov).unwrap();
        }
    }

    #[test]
    fn many_parallel_chunks_equal_the_twin() -> Result<()> {
        twins_agree(PARALLEL_ABOVE + CHUNK / 2, 1, DType::F32, 1e-6, true)
    }

    #[test]
    fn strided_gradients_half_precision_and_empty_tensors_are_taken() -> Result<()> {
        let g = irregular(&[3, 5], 2, DType::F32)?;
        for dtype in [DType::F32, DType::BF16] {
            let g = g.to_dtype(dtype)?.t()?;
            let zeros = || Var::zeros((5, 3), dtype, &Device::Cpu);
            let (p, m) = (zeros()?, zeros()?);
            sgd_update(&p, &m, &g, 0.5, 0.9, false)?;
            close(&m, &g, 0.)?;
            close(&p, &g.contiguous()?.affine(-0.5, 0.)?, 0.)?;
            let (p, m, v, g) = setting(0, 1, dtype)?;
            adam_update(&p, &m, &v, &g, &STEP)?;
            sgd_update(&p, &m, &g, 0.1, 0.9, true)?;
        }
        Ok(())
    }

    #[test]
    fn shared_memory_and_unequal_shapes_are_errors_not_deadlocks() -> Result<()> {
        let (p, m, v, g) = setting(4, 3, DType::F32)?;
        for (m, v, g) in [(&p, &v, &g), (&m, &m, &g), (&m, &v, m.as_tensor()), (&m, &v, &*p)] {
            assert!(adam_update(&p, m, v, g, &STEP).is_err());
        }
        assert!(sgd_update(&p, &p, &g, 0.1, 0.9, false).is_err());
        let short = g.narrow(0, 0, 3)?;
        let error = adam_update(&p, &m, &v, &short, &STEP).unwrap_err().to_string();
        assert!(error.contains("[4]") && error.contains("[3]"), "{error}");
        assert!(sgd_update(&p, &m, &g.to_dtype(DType::F64)?, 0.1, 0.9, false).is_err());
        Ok(())
    }
}
