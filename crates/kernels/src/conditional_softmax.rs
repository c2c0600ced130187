//! The Jacobian of a Gumbel-Softmax sample, averaged over the noise that leads to a given draw.
use candle_core::{D, Result, Tensor};

use crate::conditional_average::{Average, FAR, ROWS};
use crate::graph::{compute, fusible};
use crate::reduce::larger;
use crate::rows::{cyclic, make_rows};
use crate::softmax_rows::{categories, masked_row};
use crate::vectorised::vectorised;
use crate::{Key, Real, log_sum_exp, noise, softmax, softplus};

const NAME: &str = "conditional_softmax_jacobian";

/// Rows of a block, at which all draws are made before the next: each lane of a vector unit takes one.
const LANES: usize = ROWS;

/// Lanes are used in groups of as many, so that loops over them need no rest.
const GROUP: usize = 8;

/// A gradient times the Jacobian of a Gumbel-Softmax sample, averaged over the noise that leads to a given draw.
///
/// With `D = draws` vectors `G` of Gumbel noise, given that `one_hot` marks the largest entry of `logits + G`:
///
/// ```math
/// \frac{1}{D} \sum_{d=1}^{D} \frac{1}{\tau}\,
/// J\Bigl(\operatorname{softmax}\Bigl(\frac{\mathrm{logits} + G_d}{\tau}\Bigr)\Bigr)\, \mathrm{gradient},
/// \qquad J(p) = \operatorname{diag}(p) - p\, p^\top
/// ```
///
/// `one_hot`, `gradient: [S, .., K]`, and `logits` that broadcast to them → `[S, .., K]`. Entry `i` of draw `d`, in
/// row-major order, uses element `i` of the stream `key.fold_in(d)`; neither noise nor Jacobian is stored. A logit of
/// `-∞` masks a category. Rows of `one_hot` that are not one-hot give numbers without a meaning. No gradient.
///
/// Source: Paulus, Maddison, Krause (2021), section 3.
///
/// # Errors
/// If `temperature` is not positive and finite, there is no draw, a row has no finite logit, or the shapes do not
/// fit.
pub fn conditional_softmax_jacobian(
    logits: &Tensor,
    one_hot: &Tensor,
    gradient: &Tensor,
    temperature: f64,
    draws: usize,
    key: Key,
) -> Result<Tensor> {
    let average = Average::new(temperature, draws, key)?;
    let k = categories(one_hot.shape())?;
    average.of([logits, one_hot, gradient], |[logits, one_hot, gradient]| {
        if !fusible([logits, one_hot, gradient]) {
            return reference(logits, one_hot, gradient, temperature, draws, key);
        }
        let n = one_hot.elem_count();
        let y = compute!(NAME, one_hot.shape(), T, |logits, one_hot, gradient| {
            make_rows(n / k, k, average.cost(k), |first, y: &mut [T]| {
                let at = first * k..first * k + y.len();
                rows_of(average, logits, &one_hot[at.clone()], &gradient[at], (first, k), y)
            })?
        });
        Ok(y.tensor())
    })
}

/// The twin of [`conditional_softmax_jacobian`] from plain candle operations.
pub fn reference(
    logits: &Tensor,
    one_hot: &Tensor,
    gradient: &Tensor,
    temperature: f64,
    draws: usize,
    key: Key,
) -> Result<Tensor> {
    let total = log_sum_exp(logits, D::Minus1)?.unsqueeze(D::Minus1)?;
    let mut sum = gradient.zeros_like()?;
    for draw in 0..draws {
        let noise =
            key.fold_in(draw as u64).gumbel(one_hot.shape(), one_hot.dtype(), one_hot.device())?;
        let top = (one_hot * &noise)?.sum_keepdim(D::Minus1)?.broadcast_add(&total)?;
        let excess = top.broadcast_sub(&noise.broadcast_add(logits)?)?;
        let below = (softplus(&excess)? * (1. - one_hot)?)?;
        let p = softmax(&(below / -temperature)?)?;
        let mean = (gradient * &p)?.sum_keepdim(D::Minus1)?;
        sum = (sum + (gradient.broadcast_sub(&mean)? * p)?)?;
    }
    sum / (temperature * draws as f64)
}

