//! Images under a binarisation regime: what a model is trained and evaluated on.
use std::sync::Arc;

use candle_core::{Device, Tensor};
use gumbel_kernels::Key;
use rayon::prelude::*;

use crate::batches::{Epochs, check};
use crate::binarise::{draw, fixed_key};
use crate::{Binarisation, Dataset, Error, Images, Result};

/// Images of one split seen through a [`Binarisation`]; batches are `[B, D]` tensors of `F32`.
#[derive(Debug)]
pub struct ImageSet {
    /// The images; under `Fixed` and `Threshold` with the binary pixels in place of the grey ones.
    images: Arc<Images>,
    binarisation: Binarisation,
    identity: String,
    epochs: Epochs,
}

/// Where the draws of a batch come from.
#[derive(Clone, Copy)]
enum Draws {
    /// None: values are `pixel / 255`.
    None,
    /// Row `r` of the data set takes words from `r * D` on.
    ByRow(Key),
    /// Row `b` of the batch takes words from `b * D` on.
    ByPosition(Key),
}

impl ImageSet {
    /// The images under a regime. `Fixed` and `Threshold` are applied here, once.
    pub fn new(images: Arc<Images>, binarisation: Binarisation) -> Result<Self> {
        let identity = format!("{} binarisation={binarisation}", images.identity());
        let images = match binarisation {
            Binarisation::Dynamic | Binarisation::Grey => images,
            Binarisation::Fixed => {
                let key = fixed_key(images.name(), images.split());
                let mut pixels = vec![0; images.pixels().len()];
                let dim = images.dim();
                let rows = pixels.par_chunks_mut(dim).zip(images.pixels().par_chunks(dim));
                rows.enumerate().with_min_len(64).for_each(|(row, (out, pixels))| {
                    draw(key, (row * dim) as u64, pixels, out, |out, x| *out = 255 * u8::from(x));
                });
                Arc::new(images.with_pixels(pixels)?)
            }
            Binarisation::Threshold => {
                let on = |pixel: &u8| 255 * u8::from(*pixel > 127);
                Arc::new(images.with_pixels(images.pixels().iter().map(on).collect())?)
            }
        };
        Ok(Self { images, binarisation, identity, epochs: Epochs::default() })
    }

    /// Number of pixels `D` of an image.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.images.dim()
    }

    /// The images: binary ones under `Fixed` and `Threshold`, else as they were loaded.
    #[must_use]
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// The regime.
    #[must_use]
    pub fn binarisation(&self) -> Binarisation {
        self.binarisation
    }

    /// The mean of each pixel after the regime, `[D]`, in `[0, 1]`; under `Dynamic` the expectation.
    #[must_use]
    pub fn mean(&self) -> Vec<f32> {
        self.images.mean()
    }

    /// What the data are, for the record of a run: set, split, size, SHA-256 of the pixels as loaded,
    /// regime.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The labels of these rows; an error if the set has none.
    pub fn labels(&self, rows: &[u32]) -> Result<Vec<u8>> {
        let set = self.images.name();
        let labels = self.images.labels().ok_or(Error::NoLabels { set })?;
        let label = |row: &u32| {
            labels
                .get(*row as usize)
                .copied()
                .ok_or(Error::Row { row: *row, rows: self.images.len() })
        };
        rows.iter().map(label).collect()
    }

    /// The rows of training batch `step`: those of [`Batches`](crate::Batches) with the same key.
    pub fn batch_rows(&self, step: u64, size: usize, key: Key) -> Result<Vec<u32>> {
        check(self.images.len(), size)?;
        Ok(self.epochs.rows(self.images.len(), size, key, step))
    }

    /// Training batch `step`, `[size, D]`: a pure function of (key, step, size).
    ///
    /// Under `Dynamic` each pixel is drawn anew by (key, step, position in the batch).
    pub fn batch(&self, step: u64, size: usize, key: Key, device: &Device) -> Result<Tensor> {
        let rows = self.batch_rows(step, size, key)?;
        self.draw(&rows, key.named("binarise").fold_in(step), device)
    }

    /// Rows for training, `[B, D]`, where it is not the set that chooses them.
    ///
    /// Under `Dynamic` each pixel is drawn anew by (key, position in the batch).
    pub fn draw(&self, rows: &[u32], key: Key, device: &Device) -> Result<Tensor> {
        let draws = match self.binarisation {
            Binarisation::Dynamic => Draws::ByPosition(key),
            _ => Draws::None,
        };
        self.tensor(rows, draws, device)
    }

    fn tensor(&self, rows: &[u32], draws: Draws, device: &Device) -> Result<Tensor> {
        let dim = self.dim();
        let sources: Vec<&[u8]> =
            rows.iter().map(|row| self.images.image(*row)).collect::<Result<_>>()?;
        let mut values = vec![0_f32; sources.len() * dim];
        let fill = |(position, (out, pixels)): (usize, (&mut [f32], &&[u8]))| match draws {
            Draws::None => {
                for (out, pixel) in out.iter_mut().zip(*pixels) {
                    *out = f32::from(*pixel) / 255.;
                }
            }
            Draws::ByPosition(key) => {
                draw(key, (position * dim) as u64, pixels, out, |out, x| *out = f32::from(x));
            }
            Draws::ByRow(key) => {
                let row = rows.get(position).copied().unwrap_or(0);
                let first = u64::from(row) * dim as u64;
                draw(key, first, pixels, out, |out, x| *out = f32::from(x));
            }
        };
        // Batches below the minimum are not worth the way to another thread.
        let places = values.par_chunks_mut(dim).zip(&sources).enumerate();
        places.with_min_len(128).for_each(fill);
        Ok(Tensor::from_vec(values, (sources.len(), dim), device)?)
    }
}

