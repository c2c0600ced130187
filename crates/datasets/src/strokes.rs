//! SYNTHETIC handwritten-looking digits that a program draws: the data set that is always there.
//!
//! Image `index` of a split is a pure function of (seed, split, index). It is computed with `+ - * /`,
//! square roots and comparisons of `f64` only, which IEEE 754 defines to the last bit, so that the
//! bytes are the same on every machine. It stands in for MNIST in demonstrations and tests; numbers
//! measured on it say nothing about MNIST.
use gumbel_kernels::Key;
use rayon::prelude::*;

use crate::glyphs::{GLYPHS, Point};
use crate::images::Origin;
use crate::pen::{flatten, ink_piece};
use crate::{DatasetName, Error, Images, Result, Split};

/// The seed of the set that [`load`](crate::load) gives by the name `strokes`.
pub const SEED: u64 = 0;
/// Height and width of an image in pixels.
pub const SIDE: usize = 28;
/// Pixels of an image.
pub(crate) const DIM: usize = SIDE * SIDE;
/// The most rows that are drawn into memory.
const MAX_ROWS: usize = 1 << 22;
/// Random words per image; each item has a stream of its own, so that there is room for more.
const WORDS: usize = 64;

/// Rows of a split of the set that [`load`](crate::load) gives: 20,000, 2,000, 2,000.
#[must_use]
pub const fn rows(split: Split) -> usize {
    match split {
        Split::Train => 20_000,
        Split::Valid | Split::Test => 2_000,
    }
}

/// The first `rows` images of a split, with their digits as labels.
///
/// Drawn in parallel, about 15 µs each; the result does not depend on the number of threads.
pub fn draw(seed: u64, split: Split, rows: usize) -> Result<Images> {
    if rows == 0 || rows > MAX_ROWS {
        return Err(Error::Argument(format!("{rows} drawn images, use 1 to {MAX_ROWS}")));
    }
    let key = Key::from_seed(seed).named("strokes").named(split.as_str());
    let mut pixels = vec![0; rows * DIM];
    let mut labels = vec![0; rows];
    let items = pixels.par_chunks_mut(DIM).zip(&mut labels).enumerate();
    items.with_min_len(64).for_each(|(index, (image, label))| {
        *label = draw_item(key.fold_in(index as u64), image);
    });
    Images::new((DatasetName::Strokes, split), Origin::Drawn, [SIDE, SIDE], pixels, Some(labels))
}

/// Random numbers of one image, in the order in which they are asked for.
struct Dice {
    words: [u32; WORDS],
    next: usize,
}

impl Dice {
    fn new(key: Key) -> Self {
        let mut words = [0; WORDS];
        key.fill_words(0, &mut words);
        Self { words, next: 0 }
    }

    fn word(&mut self) -> u32 {
        let word = self.words.get(self.next).copied().unwrap_or(u32::MAX / 2);
        self.next += 1;
        word
    }

    /// Uniform over `0..n`.
    fn choose(&mut self, n: usize) -> usize {
        ((u64::from(self.word()) * n as u64) >> 32) as usize
    }

    /// Uniform over `low..high`.
    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (f64::from(self.word()) + 0.5) / 4_294_967_296.
    }

    /// Bell-shaped around 0 within ±`reach` (the sum of two 16-bit uniforms; standard deviation
    /// `reach / √6`).
    fn bell(&mut self, reach: f64) -> f64 {
        let word = self.word();
        reach * (f64::from(word >> 16) + f64::from(word & 0xffff) - 65_535.) / 65_536.
    }
}

