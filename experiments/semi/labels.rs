//! The few images whose class is known.
use candle_core::{Device, Tensor};
use gumbel::Key;
use gumbel_datasets::{Dataset, ImageSet};
use gumbel_experiments::loaded;
use gumbel_models::ImagesWithLabels;
use gumbel_training::{Error, MicroBatch, Result};

use crate::config::LabelsConfig;

/// As many images of each class as the configuration says, in random order.
#[derive(Debug)]
pub(crate) struct Labelled {
    rows: Vec<u32>,
    classes: usize,
    batch_size: usize,
}

impl Labelled {
    /// Chooses the images by `key`.
    ///
    /// # Errors
    /// If the set has no labels, a label that is not below `classes`, or too few images of a class.
    pub(crate) fn choose(
        set: &ImageSet,
        config: &LabelsConfig,
        classes: usize,
        key: Key,
    ) -> Result<Self> {
        let order = key.permutation(set.len());
        let labels = loaded(set.labels(&order))?;
        let mut counts = vec![0; classes];
        let mut rows = Vec::new();
        for (row, label) in order.into_iter().zip(labels) {
            let Some(count) = counts.get_mut(usize::from(label)) else {
                return Err(Error::Usage(format!(
                    "model.classes is {classes}, but an image has class {label}"
                )));
            };
            if *count < config.per_class {
                *count += 1;
                rows.push(row);
            }
        }
        if let Some(class) = counts.iter().position(|count| *count < config.per_class) {
            return Err(Error::Usage(format!(
                "labels.per_class is {}, but there are {} images of class {class}",
                config.per_class, counts[class]
            )));
        }
        Ok(Self { rows, classes, batch_size: config.batch_size })
    }

    /// The images with labels of a micro-batch: all of them in turn, binarised by `key` where that is done anew.
    pub(crate) fn batch(
        &self,
        set: &ImageSet,
        micro: MicroBatch,
        key: Key,
        device: &Device,
    ) -> Result<ImagesWithLabels> {
        let n = self.rows.len() as u64;
        let size = micro.share(self.batch_size)? as u64;
        let first = (micro.index % n) * (size % n) % n;
        let rows: Vec<u32> = (0..size).map(|i| self.rows[((first + i % n) % n) as usize]).collect();
        let x = loaded(set.draw(&rows, key, device))?;
        Ok(ImagesWithLabels { x, labels: Some(one_hot(set, &rows, self.classes, device)?) })
    }
}

/// The classes of images, `[1, B, 1, classes]`.
fn one_hot(set: &ImageSet, rows: &[u32], classes: usize, device: &Device) -> Result<Tensor> {
    let mut one_hot = vec![0f32; rows.len() * classes];
    for (row, label) in one_hot.chunks_exact_mut(classes).zip(loaded(set.labels(rows))?) {
        if let Some(place) = row.get_mut(usize::from(label)) {
            *place = 1.;
        }
    }
    Ok(Tensor::from_vec(one_hot, (1, rows.len(), 1, classes), device)?)
}
