//! A Gumbel-Softmax sample, soft or straight-through.
use candle_core::{CpuStorage, CustomOp1, CustomOp2, D, Layout, Result, Shape, Tensor};

use crate::log_softmax::{categories, exp_in_place, masked_row};
use crate::rows::{data, for_rows, max, sum, sum_zip, with_float};
use crate::{Key, Real, in_single, noise, one_hot_argmax};

/// What the forward pass hands out; the backward pass is that of the soft sample in both cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// The relaxed sample: a point inside the simplex.
    Soft,
    /// The one-hot vector of its largest entry (straight-through: value and gradient disagree).
    Hard,
}

/// Samples `softmax((logits + G) / temperature)` with `G ~ Gumbel(0, 1)` independent per entry.
///
/// `logits: [S | 1, .., K]` → `[S, .., K]` with `S = samples`: a leading axis of 1 is shared by all samples.
/// Entry `i` of the result, in row-major order, uses element `i` of the stream `key`. The noise is made in
/// the kernel and again in its backward pass; nothing but the result is stored.
///
/// Source: Jang et al. (2017), eq. 2; Maddison et al. (2017), eq. 10. With [`Forward::Hard`] it is the
/// straight-through estimator of Jang et al. (2017), section 2.2, whose gradient is biased.
///
/// # Errors
/// If `temperature` is not positive and finite, the leading axis is neither 1 nor `samples`, or a row has
/// no finite logit.
pub fn gumbel_softmax(
    logits: &Tensor,
    samples: usize,
    temperature: f64,
    forward: Forward,
    key: Key,
) -> Result<Tensor> {
    if !(temperature > 0. && temperature.is_finite()) {
        candle_core::bail!("temperature must be positive and finite, got {temperature}")
    }
    let leading = logits.dims().first().copied().unwrap_or(0);
    if logits.rank() < 2 || samples == 0 || (leading != 1 && leading != samples) {
        candle_core::bail!(
            "expected logits [S | 1, .., K] for S = {samples} ≥ 1 samples, got {:?}",
            logits.shape()
        )
    }
    in_single([logits], |[logits]| {
        if logits.device().is_cpu() {
            let op = Sample { samples, inverse: 1. / temperature, forward, key };
            logits.contiguous()?.apply_op1(op)
        } else {
            reference(logits, samples, temperature, forward, key)
        }
    })
}

/// The twin of [`gumbel_softmax`] from plain candle operations.
pub fn reference(
    logits: &Tensor,
    samples: usize,
    temperature: f64,
    forward: Forward,
    key: Key,
) -> Result<Tensor> {
    let mut shape = logits.dims().to_vec();
    if let Some(leading) = shape.first_mut() {
        *leading = samples;
    }
    let gumbel = key.gumbel(shape, logits.dtype(), logits.device())?;
    let scores = (gumbel.broadcast_add(logits)? * (1. / temperature))?;
    let top = scores.max_keepdim(D::Minus1)?.detach();
    let weights = scores.broadcast_sub(&top)?.exp()?;
    let soft = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
    match forward {
        Forward::Soft => Ok(soft),
        Forward::Hard => one_hot_argmax(&scores)? + (&soft - soft.detach())?,
    }
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    samples: usize,
    inverse: f64,
    forward: Forward,
    key: Key,
}

/// Backward pass; its first argument is the soft sample where that was handed out, else the logits.
#[derive(Clone, Copy, Debug)]
struct Gradient {
    op: Sample,
    /// Leading axis of the logits: 1 or the number of samples.
    leading: usize,
}

impl Sample {
    /// Rows `first..` of `(logits + G) / temperature`, less their largest entry, into `y`; row `r` of
    /// `logits` serves every row that is `r` modulo their number.
    #[inline(always)]
    fn score_rows<T: Real>(&self, logits: &[T], k: usize, first: usize, y: &mut [T]) -> Result<()> {
        let (rows, inverse) = (logits.len() / k, T::of(self.inverse));
        let mut words = [0u32; 1024];
        let start = (first * k) as u64;
        for (i, y) in y.chunks_mut(1024).enumerate() {
            let words = &mut words[..y.len()];
            self.key.fill_words(start + (i * 1024) as u64, words);
            for (y, word) in y.iter_mut().zip(words.iter()) {
                *y = noise::gumbel::<T>(*word);
            }
        }
        for (i, y) in y.chunks_mut(k).enumerate() {
            let row = (first + i) % rows;
            for (y, logit) in y.iter_mut().zip(&logits[row * k..][..k]) {
                *y = (*y + *logit) * inverse;
            }
            let top = max(y);
            if top == T::NEG_INFINITY {
                return masked_row(row);
            }
            for y in y.iter_mut() {
                *y -= top;
            }
        }
        Ok(())
    }