/// Draws an image and returns its digit.
fn draw_item(key: Key, image: &mut [u8]) -> u8 {
    let mut dice = Dice::new(key);
    let digit = dice.choose(GLYPHS.len());
    let ways = GLYPHS.get(digit).copied().unwrap_or_default();
    let glyph = ways.get(dice.choose(ways.len())).copied().unwrap_or_default();
    let radius = 1.12 + dice.bell(0.5);
    let pose = Pose::random(&mut dice);
    let mut strokes: Vec<Vec<Point>> = Vec::with_capacity(glyph.len());
    for stroke in glyph {
        strokes
            .push(flatten(&shake(stroke, &mut dice)).into_iter().map(|p| pose.apply(p)).collect());
    }
    fit(&mut strokes, radius, &mut dice);
    let edge = dice.between(0.5, 0.8);
    let mut ink = [0_f64; DIM];
    for stroke in &strokes {
        let pressure = [dice.between(0.8, 1.1), dice.between(0.75, 1.1)];
        let last = stroke.len().max(2) as f64 - 1.;
        let at = |i: usize| radius * (pressure[0] + (pressure[1] - pressure[0]) * i as f64 / last);
        for (i, ends) in stroke.windows(2).enumerate() {
            if let [from, to] = ends {
                ink_piece(&mut ink, [(*from, at(i)), (*to, at(i + 1))], edge);
            }
        }
    }
    for (pixel, ink) in image.iter_mut().zip(ink) {
        *pixel = (ink * 255. + 0.5) as u8;
    }
    digit as u8
}

/// Moves each point of a control polygon a little; the two points of a corner move together.
fn shake(stroke: &[Point], dice: &mut Dice) -> Vec<Point> {
    let mut shaken = Vec::with_capacity(stroke.len());
    let mut last = None;
    for point in stroke {
        let moved = match last {
            Some((before, moved)) if before == *point => moved,
            _ => (point.0 + dice.bell(0.09), point.1 + dice.bell(0.09)),
        };
        last = Some((*point, moved));
        shaken.push(moved);
    }
    shaken
}

/// How the hand holds the digit: rotation, slant, proportion and a bend.
struct Pose {
    cos: f64,
    sin: f64,
    slant: f64,
    stretch: f64,
    bend: [f64; 2],
}

impl Pose {
    fn random(dice: &mut Dice) -> Self {
        // Rational parametrisation of the circle: `t` is the tangent of half the angle.
        let t = dice.bell(0.14);
        let norm = 1. + t * t;
        Self {
            cos: (1. - t * t) / norm,
            sin: 2. * t / norm,
            slant: 0.12 + dice.bell(0.42),
            stretch: 1. + dice.bell(0.3),
            bend: [dice.bell(0.22), dice.bell(0.22)],
        }
    }

    fn apply(&self, (x, y): Point) -> Point {
        let (x, y) = ((x - 0.35) * self.stretch, y - 0.5);
        let x = x + self.bend[0] * (y * y - 0.1) - self.slant * y;
        let y = y + self.bend[1] * x * x;
        (self.cos * x - self.sin * y, self.sin * x + self.cos * y)
    }
}

