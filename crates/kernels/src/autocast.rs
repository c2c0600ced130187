//! Matrix products in half precision, of models in single precision.
use std::cell::Cell;

use candle_core::{DType, Result, Tensor};

thread_local! {
    static PRODUCTS: Cell<Option<DType>> = const { Cell::new(None) };
}

/// Computes `f` with the factors of matrix products rounded to `dtype`, `BF16` or `F16`, and so those of their gradients.
///
/// It is for the forward pass, on this thread, and holds for the backward pass of what was computed in it. Only
/// [`linear()`](crate::linear()), [`linear_cross_entropy()`](crate::linear_cross_entropy()), the logits of
/// [`gumbel_softmax_embedding()`](crate::gumbel_softmax_embedding()),
/// [`expert_log_probs()`](crate::expert_log_probs()) and [`attention()`](crate::attention()) in single precision are
/// concerned: parameters, noise, sums, losses and all other operations stay what they are, so that an optimiser has the
/// parameters in single precision. On a GPU products are computed by its units for `dtype`, and are rounded to it, too; on
/// the CPU, which has none here, it is no faster. Called `autocast` as in PyTorch, whose choice of operations is wider.
pub fn autocast<R>(dtype: DType, f: impl FnOnce() -> R) -> R {
    let _guard = Restore(PRODUCTS.replace(Some(dtype)));
    f()
}

/// Puts back what was there, after a panic as well.
struct Restore(Option<DType>);

impl Drop for Restore {
    fn drop(&mut self) {
        PRODUCTS.set(self.0);
    }
}

/// What the factors of a product of numbers of a type are rounded to, if it is another type.
pub(crate) fn product_dtype(factors: DType) -> Option<DType> {
    PRODUCTS.get().filter(|half| factors == DType::F32 && *half != factors)
}

/// Factors of products that a kernel for the CPU computes in single precision.
pub(crate) fn rounded<const N: usize>(factors: [&Tensor; N]) -> Result<[Tensor; N]> {
    let mut factors = factors.map(Tensor::clone);
    for factor in &mut factors {
        if let (true, Some(half)) = (factor.device().is_cpu(), product_dtype(factor.dtype())) {
            *factor = factor.to_dtype(half)?.to_dtype(DType::F32)?;
        }
    }
    Ok(factors)
}

/// `a b` of candle's, for the twins: `[.., I, J]` and `[.., J, K]`.
pub(crate) fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    match product_dtype(a.dtype()) {
        Some(half) if !a.device().is_cpu() => {
            a.to_dtype(half)?.matmul(&b.to_dtype(half)?)?.to_dtype(DType::F32)
        }
        _ => a.matmul(b),
    }
}

/// `x Wᵀ` of candle's, for the twins: `x: [.., I]`, `weight: [O, I]` → `[.., O]`.
///
/// Rows are rows of one product; candle's own broadcasting would copy the weights for each of the leading axes.
pub(crate) fn times_transposed(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    let Some((_, leading)) = x.dims().split_last() else {
        candle_core::bail!("expected rows [.., {inputs}], got a scalar")
    };
    let rows = x.reshape((leading.iter().product::<usize>(), inputs))?;
    let y = match product_dtype(x.dtype()) {
        // Converted before it is turned: a conversion of strided numbers is slow.
        Some(half) if !x.device().is_cpu() => {
            rows.to_dtype(half)?.matmul(&weight.to_dtype(half)?.t()?)?.to_dtype(DType::F32)?
        }
        _ => rows.matmul(&weight.t()?)?,
    };
    y.reshape([leading, &[outputs]].concat())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::check::{close, irregular};
    use crate::{AttentionMask, attention, expert_log_probs, linear, linear_cross_entropy};

    fn half(x: &Tensor) -> Result<Tensor> {
        x.to_dtype(DType::BF16)?.to_dtype(DType::F32)
    }

    /// Values are those of rounded factors, gradients are rounded, and what is outside is not touched.
    #[test]
    fn factors_are_rounded_inside_and_only_there() -> Result<()> {
        let var = |shape: &[usize], seed| {
            candle_core::Var::from_tensor(&irregular(shape, seed, DType::F32)?)
        };
        let (x, w, b) = (var(&[4, 6], 1)?, var(&[5, 6], 2)?, var(&[5], 3)?);
        let ids = Tensor::new(&[1u32, 0, 2, 4], &Device::Cpu)?;
        let all = |x: &Tensor, w: &Tensor| -> Result<Vec<Tensor>> {
            Ok(vec![
                linear(x, w, &b)?,
                linear_cross_entropy(x, w, &ids)?,
                expert_log_probs(x, w, &b.unsqueeze(0)?, &ids)?,
                attention(&x.reshape((1, 4, 6))?, 1, AttentionMask::Causal)?,
            ])
        };
        let cast = autocast(DType::BF16, || all(&x, &w))?;
        let outside = all(&x, &w)?;
        for ((cast, expected), single) in cast.iter().zip(all(&half(&x)?, &half(&w)?)?).zip(outside)
        {
            close(cast, &expected, 1e-6)?;
            let gap = (cast - single)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(gap > 1e-6 && gap < 3e-2, "{gap}");
        }
        let gradients = cast[1].backward()?;
        for x in [&x, &w] {
            let gradient = gradients.get(x).unwrap();
            assert_eq!(gradient.dtype(), DType::F32);
            close(gradient, &half(gradient)?, 0.)?;
        }
        Ok(())
    }

    /// A sum of no products is 0, also of no rows.
    #[test]
    fn rows_and_columns_may_be_none() -> Result<()> {
        for (rows, inputs, outputs) in [(4, 0, 5), (0, 3, 5), (4, 3, 0), (0, 0, 0)] {
            let zeros = |shape| Tensor::zeros(shape, DType::F32, &Device::Cpu);
            let x = zeros((rows, inputs))?.unsqueeze(0)?;
            let y = times_transposed(&x, &zeros((outputs, inputs))?)?;
            assert_eq!(y.dims(), [1, rows, outputs]);
            assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, vec![0.; rows * outputs]);
        }
        Ok(())
    }

    #[test]
    fn a_panic_inside_ends_it() {
        let panic = std::panic::catch_unwind(|| autocast(DType::BF16, || panic!("inside")));
        assert!(panic.is_err() && product_dtype(DType::F32).is_none());
        autocast(DType::F16, || {
            assert_eq!(product_dtype(DType::F32), Some(DType::F16));
            assert_eq!(product_dtype(DType::F64), None);
        });
    }
}