fn rows_of<T: Real>(
    average: Average,
    logits: &[T],
    one_hot: &[T],
    gradient: &[T],
    (first, k): (usize, usize),
    y: &mut [T],
) -> Result<()> {
    let (mut block, n) = (Block::new(k), LANES * k);
    let inputs = one_hot.chunks(n).zip(gradient.chunks(n));
    for (i, (y, (one_hot, gradient))) in y.chunks_mut(n).zip(inputs).enumerate() {
        let first = first + i * LANES;
        block.load(logits, one_hot, gradient, first)?;
        for draw in 0..average.draws {
            average.words(draw, first * k, &mut block.words[..y.len()]);
            block.add(y.len(), average.inverse());
        }
        block.write(average.scale(), y);
    }
    Ok(())
}

/// Lanes for so many rows.
fn lanes(rows: usize) -> usize {
    rows.next_multiple_of(GROUP).min(LANES)
}

/// Rows side by side, in columns of [`LANES`] numbers each.
struct Block<T> {
    k: usize,
    /// `1 / p` of the probabilities `p`, at most `e^FAR`, and the logarithm of the rest; 0 where the draw is.
    reciprocal: Vec<[T; LANES]>,
    beyond: Vec<[T; LANES]>,
    gradient: Vec<[T; LANES]>,
    /// The average so far, not yet divided.
    sum: Vec<[T; LANES]>,
    /// Of one draw of noise: in rows, and in columns.
    words: Vec<u32>,
    columns: Vec<[u32; LANES]>,
    /// Of one draw of noise: exponential noise, then the weights of the relaxed sample.
    weight: Vec<[T; LANES]>,
}

impl<T: Real> Block<T> {
    fn new(k: usize) -> Self {
        let column = || vec![[T::zero(); LANES]; k];
        Self {
            k,
            reciprocal: column(),
            beyond: column(),
            gradient: column(),
            sum: column(),
            words: vec![0; k * LANES],
            columns: vec![[0; LANES]; k],
            weight: column(),
        }
    }

    fn load(&mut self, logits: &[T], one_hot: &[T], gradient: &[T], first: usize) -> Result<()> {
        let k = self.k;
        for r in 0..one_hot.len() / k {
            let logits = cyclic(logits, first + r, k);
            if !logits.iter().any(|logit| *logit > T::NEG_INFINITY) {
                return masked_row(first + r);
            }
            let (one_hot, gradient) = (&one_hot[r * k..][..k], &gradient[r * k..][..k]);
            for c in 0..k {
                self.reciprocal[c][r] = logits[c];
                self.beyond[c][r] = one_hot[c];
                self.gradient[c][r] = gradient[c];
            }
        }
        self.sum.fill([T::zero(); LANES]);
        reciprocals_of(&mut self.reciprocal, &mut self.beyond, lanes(one_hot.len() / k));
        Ok(())
    }

    /// Adds `J(p) gradient` of the relaxed sample `p` that the first `n` words make.
    fn add(&mut self, n: usize, inverse: T) {
        for (r, words) in self.words[..n].chunks_exact(self.k).enumerate() {
            for (column, word) in self.columns.iter_mut().zip(words) {
                column[r] = *word;
            }
        }
        add_draw(self, lanes(n / self.k), inverse);
    }

    fn write(&self, scale: T, y: &mut [T]) {
        for (r, y) in y.chunks_exact_mut(self.k).enumerate() {
            for (y, sum) in y.iter_mut().zip(&self.sum) {
                *y = sum[r] * scale;
            }
        }
    }
}