impl Dataset for ImageSet {
    type Batch = Tensor;

    fn len(&self) -> usize {
        self.images.len()
    }

    /// The rows for evaluation, `[B, D]`: the same values each time, in whatever batches.
    ///
    /// Under `Dynamic` these are the draws of `Fixed`, so that a bound is measured on the same data
    /// at each evaluation.
    fn gather(&self, rows: &[u32], device: &Device) -> Result<Tensor> {
        let draws = match self.binarisation {
            Binarisation::Dynamic => {
                Draws::ByRow(fixed_key(self.images.name(), self.images.split()))
            }
            _ => Draws::None,
        };
        self.tensor(rows, draws, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Split, in_order, strokes};

    fn set(binarisation: Binarisation) -> ImageSet {
        let images = strokes::draw(1, Split::Train, 50).unwrap();
        ImageSet::new(Arc::new(images), binarisation).unwrap()
    }

    fn values(tensor: &Tensor) -> Vec<Vec<f32>> {
        tensor.to_vec2().unwrap()
    }

    fn all(set: &ImageSet, size: usize) -> Vec<Vec<f32>> {
        let batches = in_order(set.len(), size);
        batches.flat_map(|rows| values(&set.gather(&rows, &Device::Cpu).unwrap())).collect()
    }

    #[test]
    fn chosen_rows_are_drawn_anew_under_every_key() {
        let drawn = |regime, seed| {
            values(&set(regime).draw(&[3, 3, 9], Key::from_seed(seed), &Device::Cpu).unwrap())
        };
        let (one, other) = (drawn(Binarisation::Dynamic, 1), drawn(Binarisation::Dynamic, 2));
        assert!(one[0] != one[1] && one != other && one == drawn(Binarisation::Dynamic, 1));
        let fixed = drawn(Binarisation::Fixed, 1);
        assert!(fixed[0] == fixed[1] && fixed == drawn(Binarisation::Fixed, 2));
    }

    #[test]
    fn evaluation_does_not_depend_on_the_batch_size() {
        for regime in Binarisation::ALL {
            let set = set(regime);
            assert_eq!(all(&set, 50), all(&set, 7), "{regime}");
        }
        assert_eq!(all(&set(Binarisation::Dynamic), 8), all(&set(Binarisation::Fixed), 8));
    }

    #[test]
    fn every_regime_but_grey_is_binary_and_has_about_the_mean_of_grey() {
        let mean =
            |rows: &[Vec<f32>]| rows.concat().iter().sum::<f32>() / rows.concat().len() as f32;
        let grey = mean(&all(&set(Binarisation::Grey), 50));
        for regime in [Binarisation::Fixed, Binarisation::Dynamic, Binarisation::Threshold] {
            let rows = all(&set(regime), 50);
            assert!(rows.iter().flatten().all(|x| *x == 0. || *x == 1.));
            assert!((mean(&rows) - grey).abs() < 0.02, "{regime}");
        }
    }

    #[test]
    fn a_training_batch_is_a_pure_function_and_dynamic_draws_differ_from_step_to_step() {
        let key = Key::from_seed(3);
        let batch = |set: &ImageSet, step| values(&set.batch(step, 50, key, &Device::Cpu).unwrap());
        let (dynamic, fixed) = (set(Binarisation::Dynamic), set(Binarisation::Fixed));
        for set in [&dynamic, &fixed] {
            let first = batch(set, 0);
            let _ = batch(set, 9);
            assert_eq!(batch(set, 0), first);
        }
        // The same image, in two epochs.
        let image = |set: &ImageSet, step: u64| {
            let rows = set.batch_rows(step, 50, key).unwrap();
            let position = rows.iter().position(|row| *row == 7).unwrap();
            batch(set, step)[position].clone()
        };
        assert_eq!(image(&fixed, 0), image(&fixed, 1));
        assert_ne!(image(&dynamic, 0), image(&dynamic, 1));
    }

    #[test]
    fn binary_images_pass_through_every_regime() {
        let binary = Arc::new(set(Binarisation::Threshold).images().clone());
        let grey = all(&ImageSet::new(Arc::clone(&binary), Binarisation::Grey).unwrap(), 50);
        for regime in Binarisation::ALL {
            let set = ImageSet::new(Arc::clone(&binary), regime).unwrap();
            assert_eq!(all(&set, 50), grey, "{regime}");
        }
    }

    #[test]
    fn labels_belong_to_rows_and_rows_beyond_the_end_are_errors() {
        let set = set(Binarisation::Grey);
        let labels = set.images().labels().unwrap().to_vec();
        assert_eq!(set.labels(&[3, 0, 49]).unwrap(), [labels[3], labels[0], labels[49]]);
        assert_eq!(set.labels(&[50]).unwrap_err().exit_code(), 70);
        assert_eq!(set.gather(&[0, 50], &Device::Cpu).unwrap_err().exit_code(), 70);
        assert_eq!(set.batch(0, 0, Key::from_seed(1), &Device::Cpu).unwrap_err().exit_code(), 2);
        assert_eq!(set.gather(&[], &Device::Cpu).unwrap().dims(), [0, 784]);
    }

    #[test]
    fn the_identity_names_the_regime_but_keeps_the_hash_of_what_was_loaded() {
        let [fixed, grey] = [Binarisation::Fixed, Binarisation::Grey].map(set);
        let stem = grey.identity().strip_suffix("grey").unwrap();
        assert_eq!(fixed.identity(), format!("{stem}fixed"));
    }
}
