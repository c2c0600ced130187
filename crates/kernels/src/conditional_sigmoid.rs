//! The derivative of a Gumbel-Sigmoid sample, averaged over the noise that leads to given bits.
use candle_core::{Result, Tensor};

use crate::conditional_average::{Average, FAR};
use crate::graph::{compute, fusible};
use crate::rows::{cyclic, make_rows};
use crate::vectorised::vectorised;
use crate::{Key, Real, noise, sigmoid, softplus};

const NAME: &str = "conditional_sigmoid_jacobian";

/// Numbers whose words stay in the cache.
const RUN: usize = 512;

/// A gradient times the derivative of a Gumbel-Sigmoid sample, averaged over the noise that leads to given bits.
///
/// With `D = draws` vectors `L` of logistic noise, given that `bits` say where `logits + L` is positive:
///
/// ```math
/// \frac{1}{D} \sum_{d=1}^{D} \frac{1}{\tau}\, y_d\, (1 - y_d)\, \mathrm{gradient},
/// \qquad y_d = \sigma\Bigl(\frac{\mathrm{logits} + L_d}{\tau}\Bigr)
/// ```
///
/// `bits`, `gradient: [S, .., N]`, and `logits` that broadcast to them → `[S, .., N]`. Entry `i` of draw `d`, in
/// row-major order, uses element `i` of the stream `key.fold_in(d)`; the noise is not stored. No gradient.
///
/// Source: Paulus, Maddison, Krause (2021), section 3, for two categories.
///
/// # Errors
/// If `temperature` is not positive and finite, there is no draw, or the shapes do not fit.
pub fn conditional_sigmoid_jacobian(
    logits: &Tensor,
    bits: &Tensor,
    gradient: &Tensor,
    temperature: f64,
    draws: usize,
    key: Key,
) -> Result<Tensor> {
    let average = Average::new(temperature, draws, key)?;
    average.of([logits, bits, gradient], |[logits, bits, gradient]| {
        if !fusible([logits, bits, gradient]) {
            return reference(logits, bits, gradient, temperature, draws, key);
        }
        let y = compute!(NAME, bits.shape(), T, |logits, bits, gradient| {
            make_rows(bits.len(), 1, average.cost(1), |first, y: &mut [T]| {
                for (i, y) in y.chunks_mut(RUN).enumerate() {
                    let first = first + i * RUN;
                    numbers_of(average, logits, &bits[first..], first, y);
                    for (y, gradient) in y.iter_mut().zip(&gradient[first..]) {
                        *y *= *gradient;
                    }
                }
                Ok(())
            })?
        });
        Ok(y.tensor())
    })
}

/// The twin of [`conditional_sigmoid_jacobian`] from plain candle operations.
pub fn reference(
    logits: &Tensor,
    bits: &Tensor,
    gradient: &Tensor,
    temperature: f64,
    draws: usize,
    key: Key,
) -> Result<Tensor> {
    let mut sum = gradient.zeros_like()?;
    for draw in 0..draws {
        let noise = key.fold_in(draw as u64).logistic(bits.shape(), bits.dtype(), bits.device())?;
        let [below, above] = [softplus(&noise.neg()?)?, softplus(&noise)?]; // -ln u, -ln(1 - u)
        let one = (softplus(&logits.broadcast_sub(&below)?)? + &above)?;
        let zero = (softplus(&logits.neg()?.broadcast_sub(&above)?)? + &below)?.neg()?;
        let y = sigmoid(&(bits.ne(0.)?.where_cond(&one, &zero)? / temperature)?)?;
        sum = (sum + (&y * (1. - &y)?)?)?;
    }
    (sum * gradient)? / (temperature * draws as f64)
}

