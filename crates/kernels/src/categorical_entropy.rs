//! Entropy of a categorical distribution given by logits.
use candle_core::{D, Result, Tensor};

use crate::categorical_kl::{log_ratio, log_ratio_slopes};
use crate::graph::{compute, fusible, node};
use crate::in_single;
use crate::log_softmax::forward as log_softmax;
use crate::softmax_rows::categories;

const NAME: &str = "categorical_entropy";

/// Entropy of categorical variables over the last axis, in nats.
///
/// With `q = softmax(logits)`:
///
/// ```math
/// H = -\sum_k q_k \log q_k
/// ```
///
/// `logits: [.., K]` (unnormalised) → `[..]`. Masked categories (`-∞`) contribute 0. Differentiable.
///
/// # Errors
/// If a row has no finite entry.
pub fn categorical_entropy(logits: &Tensor) -> Result<Tensor> {
    in_single([logits], |[x]| {
        if !fusible([x]) {
            return reference(x);
        }
        fused(x)
    })
}

/// The twin of [`categorical_entropy`] from plain candle operations (finite logits only).
pub fn reference(logits: &Tensor) -> Result<Tensor> {
    let log_q = super::log_softmax::reference(logits)?;
    (log_q.exp()? * log_q)?.sum(D::Minus1)?.neg()
}

fn fused(x: &Tensor) -> Result<Tensor> {
    let k = categories(x.shape())?;
    let log_q = compute!(NAME, x.shape(), T, |x| log_softmax::<T>(x, k)?).tensor();
    // Against a measure of 1 for every category: -H.
    let measure = Tensor::zeros(k, x.dtype(), x.device())?;
    let negative = log_ratio(&log_q, &measure, k)?.tensor();
    let (shape, negative) = (&x.dims()[..x.rank() - 1], &negative);
    let h = compute!(NAME, shape, T, |negative| negative.iter().map(|x: &T| 0. - *x).collect());
    node(NAME, [x], h, move |_, h, g| {
        let (negative, g) = (h.neg()?, g.neg()?);
        let d = log_ratio_slopes(&log_q, &measure, &negative, &g, k)?;
        Ok([Some(d.tensor())])
    })
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::check::{finite_differences, irregular, twins};

    #[test]
    fn fused_equals_reference_in_value_and_gradient() -> Result<()> {
        for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-5)] {
            let x = irregular(&[3, 4, 9], 1, dtype)?;
            twins(&[x], tolerance, |x| categorical_entropy(&x[0]), |x| reference(&x[0]))?;
        }
        finite_differences(&[irregular(&[2, 4], 2, DType::F64)?], |x| categorical_entropy(&x[0]))
    }

    #[test]
    fn certain_and_masked() -> Result<()> {
        let inf = f64::INFINITY;
        let x = Tensor::new(&[[1e4, -1e4, 3.], [1., 2., -inf]], &Device::Cpu)?;
        let h = categorical_entropy(&x)?.to_vec1::<f64>()?;
        assert_eq!(h[0], 0.);
        assert!((h[1] - 0.582_203_108_888_217_9).abs() < 1e-14);
        Ok(())
    }
}
