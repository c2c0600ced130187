//! A Gumbel-Softmax sample, soft or straight-through.
use candle_core::{D, Result, Tensor};

use crate::graph::{compute, fusible, node};
use crate::log_softmax::softmax_slopes;
use crate::perturbed::{positive, sample_shape};
use crate::reduce::{larger, max, position};
use crate::rows::{cyclic, make_rows};
use crate::softmax_rows::{
    categories, centre_rows, masked_row, normalise_long_row, normalise_rows,
};
use crate::vectorised::vectorised;
use crate::{Key, Real, in_single, noise, one_hot_argmax};

/// What the forward pass hands out; the backward pass is that of the soft sample in both cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// The relaxed sample: a point inside the simplex.
    Soft,
    /// The one-hot vector of its largest entry (straight-through: value and gradient disagree).
    Hard,
}

/// Samples of relaxed one-hot vectors, or the one-hot vectors that they round to.
///
/// With `G ~ Gumbel(0, 1)` independent per entry, and `τ = temperature`:
///
/// ```math
/// \operatorname{softmax}\Bigl(\frac{\mathrm{logits} + G}{\tau}\Bigr)_k
/// = \frac{\exp\bigl((\mathrm{logits}_k + G_k) / \tau\bigr)}{\sum_j \exp\bigl((\mathrm{logits}_j + G_j) / \tau\bigr)}
/// ```
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
    positive(temperature)?;
    let shape = sample_shape(logits, samples, 2)?;
    in_single([logits], |[logits]| {
        #[cfg(feature = "cuda")]
        if crate::cuda::takes([logits]) {
            return crate::cuda::gumbel_softmax(logits, shape, temperature, forward, key);
        }
        #[cfg(feature = "metal")]
        if crate::metal::takes(logits) {
            return crate::metal::gumbel_softmax(logits, shape, temperature, forward, key);
        }
        if fusible([logits]) {
            fused(logits, shape, Noisy { inverse: 1. / temperature, key }, forward)
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

fn fused(logits: &Tensor, shape: Vec<usize>, noisy: Noisy, forward: Forward) -> Result<Tensor> {
    const NAME: &str = "gumbel_softmax";
    let k = categories(logits.shape())?;
    let rows = shape.iter().product::<usize>() / k;
    let y = compute!(NAME, shape, T, |logits| {
        make_rows(rows, k, 3 * k, |first, y| match forward {
            Forward::Soft => noisy.soft::<T>(logits, k, first, y),
            Forward::Hard => noisy.hard::<T>(logits, k, first, y),
        })?
    });
    node(NAME, [logits], y, move |[logits], y, g| {
        let inputs = logits.elem_count() / k;
        let d = compute!(NAME, logits.shape(), T, |logits, y, g| {
            let slopes = Slopes { noisy, forward, logits, y, g, k };
            make_rows(inputs, k, 2 * k * (rows / inputs.max(1)), |first, d: &mut [T]| {
                slopes.of_rows(first, d)
            })?
        });
        Ok([Some(d.tensor())])
    })
}

/// The scores `(logits + G) / temperature`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noisy {
    /// `1 / temperature`.
    pub(crate) inverse: f64,
    pub(crate) key: Key,
}

impl Noisy {
    /// Rows `first..` of the soft sample into `y`; row `r` of `logits` serves every row that is `r` modulo
    /// their number.
    fn soft<T: Real>(self, logits: &[T], k: usize, first: usize, y: &mut [T]) -> Result<()> {
        soft_rows(self, logits, k, first, y)
    }

    /// Rows `first..` of the hard sample, likewise.
    fn hard<T: Real>(self, logits: &[T], k: usize, first: usize, y: &mut [T]) -> Result<()> {
        hard_rows(self, logits, k, first, y)
    }

    /// `(logits + G) / temperature` for a run of numbers whose noise starts at element `start` of the stream.
    #[inline(always)]
    fn scores<T: Real>(self, logits: &[T], start: u64, y: &mut [T]) {
        let inverse = T::of(self.inverse);
        let mut words = [0u32; RUN];
        let (words, logits) = (&mut words[..y.len()], &logits[..y.len()]);
        self.key.fill_words(start, words);
        for ((y, logit), word) in y.iter_mut().zip(logits).zip(words.iter()) {
            *y = (noise::gumbel::<T>(*word) + *logit) * inverse;
        }
    }

    /// The scores of a long row, and the largest of them.
    #[inline(always)]
    fn long_row<T: Real>(self, logits: &[T], start: u64, y: &mut [T]) -> T {
        let mut top = T::NEG_INFINITY;
        for (i, (y, logits)) in y.chunks_mut(RUN).zip(logits.chunks(RUN)).enumerate() {
            self.scores(logits, start + (i * RUN) as u64, y);
            top = larger(top, max(y));
        }
        top
    }

    /// Makes a row of logits its scores; the largest of them.
    pub(crate) fn perturb<T: Real>(self, row: &mut [T], start: u64) -> T {
        perturb_row(self, row, start)
    }

    /// The scores of whole short rows `first..`.
    #[inline(always)]
    fn short_rows<T: Real>(self, logits: &[T], k: usize, first: usize, y: &mut [T]) {
        let rows = logits.len() / k;
        let (mut row, mut start, mut y) = (first % rows, (first * k) as u64, y);
        // In runs over which the rows of logits follow each other.
        while !y.is_empty() {
            let run = ((rows - row).min(RUN / k) * k).min(y.len());
            let (here, rest) = y.split_at_mut(run);
            self.scores(&logits[row * k..][..run], start, here);
            row = (row + run / k) % rows;
            (y, start) = (rest, start + run as u64);
        }
    }
}

/// Numbers whose random words are held at a time; a row of more is long.
const RUN: usize = 512;

vectorised! {
    fn soft_rows<T: Real>(noisy: Noisy, logits: &[T], k: usize, first: usize, y: &mut [T]) -> Result<()> {
        if k <= RUN {
            noisy.short_rows(logits, k, first, y);
            centre_rows(y, k, first)?;
            normalise_rows(y, k);
            return Ok(());
        }
        for (row, y) in (first..).zip(y.chunks_exact_mut(k)) {
            let top = noisy.long_row(cyclic(logits, row, k), (row * k) as u64, y);
            if top == T::NEG_INFINITY {
                return masked_row(row);
            }
            normalise_long_row(y, top);
        }
        Ok(())
    }

    fn perturb_row<T: Real>(noisy: Noisy, row: &mut [T], start: u64) -> T {
        let (mut top, mut logits) = (T::NEG_INFINITY, [T::zero(); RUN]);
        for (i, run) in row.chunks_mut(RUN).enumerate() {
            let logits = &mut logits[..run.len()];
            logits.copy_from_slice(run);
            noisy.scores(logits, start + (i * RUN) as u64, run);
            top = larger(top, max(run));
        }
        top
    }

    fn hard_rows<T: Real>(noisy: Noisy, logits: &[T], k: usize, first: usize, y: &mut [T]) -> Result<()> {
        if k <= RUN {
            noisy.short_rows(logits, k, first, y);
        }
        for (row, y) in (first..).zip(y.chunks_exact_mut(k)) {
            let top = if k <= RUN {
                max(y)
            } else {
                noisy.long_row(cyclic(logits, row, k), (row * k) as u64, y)
            };
            match position(y, top) {
                Some(at) if top > T::NEG_INFINITY => {
                    y.fill(T::zero());
                    y[at] = T::one();
                }
                _ => return masked_row(row),
            }
        }
        Ok(())
    }
}

/// `Σ_s y_k (g_k - ⟨g, y⟩) / temperature` over the samples `s` that share a row of logits.
#[derive(Clone, Copy)]
struct Slopes<'a, T> {
    noisy: Noisy,
    forward: Forward,
    logits: &'a [T],
    y: &'a [T],
    g: &'a [T],
    k: usize,
}

impl<T: Real> Slopes<'_, T> {
    fn of_rows(self, first: usize, d: &mut [T]) -> Result<()> {
        let (k, n) = (self.k, d.len());
        let mut again = vec![T::zero(); if self.forward == Forward::Hard { n } else { 0 }];
        let inputs = self.logits.len() / k;
        for repeat in 0..self.g.len() / self.logits.len().max(1) {
            let start = repeat * inputs + first;
            let y = match self.forward {
                Forward::Soft => &self.y[start * k..][..n],
                Forward::Hard => {
                    self.noisy.soft(self.logits, k, start, &mut again)?;
                    &again[..]
                }
            };
            softmax_slopes(y, &self.g[start * k..][..n], k, T::of(self.noisy.inverse), d);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::check::{finite_differences, irregular, twins};

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
