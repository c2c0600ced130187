//! Logits plus noise: what the samples of relaxed distributions are made of.
use candle_core::{Result, Tensor};
use rayon::prelude::*;

use crate::graph::compute;
use crate::rows::make_rows;
use crate::threads::parallel;
use crate::vectorised::vectorised;
use crate::{Key, Real};

/// Draws per run, whose words stay in the cache; a multiple of 4, so that runs start at block boundaries.
const RUN: usize = 512;

/// Numbers of a parallel task that makes samples and densities; fixed, so that no result depends on the number of
/// threads.
const TASK: usize = 1 << 13;

/// The scores `(logits + noise) / temperature`: number `i` is made of element `i` of the stream `key` and of logit
/// `i`, counted modulo their number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Perturbed {
    pub(crate) inverse: f64,
    key: Key,
}

impl Perturbed {
    /// # Errors
    /// If the temperature is not positive and finite.
    pub(crate) fn new(temperature: f64, key: Key) -> Result<Self> {
        positive(temperature)?;
        Ok(Self { inverse: 1. / temperature, key })
    }

    /// Scores `first..` into `y`, with the noise that `noise` makes of a word.
    #[inline(always)]
    pub(crate) fn fill<T: Real>(
        self,
        logits: &[T],
        first: usize,
        y: &mut [T],
        noise: impl Fn(u32) -> T,
    ) {
        let inverse = T::of(self.inverse);
        let mut words = [0u32; RUN];
        for (i, y) in y.chunks_mut(RUN).enumerate() {
            let words = self.words(first + i * RUN, &mut words[..y.len()]);
            for (y, word) in y.iter_mut().zip(words) {
                *y = noise(*word);
            }
            scale_sum(y, logits, first + i * RUN, inverse);
        }
    }

    /// The noise of scores `first..` into `y`, and beside each what else `noise` makes of its word.
    #[inline(always)]
    pub(crate) fn fill_noise<T: Real>(
        self,
        first: usize,
        y: &mut [T],
        beside: &mut [T],
        noise: impl Fn(u32) -> (T, T),
    ) {
        let mut words = [0u32; RUN];
        for (i, (y, beside)) in y.chunks_mut(RUN).zip(beside.chunks_mut(RUN)).enumerate() {
            let words = self.words(first + i * RUN, &mut words[..y.len()]);
            for ((y, beside), word) in y.iter_mut().zip(beside).zip(words) {
                (*y, *beside) = noise(*word);
            }
        }
    }

    fn words(self, first: usize, words: &mut [u32]) -> &[u32] {
        self.key.fill_words(first as u64, words);
        words
    }
}

pub(crate) fn positive(temperature: f64) -> Result<()> {
    if temperature > 0. && temperature.is_finite() {
        return Ok(());
    }
    candle_core::bail!("temperature must be positive and finite, got {temperature}")
}

/// The shape of `samples` samples of logits `[S | 1, ..]` of at least `rank` axes.
pub(crate) fn sample_shape(logits: &Tensor, samples: usize, rank: usize) -> Result<Vec<usize>> {
    let mut shape = logits.dims().to_vec();
    match shape.first_mut() {
        Some(s) if logits.rank() >= rank && samples > 0 && (*s == 1 || *s == samples) => {
            *s = samples;
            Ok(shape)
        }
        _ => candle_core::bail!(
            "expected logits [S | 1, ..] of {rank} axes or more for S = {samples} ≥ 1 samples, got {:?}",
            logits.shape()
        ),
    }
}

/// `y_i = (y_i + x_i) scale`, where `y` starts at number `first`, and numbers of `x` are counted modulo how many there
/// are.
#[inline(always)]
pub(crate) fn scale_sum<T: Real>(y: &mut [T], x: &[T], first: usize, scale: T) {
    let (mut y, mut at) = (y, first % x.len().max(1));
    while !y.is_empty() {
        let (here, rest) = y.split_at_mut((x.len() - at).min(y.len()));
        for (y, x) in here.iter_mut().zip(&x[at..]) {
            *y = (*y + *x) * scale;
        }
        (y, at) = (rest, 0);
    }
}

/// Two vectors with `width` numbers and with one number for each of `rows` rows, made by `f(first row, their numbers,
/// their number)` on runs of whole rows, in parallel.
pub(crate) fn make_pairs<T: Real>(
    rows: usize,
    width: usize,
    f: impl Fn(usize, &mut [T], &mut [T]) -> Result<()> + Sync,
) -> Result<(Vec<T>, Vec<T>)> {
    let (mut wide, mut narrow) = (vec![T::zero(); rows * width], vec![T::zero(); rows]);
    if !wide.is_empty() {
        let run = (TASK / width).max(1);
        if run >= rows || !parallel() {
            let tasks = wide.chunks_mut(run * width).zip(narrow.chunks_mut(run));
            tasks.enumerate().try_for_each(|(task, (wide, narrow))| f(task * run, wide, narrow))?;
        } else {
            let tasks = wide.par_chunks_mut(run * width).zip(narrow.par_chunks_mut(run));
            tasks.enumerate().try_for_each(|(task, (wide, narrow))| f(task * run, wide, narrow))?;
        }
    }
    Ok((wide, narrow))
}

