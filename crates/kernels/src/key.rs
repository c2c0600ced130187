//! Names of streams of random numbers.
use candle_core::{DType, Device, Result, Shape, Tensor};

use crate::philox::{fill_blocks, philox4x32_10};
use crate::rows::make_rows;
use crate::vectorised::vectorised;
use crate::{Real, noise};

/// Tweaks that keep the three uses of a key (draw, child by number, child by name) apart.
const CHILD_BY_NUMBER: u32 = 0x6368_696c;
const CHILD_BY_NAME: u32 = 0x6e61_6d65;

/// Draws per run, whose words stay in the cache; a multiple of 4, so that runs start at block boundaries.
const RUN: usize = 512;

/// The name of one stream of random numbers: a value that is copied, never mutated.
///
/// Element `i` of the stream is word `i mod 4` of Philox4x32-10 at counter `(⌊i/4⌋, nonce)`, so that a
/// draw depends on (key, element index) and on nothing else: not on the device, the number of threads,
/// or how the stream is read. Use a key once; derive a child for each further use.
///
/// ```
/// use gumbel_kernels::Key;
/// let key = Key::from_seed(1);
/// let noise = key.named("noise").fold_in(41); // for step 41
/// assert_ne!(noise.word(0), key.named("noise").fold_in(42).word(0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    key: [u32; 2],
    nonce: [u32; 2],
}

fn halves(x: u64) -> [u32; 2] {
    [x as u32, (x >> 32) as u32]
}

