//! Perturbed logits, given what they round to.
//!
//! A discrete draw is the rounding of `logits + noise`. Given the draw, the perturbed logits have a law of
//! their own: what control variates and Rao–Blackwell estimators integrate over.
use candle_core::{D, Result, Tensor};
use gumbel_kernels::{in_single, log_sum_exp, sigmoid, softplus};

/// What stands in for a masked logit of `-∞`, so that no difference of infinities is taken.
const MASKED: f64 = -1e30;

/// `logits + G` given that `one_hot` marks its largest entry, from independent Gumbel `noise`.
///
/// With `i` the marked entry, and `G` the noise:
///
/// ```math
/// \tilde z_k = \begin{cases}
/// G_i + \ln \sum_j e^{\mathrm{logits}_j} & k = i \\
/// -\ln\bigl(e^{-\tilde z_i} + e^{-(\mathrm{logits}_k + G_k)}\bigr) & k \ne i
/// \end{cases}
/// ```
///
/// All arguments broadcast to `[.., K]`. Differentiable in the logits; exact at logits of any size. Averaged over the
/// law of `one_hot`, the result has that of `logits + G`.
///
/// Source: Maddison, Tarlow, Minka (2014); Paulus, Maddison, Krause (2021), section 3.
pub fn conditional_gumbel(logits: &Tensor, one_hot: &Tensor, noise: &Tensor) -> Result<Tensor> {
    in_single([logits, one_hot, noise], |[logits, one_hot, noise]| {
        let (top, excess) = parts(logits, one_hot, noise)?;
        let lower = (softplus(&excess)? * (1. - one_hot)?)?;
        top.broadcast_sub(&lower)
    })
}

/// The weight `w` of each entry in the derivative of [`conditional_gumbel`]: with `p = softmax(logits)`, the
/// product of a vector `v` with the Jacobian is `w v + p Σ_k v_k (1 - w_k)`. Detached.
pub(crate) fn conditional_gumbel_weight(
    logits: &Tensor,
    one_hot: &Tensor,
    noise: &Tensor,
) -> Result<Tensor> {
    let (_, excess) = parts(&logits.detach(), one_hot, noise)?;
    sigmoid(&excess)? * (1. - one_hot)?
}

/// The largest perturbed logit `-c: [.., 1]`, and `t - c: [.., K]`.
fn parts(logits: &Tensor, one_hot: &Tensor, noise: &Tensor) -> Result<(Tensor, Tensor)> {
    let logits = logits.maximum(MASKED)?;
    let own = one_hot.broadcast_mul(noise)?.sum_keepdim(D::Minus1)?;
    let top = own.broadcast_add(&log_sum_exp(&logits, D::Minus1)?.unsqueeze(D::Minus1)?)?;
    let excess = top.broadcast_sub(&noise.broadcast_add(&logits)?)?;
    Ok((top, excess))
}

/// `logits + L` given `bits`, which say where it is positive, from independent logistic `noise`.
///
/// With `l` for the logits, and `u = σ(noise)`, which is uniform:
///
/// ```math
/// \tilde z = \begin{cases}
/// \ln(1 + u\, e^l) - \ln(1 - u) & \text{for a bit of } 1 \\
/// \ln u - \ln\bigl(1 + (1 - u)\, e^{-l}\bigr) & \text{for a bit of } 0
/// \end{cases}
/// ```
///
/// All arguments broadcast to one shape. Differentiable in the logits; exact in both tails.
///
/// Source: Tucker, Mnih, Maddison, Lawson, Sohl-Dickstein (2017), appendix.
pub fn conditional_logistic(logits: &Tensor, bits: &Tensor, noise: &Tensor) -> Result<Tensor> {
    in_single([logits, bits, noise], |[logits, bits, noise]| {
        let [up, down] = slopes(logits, noise)?;
        let positive = softplus(&up)?.broadcast_add(&softplus(noise)?)?;
        let negative = (softplus(&down)?.broadcast_add(&softplus(&noise.neg()?)?)?).neg()?;
        select(bits, &positive, &negative)
    })
}

/// The derivative of [`conditional_logistic`] in the logits. Detached.
pub(crate) fn conditional_logistic_slope(
    logits: &Tensor,
    bits: &Tensor,
    noise: &Tensor,
) -> Result<Tensor> {
    let [up, down] = slopes(&logits.detach(), noise)?;
    select(bits, &sigmoid(&up)?, &sigmoid(&down)?)
}

