//! How grey pixels become what a model is trained on.
use std::fmt;
use std::str::FromStr;

use gumbel_kernels::Key;
use serde::{Deserialize, Serialize};

use crate::{DatasetName, Error, Result, Split};

/// Seed of the draws of [`Binarisation::Fixed`]: part of the regime, never of a run.
const FIXED_SEED: u64 = 0x6269_6e61_7269_7365;

/// How a grey pixel `p` in 0 to 255 becomes the number that a model sees.
///
/// Results under different regimes are not comparable. A pixel that is 0 or 255 already becomes
/// 0 or 1 under every regime, so that a set that was binary on disk passes through unchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Binarisation {
    /// `Bernoulli(p / 255)` drawn once for the life of the data set, the same in every run
    /// (Salakhutdinov and Murray 2008).
    Fixed,
    /// `Bernoulli(p / 255)` drawn anew each time that an image is put into a training batch
    /// (Burda et al. 2015). Evaluation uses the draw of [`Binarisation::Fixed`].
    #[default]
    Dynamic,
    /// 1 if `p > 127`, else 0.
    Threshold,
    /// `p / 255`: no binarisation, values in `[0, 1]`.
    Grey,
}

impl Binarisation {
    /// Every regime.
    pub const ALL: [Self; 4] = [Self::Fixed, Self::Dynamic, Self::Threshold, Self::Grey];

    /// The name as it is written in a configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Dynamic => "dynamic",
            Self::Threshold => "threshold",
            Self::Grey => "grey",
        }
    }
}

impl fmt::Display for Binarisation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Binarisation {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|regime| regime.as_str() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            Error::Argument(format!("unknown binarisation {name:?}, choose one of: {known}"))
        })
    }
}

/// The stream of the fixed draws; pixel `d` of row `r` takes word `r * D + d`.
pub(crate) fn fixed_key(set: DatasetName, split: Split) -> Key {
    Key::from_seed(FIXED_SEED).named("binarise").named(set.as_str()).named(split.as_str())
}

/// Whether `u < pixel / 255`, where `u` is the uniform number `(word + 1/2) / 2^32` of the word.
///
/// In integers, so that the draw is exact: never for pixel 0, always for pixel 255.
fn bernoulli(pixel: u8, word: u32) -> bool {
    (2 * u64::from(word) + 1) * 255 < u64::from(pixel) << 33
}

/// `put(place, x)` for a draw `x` from `Bernoulli(pixel / 255)` of each pixel, by the words of `key`
/// from number `first` on.
pub(crate) fn draw<T>(
    key: Key,
    first: u64,
    pixels: &[u8],
    out: &mut [T],
    put: impl Fn(&mut T, bool),
) {
    let mut words = [0; 128];
    let mut first = first;
    for (pixels, out) in pixels.chunks(words.len()).zip(out.chunks_mut(words.len())) {
        let (words, _) = words.split_at_mut(pixels.len());
        key.fill_words(first, words);
        first = first.wrapping_add(words.len() as u64);
        for ((out, pixel), word) in out.iter_mut().zip(pixels).zip(words) {
            put(out, bernoulli(*pixel, *word));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::de::value::{Error as ValueError, StrDeserializer};
    use serde::de::{Deserialize, IntoDeserializer};

    use super::*;

    fn ones(pixel: u8, n: usize) -> usize {
        let mut out = vec![false; n];
        draw(Key::from_seed(1), 3, &vec![pixel; n], &mut out, |out, x| *out = x);
        out.into_iter().filter(|x| *x).count()
    }

    #[test]
    fn a_pixel_is_on_as_often_as_it_is_bright() {
        assert_eq!((ones(0, 10_000), ones(255, 10_000)), (0, 10_000));
        // 51 / 255 = 0.2; standard deviation of the count: 40.
        assert!(ones(51, 10_000).abs_diff(2_000) < 160);
        assert!(!bernoulli(0, 0) && bernoulli(255, u32::MAX) && !bernoulli(254, u32::MAX));
    }

    #[test]
    fn a_draw_in_parts_is_the_draw_of_the_whole() {
        let key = Key::from_seed(2);
        let pixels: Vec<u8> = (0..=255).cycle().take(700).collect();
        let mut whole = vec![0; 700];
        draw(key, 5, &pixels, &mut whole, |out, x| *out = u8::from(x));
        for cut in [1, 127, 128, 129, 699] {
            let mut parts = vec![0; 700];
            let (left, right) = parts.split_at_mut(cut);
            draw(key, 5, &pixels[..cut], left, |out, x| *out = u8::from(x));
            draw(key, 5 + cut as u64, &pixels[cut..], right, |out, x| *out = u8::from(x));
            assert_eq!(parts, whole, "cut at {cut}");
        }
    }

    #[test]
    fn the_written_name_is_the_name_in_configurations() {
        for regime in Binarisation::ALL {
            let config: StrDeserializer<'_, ValueError> = regime.as_str().into_deserializer();
            assert_eq!(Binarisation::deserialize(config).unwrap(), regime);
            assert_eq!(regime.to_string().parse::<Binarisation>().unwrap(), regime);
        }
        assert_eq!("gray".parse::<Binarisation>().unwrap_err().exit_code(), 2);
    }
}