impl Key {
    /// The root key of a run.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Self { key: halves(seed), nonce: [0, 0] }.fold_in(0)
    }

    fn child(self, data: u64, tweak: u32) -> Self {
        let [lo, hi] = halves(data);
        let key = [self.key[0] ^ tweak, self.key[1] ^ tweak.rotate_left(16)];
        let [a, b, c, d] = philox4x32_10([lo, hi, self.nonce[0], self.nonce[1]], key);
        Self { key: [a, b], nonce: [c, d] }
    }

    /// The child key of a number: a step, a replicate, an index.
    #[must_use]
    pub fn fold_in(self, data: u64) -> Self {
        self.child(data, CHILD_BY_NUMBER)
    }

    /// The child key of a word, such as `"init"` or `"shuffle"`.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        let length = self.child(name.len() as u64, CHILD_BY_NAME);
        name.as_bytes().chunks(8).fold(length, |key, chunk| {
            let mut bytes = [0; 8];
            for (to, from) in bytes.iter_mut().zip(chunk) {
                *to = *from;
            }
            key.child(u64::from_le_bytes(bytes), CHILD_BY_NAME)
        })
    }

    /// Key and nonce: what names the stream.
    #[cfg(any(test, feature = "cuda", feature = "metal"))]
    pub(crate) fn words(self) -> [u32; 4] {
        let Self { key: [a, b], nonce: [c, d] } = self;
        [a, b, c, d]
    }

    /// The four words of block `block`: elements `4·block` to `4·block + 3`.
    #[inline]
    pub(crate) fn block(self, block: u64) -> [u32; 4] {
        let [lo, hi] = halves(block);
        philox4x32_10([lo, hi, self.nonce[0], self.nonce[1]], self.key)
    }

    /// Word number `index` of the stream.
    #[must_use]
    pub fn word(self, index: u64) -> u32 {
        self.block(index / 4)[(index % 4) as usize]
    }

    /// Words `first`, `first + 1`, … of the stream.
    pub fn fill_words(self, first: u64, out: &mut [u32]) {
        let skip = (first % 4) as usize;
        let head = out.len().min((4 - skip) % 4);
        let (start, rest) = out.split_at_mut(head);
        if head > 0 {
            start.copy_from_slice(&self.block(first / 4)[skip..skip + head]);
        }
        let (whole, end) = rest.as_chunks_mut::<4>();
        let block = first.div_ceil(4);
        fill_blocks(self.key, self.nonce, block, whole);
        end.copy_from_slice(&self.block(block + whole.len() as u64)[..end.len()]);
    }

    /// `U(0, 1)` number `index` of the stream: `(word + ½) 2⁻³²`, never 0 and never 1.
    #[must_use]
    pub fn uniform_at(self, index: u64) -> f64 {
        noise::uniform(self.word(index))
    }

    /// A permutation of `0..n`, uniform over all of them (Fisher–Yates).
    ///
    /// Each swap index comes from 64 random bits, so that its deviation from uniform is below `n·2⁻⁶⁴`.
    #[must_use]
    pub fn permutation(self, n: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n as u32).collect();
        for i in (1..n).rev() {
            let [a, b, ..] = self.block(i as u64);
            let word = u64::from(a) | u64::from(b) << 32;
            let j = (u128::from(word) * (i as u128 + 1)) >> 64;
            order.swap(i, j as usize);
        }
        order
    }

    /// Element `i` of the result is made of word `i`, where `f` makes runs of them; parallel over fixed chunks.
    fn fill<T: Send + Copy + Default>(
        self,
        n: usize,
        f: impl Fn(&[u32], &mut [T]) + Sync,
    ) -> Result<Vec<T>> {
        make_rows(n, 1, 1, |first, out| {
            let mut words = [0; RUN];
            for (i, out) in out.chunks_mut(RUN).enumerate() {
                // Whole blocks, because normal deviates come in pairs.
                let words = &mut words[..out.len().next_multiple_of(4)];
                self.fill_words((first + i * RUN) as u64, words);
                f(words, out);
            }
            Ok(())
        })
    }

    fn numbers<T: Real>(self, noise: Noise, n: usize) -> Result<Vec<T>> {
        match noise {
            Noise::Uniform => self.fill(n, uniforms::<T>),
            Noise::Gumbel => self.fill(n, gumbels::<T>),
            Noise::Logistic => self.fill(n, logistics::<T>),
            Noise::Normal => self.fill(n, normals::<T>),
        }
    }

    fn tensor(self, noise: Noise, shape: Shape, dtype: DType, device: &Device) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if let (Device::Cuda(device), DType::F32 | DType::F16 | DType::BF16) = (device, dtype) {
            return crate::cuda::fill(device, self, noise, shape)?.to_dtype(dtype);
        }
        #[cfg(feature = "metal")]
        if let (Device::Metal(device), DType::F32 | DType::F16 | DType::BF16) = (device, dtype)
            && let Some(noise) = crate::metal::fill(device, self, noise, &shape)?
        {
            return noise.to_dtype(dtype);
        }
        let n = shape.elem_count();
        let tensor = match dtype {
            DType::F64 => Tensor::from_vec(self.numbers::<f64>(noise, n)?, shape, &Device::Cpu)?,
            DType::F32 | DType::F16 | DType::BF16 => {
                Tensor::from_vec(self.numbers::<f32>(noise, n)?, shape, &Device::Cpu)?
                    .to_dtype(dtype)?
            }
            other => candle_core::bail!("random numbers are floats, got dtype {other:?}"),
        };
        tensor.to_device(device)
    }

    /// `U(0, 1)` in the open interval (`F16`/`BF16`/`F32` round it and may reach an end).
    pub fn uniform(self, shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
        self.tensor(Noise::Uniform, shape.into(), dtype, device)
    }

    /// `Gumbel(0, 1)` noise `-ln(-ln u)`, exact in both tails: from -3.13 to 22.87.
    pub fn gumbel(self, shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
        self.tensor(Noise::Gumbel, shape.into(), dtype, device)
    }

    /// `Logistic(0, 1)` noise `ln u - ln(1 - u)`, exact in both tails: within ±22.87.
    pub fn logistic(
        self,
        shape: impl Into<Shape>,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        self.tensor(Noise::Logistic, shape.into(), dtype, device)
    }

    /// `N(0, 1)` noise by the Box–Muller transform, within ±6.77.
    pub fn normal(self, shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
        self.tensor(Noise::Normal, shape.into(), dtype, device)
    }
}