vectorised! {
    /// The averages of numbers `first..`, without the gradient.
    fn numbers_of<T: Real>(average: Average, logits: &[T], bits: &[T], first: usize, y: &mut [T]) {
        let (mut odds, mut beyond) = ([T::zero(); RUN], [T::zero(); RUN]);
        let (mut flip, mut words) = ([0u32; RUN], [0u32; RUN]);
        let n = y.len();
        let far = T::of(FAR);
        // A bit of 0 is one of 1 at the opposite logit and noise.
        for i in 0..n {
            let (logit, zero) = (cyclic(logits, first + i, 1)[0], bits[i] == T::zero());
            let score = if zero { -logit } else { logit };
            // A NaN goes on in what lies beyond.
            let (near, rest) = if score < far { (score, T::zero()) } else { (far, score - far) };
            (odds[i], beyond[i]) = (Real::exp(near), rest);
            flip[i] = if zero { u32::MAX } else { 0 };
        }
        let (odds, beyond, flip, words) = (&odds[..n], &beyond[..n], &flip[..n], &mut words[..n]);
        let inverse = average.inverse::<T>();
        for draw in 0..average.draws {
            average.words(draw, first, words);
            for i in 0..n {
                // The score, given that it is positive, is -ln((1 - u) / (1 + u odds)).
                let (u, rest) = noise::uniform_and_rest::<T>(words[i] ^ flip[i]);
                let minus_score = (rest / (T::one() + u * odds[i])).ln_normal() - beyond[i];
                let e = Real::exp(minus_score * inverse);
                y[i] += e / ((T::one() + e) * (T::one() + e));
            }
        }
        let scale = average.scale::<T>();
        for y in y {
            *y *= scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::check::{close, irregular};

    const KEY: fn() -> Key = || Key::from_seed(5).named(NAME);

    #[test]
    fn fused_equals_reference() -> Result<()> {
        for (logits, value, dtype, tolerance) in [
            (vec![1, 3, 4], vec![3, 3, 4], DType::F64, 1e-12),
            (vec![3, 1, 4], vec![3, 3, 4], DType::F64, 1e-12),
            (vec![1, 130, 200], vec![2, 130, 200], DType::F32, 1e-5),
        ] {
            let x = (irregular(&logits, 1, dtype)? * 2.)?;
            let bits = irregular(&value, 2, dtype)?.gt(0.)?.to_dtype(dtype)?;
            let g = irregular(&value, 3, dtype)?;
            for (temperature, draws) in [(0.1, 3), (1., 1), (4., 7)] {
                let g = (&g * temperature)?;
                let fused = conditional_sigmoid_jacobian(&x, &bits, &g, temperature, draws, KEY())?;
                close(&fused, &reference(&x, &bits, &g, temperature, draws, KEY())?, tolerance)?;
            }
            assert!(conditional_sigmoid_jacobian(&x, &bits, &g, 1., 0, KEY()).is_err());
            assert!(conditional_sigmoid_jacobian(&x, &bits, &g, -1., 1, KEY()).is_err());
        }
        Ok(())
    }

    #[test]
    fn logits_of_any_size_are_exact() -> Result<()> {
        let inf = f64::INFINITY;
        let logits = Tensor::new(&[800f64, -800., 90., -90., 0.3, inf, -inf], &Device::Cpu)?;
        for bits in [[1f64, 0., 1., 0., 1., 1., 0.], [0., 1., 0., 1., 0., 1., 0.]] {
            let bits = Tensor::new(&bits, &Device::Cpu)?;
            for temperature in [0.5, 300.] {
                let g = (irregular(&[7], 3, DType::F64)? * temperature)?;
                let twin = reference(&logits, &bits, &g, temperature, 9, KEY())?;
                for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-4)] {
                    let [x, z, g] = [&logits, &bits, &g].map(|t| t.to_dtype(dtype));
                    let fused = conditional_sigmoid_jacobian(&x?, &z?, &g?, temperature, 9, KEY())?;
                    close(&fused, &twin, tolerance)?;
                }
            }
        }
        Ok(())
    }
}