    /// Rows `first..` of the soft sample into `y`.
    #[inline(always)]
    fn soft_rows<T: Real>(&self, logits: &[T], k: usize, first: usize, y: &mut [T]) -> Result<()> {
        self.score_rows(logits, k, first, y)?;
        // Over all rows at once, because short rows would not fill a vector.
        exp_in_place(y);
        for y in y.chunks_mut(k) {
            let scale = T::one() / sum(y, |y| y);
            for y in y.iter_mut() {
                *y *= scale;
            }
        }
        Ok(())
    }

    fn run<T: Real>(&self, logits: &[T], k: usize, repeats: usize) -> Result<Vec<T>> {
        let mut y = vec![T::zero(); logits.len() * repeats];
        for_rows(&mut y, k, 2 * k, |first, y| match self.forward {
            Forward::Soft => self.soft_rows(logits, k, first, y),
            Forward::Hard => {
                self.score_rows(logits, k, first, y)?;
                y.chunks_mut(k).for_each(harden);
                Ok(())
            }
        })?;
        Ok(y)
    }

    /// How often the leading axis is repeated.
    fn repeats(&self, shape: &Shape) -> usize {
        if shape.dims().first() == Some(&self.samples) { 1 } else { self.samples }
    }
}

/// Replaces a row whose largest entry is 0 by the one-hot vector of the first 0.
fn harden<T: Real>(row: &mut [T]) {
    let mut found = false;
    for y in row {
        let here = !found && *y == T::zero();
        found |= here;
        *y = if here { T::one() } else { T::zero() };
    }
}

impl Gradient {
    /// `Σ_s y_k (g_k - ⟨g, y⟩) / temperature` over the samples `s` that share a row of logits.
    fn run<T: Real>(&self, saved: &[T], g: &[T], k: usize, inputs: usize) -> Result<Vec<T>> {
        let (op, repeats) = (self.op, g.len() / (inputs * k).max(1));
        let inverse = T::of(op.inverse);
        let mut d = vec![T::zero(); inputs * k];
        for_rows(&mut d, k, 2 * k * repeats, |first, d| {
            let mut scratch =
                vec![T::zero(); if op.forward == Forward::Hard { d.len() } else { 0 }];
            for repeat in 0..repeats {
                let start = repeat * inputs + first;
                let y = match op.forward {
                    Forward::Soft => &saved[start * k..][..d.len()],
                    Forward::Hard => {
                        op.soft_rows(saved, k, start, &mut scratch)?;
                        &scratch[..]
                    }
                };
                let g = &g[start * k..][..d.len()];
                for (i, d) in d.chunks_mut(k).enumerate() {
                    let (y, g) = (&y[i * k..][..k], &g[i * k..][..k]);
                    let mean = sum_zip(y, g, |y, g| y * g);
                    for ((d, y), g) in d.iter_mut().zip(y).zip(g) {
                        *d += *y * (*g - mean) * inverse;
                    }
                }
            }
            Ok(())
        })?;
        Ok(d)
    }
}

impl CustomOp1 for Sample {
    fn name(&self) -> &'static str {
        "gumbel_softmax"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (k, repeats) = (categories(l.shape())?, self.repeats(l.shape()));
        let y = with_float!(s, self.name(), T => {
            self.run::<T>(data(s, l)?, k, repeats)?
        });
        let mut shape = l.dims().to_vec();
        shape[0] *= repeats;
        Ok((y, Shape::from(shape)))
    }

    fn bwd(&self, logits: &Tensor, y: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let saved = match self.forward {
            Forward::Soft => y,
            Forward::Hard => logits,
        };
        let gradient = Gradient { op: *self, leading: logits.dim(0)? };
        Ok(Some(saved.apply_op2_no_bwd(&g.contiguous()?, &gradient)?))
    }
}