/// What is made of random words; the kernels for GPUs know them by their order.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Noise {
    Uniform,
    Gumbel,
    Logistic,
    Normal,
}

vectorised! {
    fn uniforms<T: Real>(words: &[u32], out: &mut [T]) {
        for (out, word) in out.iter_mut().zip(words) {
            *out = T::of(noise::uniform(*word));
        }
    }
    fn gumbels<T: Real>(words: &[u32], out: &mut [T]) {
        for (out, word) in out.iter_mut().zip(words) {
            *out = noise::gumbel(*word);
        }
    }
    fn logistics<T: Real>(words: &[u32], out: &mut [T]) {
        for (out, word) in out.iter_mut().zip(words) {
            *out = noise::logistic(*word);
        }
    }
}

fn normals<T: Real>(words: &[u32], out: &mut [T]) {
    for (out, words) in out.chunks_mut(2).zip(words.chunks_exact(2)) {
        let (first, second) = noise::normal_pair(words[0], words[1]);
        for (out, value) in out.iter_mut().zip([first, second]) {
            *out = T::of(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_does_not_depend_on_how_the_stream_is_read() {
        let key = Key::from_seed(3).named("noise");
        let mut all = [0; 97];
        key.fill_words(0, &mut all);
        for first in 0..9 {
            for len in 0..20 {
                let mut part = vec![0; len];
                key.fill_words(first as u64, &mut part);
                assert_eq!(part, all[first..first + len], "first {first}, len {len}");
            }
        }
        assert!((0..97).all(|i| key.word(i) == all[i as usize]));
    }

    /// A change of any of these numbers changes every result ever published with this library.
    #[test]
    fn streams_are_stable() {
        let key = Key::from_seed(0);
        let words = [key.word(0), key.fold_in(1).word(0), key.named("init").word(5)];
        assert_eq!(words, STABLE, "{words:#x?}");
    }
    const STABLE: [u32; 3] = [0xdf58_9d72, 0x74f9_6af3, 0xc2a4_6126];

    #[test]
    fn children_differ_from_each_other_and_from_their_parent() {
        let key = Key::from_seed(1);
        let mut seen = vec![key];
        seen.extend((0..100).map(|i| key.fold_in(i)));
        seen.extend(
            ["", "a", "b", "ab", "ba", "\0", "abcdefgh", "abcdefgh\0"].map(|s| key.named(s)),
        );
        let words: std::collections::BTreeSet<u32> = seen.iter().map(|k| k.word(0)).collect();
        assert_eq!(words.len(), seen.len());
    }

    #[test]
    fn permutations_are_permutations_and_all_six_of_three_are_equally_likely() {
        let mut sorted = Key::from_seed(4).permutation(1000);
        sorted.sort_unstable();
        assert!(sorted.iter().enumerate().all(|(i, x)| i as u32 == *x));
        let mut counts = std::collections::BTreeMap::new();
        for i in 0..60_000 {
            *counts.entry(Key::from_seed(5).fold_in(i).permutation(3)).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 6);
        // Binomial(60000, 1/6): standard deviation 91.
        assert!(counts.values().all(|c: &i32| (c - 10_000).abs() < 400), "{counts:?}");
    }

    #[test]
    fn every_dtype_draws_the_same_numbers() -> Result<()> {
        let key = Key::from_seed(6);
        type Draw = fn(Key, usize, DType, &Device) -> Result<Tensor>;
        for draw in [Key::uniform as Draw, Key::gumbel, Key::logistic, Key::normal] {
            let double: Vec<f64> = draw(key, 5000, DType::F64, &Device::Cpu)?.to_vec1()?;
            let single: Vec<f32> = draw(key, 5000, DType::F32, &Device::Cpu)?.to_vec1()?;
            for (d, s) in double.iter().zip(single) {
                assert!((d - f64::from(s)).abs() < 2e-6 * d.abs().max(1.), "{d} {s}");
            }
        }
        assert!(key.uniform(3, DType::U8, &Device::Cpu).is_err());
        Ok(())
    }
}