vectorised! {
    /// Makes the first `n` lanes of logits reciprocals, and of the draw what lies beyond.
    fn reciprocals_of<T: Real>(logits: &mut [[T; LANES]], draw: &mut [[T; LANES]], n: usize) {
        let (mut top, mut total) = ([T::NEG_INFINITY; LANES], [T::zero(); LANES]);
        for logits in &*logits {
            for (top, logit) in top.iter_mut().zip(&logits[..n]) {
                *top = larger(*top, *logit);
            }
        }
        for logits in &*logits {
            for ((total, top), logit) in total.iter_mut().zip(&top).zip(&logits[..n]) {
                *total += Real::exp(*logit - *top);
            }
        }
        for total in &mut total {
            *total = Real::ln(*total);
        }
        let far = T::of(FAR);
        for (logits, draw) in logits.iter_mut().zip(draw) {
            let (logits, draw) = (&mut logits[..n], &mut draw[..n]);
            for r in 0..n {
                let (gap, drawn) = ((top[r] - logits[r]) + total[r], draw[r] != T::zero());
                let near = if gap < far { gap } else { far };
                logits[r] = if drawn { T::zero() } else { Real::exp(near) };
                draw[r] = if drawn { T::zero() } else { gap - near };
            }
        }
    }
    fn add_draw<T: Real>(block: &mut Block<T>, n: usize, inverse: T) {
        let Block { reciprocal, beyond, gradient, sum, columns, weight, .. } = block;
        let [mut own, mut total, mut mean] = [[T::zero(); LANES]; 3];
        let (own, total, mean) = (&mut own[..n], &mut total[..n], &mut mean[..n]);
        for ((noise, words), reciprocal) in weight.iter_mut().zip(columns).zip(&*reciprocal) {
            let (noise, words, reciprocal) = (&mut noise[..n], &words[..n], &reciprocal[..n]);
            for r in 0..n {
                noise[r] = noise::exponential(words[r]);
                own[r] += if reciprocal[r] == T::zero() { noise[r] } else { T::zero() };
            }
        }
        for own in &mut *own {
            *own = T::one() / *own;
        }
        let columns = weight.iter_mut().zip(reciprocal).zip(beyond).zip(&*gradient);
        for (((weight, reciprocal), beyond), gradient) in columns {
            let (weight, reciprocal) = (&mut weight[..n], &reciprocal[..n]);
            let (beyond, gradient) = (&beyond[..n], &gradient[..n]);
            for r in 0..n {
                // With E the noise, a weight is (1 + E / (p E_drawn))^(-1/τ), beside that of the draw, which is 1.
                let below = (T::one() + weight[r] * own[r] * reciprocal[r]).ln_normal() + beyond[r];
                weight[r] = Real::exp(-below * inverse);
                total[r] += weight[r];
                mean[r] += weight[r] * gradient[r];
            }
        }
        for (total, mean) in total.iter_mut().zip(&mut *mean) {
            *total = T::one() / *total;
            *mean *= *total;
        }
        for ((sum, weight), gradient) in sum.iter_mut().zip(weight).zip(gradient) {
            let (sum, weight, gradient) = (&mut sum[..n], &weight[..n], &gradient[..n]);
            for r in 0..n {
                sum[r] += weight[r] * total[r] * (gradient[r] - mean[r]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::check::{close, irregular};
    use crate::one_hot_argmax;

    const KEY: fn() -> Key = || Key::from_seed(5).named(NAME);

    fn inputs(logits: &[usize], value: &[usize], dtype: DType) -> Result<[Tensor; 3]> {
        let one_hot = one_hot_argmax(&irregular(value, 2, dtype)?)?;
        Ok([(irregular(logits, 1, dtype)? * 2.)?, one_hot, irregular(value, 3, dtype)?])
    }

    #[test]
    fn fused_equals_reference() -> Result<()> {
        for (logits, value, dtype, tolerance) in [
            (vec![1, 3, 2, 4], vec![3, 3, 2, 4], DType::F64, 1e-12),
            (vec![3, 1, 2, 4], vec![3, 3, 2, 4], DType::F64, 1e-12),
            (vec![2, 1], vec![2, 1], DType::F64, 1e-12),
            (vec![70, 1], vec![70, 1], DType::F32, 1e-5),
            (vec![1, 130, 9, 10], vec![1, 130, 9, 10], DType::F32, 1e-4),
            (vec![3, 3000], vec![3, 3000], DType::F32, 1e-4),
        ] {
            let [logits, one_hot, g] = inputs(&logits, &value, dtype)?;
            for (temperature, draws) in [(0.1, 3), (1., 1), (4., 7)] {
                // Results of the size of 1, whatever there is to divide by.
                let g = (&g * (temperature * value[value.len() - 1] as f64))?;
                let fused =
                    conditional_softmax_jacobian(&logits, &one_hot, &g, temperature, draws, KEY())?;
                let twin = reference(&logits, &one_hot, &g, temperature, draws, KEY())?;
                close(&fused, &twin, tolerance)?;
            }
        }
        Ok(())
    }

    #[test]
    fn logits_of_any_size_and_masked_categories_are_exact() -> Result<()> {
        let logits = [800f64, -800., 0.3, f64::NEG_INFINITY, 90., 89.5];
        let logits = Tensor::new(&[logits], &Device::Cpu)?;
        for drawn in [0, 1, 2, 4] {
            let one_hot = (0..6).map(|c| f64::from(u8::from(c == drawn))).collect::<Vec<_>>();
            let one_hot = Tensor::from_vec(one_hot, (1, 6), &Device::Cpu)?;
            // At a high temperature even a category that is never drawn has a weight.
            for temperature in [0.5, 300.] {
                let g = (irregular(&[1, 6], 3, DType::F64)? * (6. * temperature))?;
                let run = |dtype| {
                    let [x, z, g] = [&logits, &one_hot, &g].map(|t| t.to_dtype(dtype));
                    conditional_softmax_jacobian(&x?, &z?, &g?, temperature, 9, KEY())
                };
                let twin = reference(&logits, &one_hot, &g, temperature, 9, KEY())?;
                close(&run(DType::F64)?, &twin, 1e-12)?;
                close(&run(DType::F32)?, &twin, 1e-4)?;
                let masked: f64 = run(DType::F64)?.get(0)?.get(3)?.to_scalar()?;
                assert_eq!(masked, 0.);
            }
        }
        Ok(())
    }

    #[test]
    fn a_row_does_not_depend_on_the_others() -> Result<()> {
        let [logits, one_hot, g] = inputs(&[700, 7], &[700, 7], DType::F32)?;
        let all = conditional_softmax_jacobian(&logits, &one_hot, &g, 0.5, 4, KEY())?;
        let [logits, one_hot, g] = [logits, one_hot, g].map(|x| x.narrow(0, 0, 11));
        let some = conditional_softmax_jacobian(&logits?, &one_hot?, &g?, 0.5, 4, KEY())?;
        close(&all.narrow(0, 0, 11)?, &some, 0.)
    }

    #[test]
    fn bad_arguments_are_errors_that_say_so() -> Result<()> {
        let [logits, one_hot, g] = inputs(&[2, 3], &[2, 3], DType::F32)?;
        let run = |x: &Tensor, g: &Tensor, temperature, draws| {
            conditional_softmax_jacobian(x, &one_hot, g, temperature, draws, KEY())
        };
        assert!(run(&logits, &g, 0., 3).unwrap_err().to_string().contains("temperature"));
        assert!(run(&logits, &g, 1., 0).unwrap_err().to_string().contains("draws = 0"));
        assert!(run(&logits, &g.narrow(0, 0, 1)?, 1., 3).is_err());
        assert!(run(&irregular(&[4, 2, 3], 1, DType::F32)?, &g, 1., 3).is_err());
        assert!(run(&logits.to_dtype(DType::U8)?, &g, 1., 3).is_err());
        Ok(())
    }
}