/// Scales a digit to about 20 pixels, pen included, and puts it near the centre, as MNIST does.
fn fit(strokes: &mut [Vec<Point>], radius: f64, dice: &mut Dice) {
    let (mut low, mut high) = ((f64::MAX, f64::MAX), (f64::MIN, f64::MIN));
    for (x, y) in strokes.iter().flatten() {
        low = (low.0.min(*x), low.1.min(*y));
        high = (high.0.max(*x), high.1.max(*y));
    }
    let extent = (high.0 - low.0).max(high.1 - low.1).max(0.01);
    let scale = (20. + dice.bell(1.2) - 2. * radius) / extent;
    let centre = ((low.0 + high.0) / 2., (low.1 + high.1) / 2.);
    let middle = SIDE as f64 / 2.;
    let to = (middle + dice.bell(1.8), middle + dice.bell(1.3));
    for point in strokes.iter_mut().flatten() {
        *point = (to.0 + scale * (point.0 - centre.0), to.1 + scale * (point.1 - centre.1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::sha256;

    /// A change of any of these changes every result measured on the drawn digits.
    #[test]
    fn the_images_are_the_same_on_every_machine() {
        let hashes = Split::ALL.map(|split| sha256(draw(SEED, split, 200).unwrap().pixels()));
        assert_eq!(hashes, PINNED);
    }
    const PINNED: [&str; 3] = [
        "db55d164362437355b9e20646a7371ea201c36ccd421ccba9167eb98035c4adf",
        "8afae225911e58190052db3aaeef815ce3b955a8b4028553c9da273b4b4386fa",
        "6392fbdbfe0ea2267b70b6f1cd6d8963ad78a197de4199886d78760bb8ca2ff9",
    ];
    /// The digits of the first images of the training split.
    const FIRST: [u8; 8] = [1, 8, 2, 5, 3, 5, 8, 6];

    #[test]
    fn an_image_depends_on_seed_split_and_index_only() {
        let few = draw(SEED, Split::Train, 8).unwrap();
        let many = draw(SEED, Split::Train, 300).unwrap();
        assert_eq!(few.pixels(), &many.pixels()[..8 * DIM]);
        assert_eq!(few.labels().unwrap(), FIRST);
        assert_ne!(few.pixels(), draw(SEED + 1, Split::Train, 8).unwrap().pixels());
        assert_ne!(few.pixels(), draw(SEED, Split::Test, 8).unwrap().pixels());
    }

    #[test]
    fn the_number_of_threads_does_not_matter() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let parallel = pool.install(|| draw(SEED, Split::Train, 500).unwrap());
        let single = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(
            single.install(|| draw(SEED, Split::Train, 500).unwrap()).pixels(),
            parallel.pixels()
        );
    }

    #[test]
    fn the_digits_are_as_bright_as_handwritten_ones_and_stay_off_the_border() {
        let images = draw(SEED, Split::Train, 2_000).unwrap();
        let mean = images.mean();
        let average = mean.iter().sum::<f32>() / DIM as f32;
        assert!((0.10..0.14).contains(&average), "{average}");
        for (i, mean) in mean.iter().enumerate() {
            let (row, column) = (i / SIDE, i % SIDE);
            let border = row.min(column).min(SIDE - 1 - row).min(SIDE - 1 - column) == 0;
            assert!(!border || *mean == 0., "row {row}, column {column}: {mean}");
        }
        // Binomial(2000, 1/10): standard deviation 13.
        let count = |digit| images.labels().unwrap().iter().filter(|l| **l == digit).count();
        assert!((0..10).all(|digit| count(digit).abs_diff(200) < 55));
    }

    #[test]
    fn a_digit_can_be_told_from_the_others_by_the_nearest_mean() {
        let train = draw(SEED, Split::Train, 2_000).unwrap();
        let mut means = vec![[0_f64; DIM + 1]; 10];
        for (image, label) in train.pixels().chunks(DIM).zip(train.labels().unwrap()) {
            let mean = &mut means[usize::from(*label)];
            mean[DIM] += 1.;
            mean.iter_mut().zip(image).for_each(|(m, p)| *m += f64::from(*p));
        }
        let test = draw(SEED, Split::Test, 500).unwrap();
        let distance = |image: &[u8], mean: &[f64]| -> f64 {
            let square = |(p, m): (&u8, &f64)| (f64::from(*p) - m / mean[DIM]).powi(2);
            image.iter().zip(mean).map(square).sum()
        };
        let nearest = |image: &[u8]| {
            let order = |a: &usize, b: &usize| {
                distance(image, &means[*a]).total_cmp(&distance(image, &means[*b]))
            };
            (0..10).min_by(order).unwrap()
        };
        let pairs = test.pixels().chunks(DIM).zip(test.labels().unwrap());
        let right = pairs.filter(|(image, label)| nearest(image) == usize::from(**label)).count();
        assert!((350..500).contains(&right), "{right} of 500");
    }

    #[test]
    fn no_glyph_asks_for_more_random_numbers_than_there_are() {
        for glyph in GLYPHS.into_iter().flatten() {
            let mut dice = Dice::new(Key::from_seed(1));
            Pose::random(&mut dice);
            for stroke in *glyph {
                shake(stroke, &mut dice);
                dice.next += 2;
            }
            // Digit, way, radius, size and place (3), edge.
            assert!(dice.next + 7 <= WORDS, "{}", dice.next + 7);
        }
    }

    #[test]
    fn impossible_numbers_of_rows_are_usage_errors() {
        assert_eq!(draw(SEED, Split::Train, 0).unwrap_err().exit_code(), 2);
        assert_eq!(draw(SEED, Split::Train, usize::MAX).unwrap_err().exit_code(), 2);
    }
}