impl CustomOp2 for Gradient {
    fn name(&self) -> &'static str {
        "gumbel_softmax_backward"
    }

    fn cpu_fwd(
        &self,
        saved: &CpuStorage,
        layout: &Layout,
        g: &CpuStorage,
        lg: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let k = categories(lg.shape())?;
        let mut shape = lg.dims().to_vec();
        shape[0] = self.leading;
        let inputs = shape.iter().product::<usize>() / k;
        let d = with_float!(g, self.name(), T => {
            self.run::<T>(data(saved, layout)?, data(g, lg)?, k, inputs)?
        });
        Ok((d, Shape::from(shape)))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::rows::check::{finite_differences, irregular, twins};

    const KEY: fn() -> Key = || Key::from_seed(5).named("gumbel_softmax");

    #[test]
    fn fused_equals_reference_in_value_and_gradient() -> Result<()> {
        for (shape, samples, dtype, tolerance) in [
            (vec![1, 3, 2, 4], 3, DType::F64, 1e-12),
            (vec![3, 3, 2, 4], 3, DType::F64, 1e-12),
            (vec![1, 100, 20, 10], 2, DType::F32, 3e-5),
            (vec![2, 3, 5000], 2, DType::F32, 3e-5),
        ] {
            for forward in [Forward::Soft, Forward::Hard] {
                for temperature in [0.3, 1.] {
                    twins(
                        &[irregular(&shape, 1, dtype)?],
                        tolerance,
                        |x| gumbel_softmax(&x[0], samples, temperature, forward, KEY()),
                        |x| reference(&x[0], samples, temperature, forward, KEY()),
                    )?;
                }
            }
        }
        finite_differences(&[irregular(&[1, 2, 3], 2, DType::F64)?], |x| {
            gumbel_softmax(&x[0], 4, 0.7, Forward::Soft, KEY())
        })
    }

    #[test]
    fn a_draw_does_not_depend_on_the_size_of_the_batch() -> Result<()> {
        let logits = irregular(&[1, 5000, 7], 3, DType::F32)?;
        let all = gumbel_softmax(&logits, 1, 0.5, Forward::Soft, KEY())?;
        let some = gumbel_softmax(&logits.narrow(1, 0, 11)?, 1, 0.5, Forward::Soft, KEY())?;
        let all: Vec<f32> = all.narrow(1, 0, 11)?.flatten_all()?.to_vec1()?;
        assert_eq!(all, some.flatten_all()?.to_vec1::<f32>()?);
        Ok(())
    }

    #[test]
    fn bad_arguments_are_errors_that_say_so() -> Result<()> {
        let logits = irregular(&[2, 3], 3, DType::F32)?;
        for temperature in [0., -1., f64::NAN, f64::INFINITY] {
            let error = gumbel_softmax(&logits, 2, temperature, Forward::Soft, KEY()).unwrap_err();
            assert!(error.to_string().contains(&format!("{temperature}")), "{error}");
        }
        assert!(gumbel_softmax(&logits, 3, 1., Forward::Soft, KEY()).is_err());
        assert!(gumbel_softmax(&logits, 0, 1., Forward::Soft, KEY()).is_err());
        let masked = Tensor::new(&[[f32::NEG_INFINITY; 3]], &Device::Cpu)?;
        assert!(gumbel_softmax(&masked, 1, 1., Forward::Soft, KEY()).is_err());
        assert!(gumbel_softmax(&logits.to_dtype(DType::U8)?, 2, 1., Forward::Soft, KEY()).is_err());
        Ok(())
    }

    #[test]
    fn a_masked_category_is_never_drawn() -> Result<()> {
        let logits = Tensor::new(&[[0f32, f32::NEG_INFINITY, 1.]], &Device::Cpu)?;
        for forward in [Forward::Soft, Forward::Hard] {
            let y = gumbel_softmax(&logits, 1000, 2., forward, KEY())?;
            assert_eq!(y.narrow(1, 1, 1)?.max_all()?.to_scalar::<f32>()?, 0.);
        }
        Ok(())
    }
}