/// `scale Σ_r x_{r n + i}` for each `i` below `n`: the gradient of `n` numbers of which `x` holds that of each use.
pub(crate) fn sum_of_repeats<T: Real>(x: &[T], n: usize, scale: f64) -> Result<Vec<T>> {
    make_rows(n, 1, x.len() / n.max(1), |first, sums| {
        repeats(x, n, T::of(scale), first, sums);
        Ok(())
    })
}

/// The gradients of logits and value, where a function depends on `logits - temperature · value` and `slopes` holds its
/// gradient in the value at each use of one.
pub(crate) fn shares(
    inputs: [&Tensor; 2],
    slopes: &Tensor,
    temperature: f64,
) -> Result<[Option<Tensor>; 2]> {
    let share = |x: &Tensor, scale: f64| match x.elem_count() {
        _ if !x.track_op() => Ok(None),
        n if n == slopes.elem_count() && scale == 1. => slopes.reshape(x.shape()).map(Some),
        n => {
            let sums = compute!("shares", x.shape(), T, |slopes| {
                sum_of_repeats::<T>(slopes, n, scale)?
            });
            Ok(Some(sums.tensor()))
        }
    };
    let [logits, value] = inputs;
    Ok([share(logits, -1. / temperature)?, share(value, 1.)?])
}

vectorised! {
    fn repeats<T: Real>(x: &[T], n: usize, scale: T, first: usize, sums: &mut [T]) {
        for x in x.chunks_exact(n) {
            for (sum, x) in sums.iter_mut().zip(&x[first..]) {
                *sum += *x;
            }
        }
        for sum in sums {
            *sum *= scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise;

    #[test]
    fn a_score_depends_on_its_number_alone() -> Result<()> {
        let key = Key::from_seed(3);
        let scores = Perturbed::new(0.5, key)?;
        let logits = [0.1, -2., 0.7, 3., 1.];
        let mut all = [0f64; 1300];
        scores.fill(&logits, 0, &mut all, noise::logistic);
        for (i, y) in all.iter().enumerate() {
            let expected = (noise::logistic::<f64>(key.word(i as u64)) + logits[i % 5]) * 2.;
            assert_eq!(*y, expected);
        }
        for (first, n) in [(0, 3), (7, 600), (511, 514), (1299, 1)] {
            let (mut y, mut beside) = (vec![0f64; n], vec![0f64; n]);
            let pair = noise::logistic_with_log_density::<f64>;
            scores.fill_noise(first, &mut y, &mut beside, pair);
            scale_sum(&mut y, &logits, first, scores.inverse);
            assert_eq!(y, all[first..first + n]);
            assert_eq!(beside[n - 1], pair(key.word((first + n - 1) as u64)).1);
        }
        Ok(())
    }

    #[test]
    fn pairs_are_made_of_whole_rows_once() -> Result<()> {
        for (rows, width) in [(1000, 20), (3, 10_000), (0, 4), (4, 0)] {
            let (wide, narrow) = make_pairs(rows, width, |first, wide: &mut [f64], narrow| {
                assert_eq!(wide.len(), narrow.len() * width);
                wide.iter_mut().for_each(|x| *x += 1.);
                narrow.iter_mut().enumerate().for_each(|(i, x)| *x += (first + i) as f64);
                Ok(())
            })?;
            assert!(wide.len() == rows * width && wide.iter().all(|x| *x == 1.));
            let whole = narrow.iter().enumerate().all(|(i, x)| *x == i as f64 || width == 0);
            assert!(narrow.len() == rows && whole);
        }
        let fail = |first, _: &mut [f64], _: &mut [f64]| candle_core::bail!("row {first}");
        assert!(make_pairs(5, 2, fail).is_err());
        Ok(())
    }

    #[test]
    fn repeats_are_summed() -> Result<()> {
        let x: Vec<f64> = (0..12).map(f64::from).collect();
        assert_eq!(sum_of_repeats(&x, 4, 0.5)?, [6., 7.5, 9., 10.5]);
        assert_eq!(sum_of_repeats(&x, 12, 2.)?[11], 22.);
        assert!(sum_of_repeats::<f64>(&[], 0, 2.)?.is_empty());
        Ok(())
    }
}