/// `l + ln v` and `-l + ln(1 - v)`.
fn slopes(logits: &Tensor, noise: &Tensor) -> Result<[Tensor; 2]> {
    let up = logits.broadcast_sub(&softplus(&noise.neg()?)?)?;
    let down = logits.neg()?.broadcast_sub(&softplus(noise)?)?;
    Ok([up, down])
}

fn select(bits: &Tensor, one: &Tensor, zero: &Tensor) -> Result<Tensor> {
    bits.broadcast_mul(one)? + (1. - bits)?.broadcast_mul(zero)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Var};
    use gumbel_kernels::{Key, one_hot_argmax};

    const CPU: &Device = &Device::Cpu;

    #[test]
    fn the_draw_is_kept_and_the_law_is_that_of_perturbed_logits() -> Result<()> {
        let (n, k) = (40_000, 4);
        let logits = Tensor::new(&[0.5f64, -1., 0., 2.], CPU)?;
        let noise = |seed| Key::from_seed(seed).gumbel((n, k), DType::F64, CPU);
        let one_hot = one_hot_argmax(&noise(1)?.broadcast_add(&logits)?)?;
        let z = conditional_gumbel(&logits, &one_hot, &noise(2)?)?;
        assert_eq!(one_hot_argmax(&z)?.to_vec2::<f64>()?, one_hot.to_vec2::<f64>()?);
        let gumbel = z.broadcast_sub(&logits)?;
        let mean = gumbel.mean(0)?.to_vec1::<f64>()?;
        let square = gumbel.sqr()?.mean(0)?.to_vec1::<f64>()?;
        for (mean, square) in mean.iter().zip(square) {
            assert!((mean - 0.577_215_66).abs() < 0.03, "{mean}");
            assert!((square - mean * mean - 1.644_934).abs() < 0.1, "{square}");
        }
        Ok(())
    }

    #[test]
    fn bits_are_kept_and_the_law_is_that_of_perturbed_logits() -> Result<()> {
        let logits = Tensor::new(&[-3f64, 0.4, 2.], CPU)?;
        let noise = |seed| Key::from_seed(seed).logistic((40_000, 3), DType::F64, CPU);
        let draw = noise(1)?.broadcast_add(&logits)?;
        let bits = draw.gt(0.)?.to_dtype(DType::F64)?;
        let z = conditional_logistic(&logits, &bits, &noise(2)?)?;
        let kept = z.gt(0.)?.to_dtype(DType::F64)?;
        assert_eq!(kept.to_vec2::<f64>()?, bits.to_vec2::<f64>()?);
        let mean = z.broadcast_sub(&logits)?.mean(0)?.to_vec1::<f64>()?;
        assert!(mean.iter().all(|mean| mean.abs() < 0.05), "{mean:?}");
        Ok(())
    }

    #[test]
    fn written_derivatives_are_those_of_the_graph_also_far_out() -> Result<()> {
        let logits = Var::new(&[[800f64, -800., 0.3, f64::NEG_INFINITY]], CPU)?;
        let noise = Key::from_seed(3).gumbel((1, 4), DType::F64, CPU)?;
        let cotangent = Key::from_seed(4).normal((1, 4), DType::F64, CPU)?;
        let one_hot = Tensor::new(&[[0f64, 0., 1., 0.]], CPU)?;
        let z = conditional_gumbel(&logits, &one_hot, &noise)?;
        let grads = (z * &cotangent)?.sum_all()?.backward()?;
        let graph = grads.get(logits.as_tensor()).unwrap().to_vec2::<f64>()?;
        let w = conditional_gumbel_weight(&logits, &one_hot, &noise)?;
        let p = gumbel_kernels::log_softmax(&logits)?.exp()?;
        let rest = (&cotangent * (1. - &w)?)?.sum_keepdim(1)?;
        let written = ((w * &cotangent)? + p.broadcast_mul(&rest)?)?.to_vec2::<f64>()?;
        for (a, b) in graph[0].iter().zip(&written[0]).take(3) {
            assert!((a - b).abs() < 1e-12, "{a} {b}");
        }
        let logits = Var::new(&[800f64, -800., 0.3], CPU)?;
        let noise = Key::from_seed(3).logistic(3, DType::F64, CPU)?;
        let bits = Tensor::new(&[0f64, 1., 1.], CPU)?;
        let z = conditional_logistic(&logits, &bits, &noise)?;
        let grads = z.sum_all()?.backward()?;
        let graph = grads.get(logits.as_tensor()).unwrap().to_vec1::<f64>()?;
        let written = conditional_logistic_slope(&logits, &bits, &noise)?.to_vec1::<f64>()?;
        for (a, b) in graph.iter().zip(written) {
            assert!((a - b).abs() < 1e-12, "{a} {b}");
        }
        Ok(())
    }
}
