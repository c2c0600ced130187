//! Rows as they come together.
use crate::images::Origin;
use crate::own::MAX_BYTES;
use crate::{DatasetName, Images, Result, Split};

/// Images of one size, and their labels.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gathered {
    shape: Option<[usize; 2]>,
    pub(crate) pixels: Vec<u8>,
    pub(crate) labels: Vec<u8>,
    rows: usize,
}

impl Gathered {
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// One more image, row-major; an error says what does not fit.
    pub(crate) fn add(
        &mut self,
        shape: [usize; 2],
        pixels: &[u8],
        label: Option<u8>,
    ) -> Result<(), String> {
        let label = label.map(|label| [label]);
        self.add_all(shape, pixels, label.as_ref().map(<[u8; 1]>::as_slice))
    }

    /// Some more images of one size.
    pub(crate) fn add_all(
        &mut self,
        shape: [usize; 2],
        pixels: &[u8],
        labels: Option<&[u8]>,
    ) -> Result<(), String> {
        let [height, width] = shape;
        let dim =
            height.checked_mul(width).filter(|dim| *dim > 0).ok_or("an image of no pixels")?;
        let rows = pixels.len() / dim;
        let [h, w] = *self.shape.get_or_insert(shape);
        if [h, w] != shape {
            return Err(format!(
                "an image of {height}x{width} pixels among others of {h}x{w}; give all one size"
            ));
        }
        if self.rows > 0 && labels.is_some() == self.labels.is_empty() {
            return Err("a label for some images and none for others; give all one, or none".into());
        }
        if (self.pixels.len() + pixels.len()) as u64 > MAX_BYTES {
            return Err(format!("more than {MAX_BYTES} bytes of pixels"));
        }
        self.pixels.extend_from_slice(pixels);
        self.labels.extend_from_slice(labels.unwrap_or_default());
        self.rows += rows;
        Ok(())
    }

    /// These rows, taken out, in the order of the rest.
    pub(crate) fn take(&mut self, rows: &[u32]) -> Self {
        let mut chosen = vec![false; self.rows];
        for row in rows {
            if let Some(chosen) = chosen.get_mut(*row as usize) {
                *chosen = true;
            }
        }
        let dim = self.pixels.len() / self.rows.max(1);
        let part = |wanted: bool| {
            let rows: Vec<usize> =
                (0..chosen.len()).filter(|row| chosen.get(*row) == Some(&wanted)).collect();
            let image =
                |row: &usize| self.pixels.get(row * dim..(row + 1) * dim).unwrap_or_default();
            Self {
                shape: self.shape,
                pixels: rows.iter().flat_map(|row| image(row).iter().copied()).collect(),
                labels: rows.iter().filter_map(|row| self.labels.get(*row).copied()).collect(),
                rows: rows.len(),
            }
        };
        let (taken, left) = (part(true), part(false));
        *self = left;
        taken
    }

    /// The rows as a split of a set.
    pub(crate) fn images(
        self,
        (name, split): (DatasetName, Split),
        origin: Origin,
    ) -> Result<Images> {
        let labels = if self.labels.is_empty() { None } else { Some(self.labels) };
        Images::new((name, split), origin, self.shape.unwrap_or([0, 0]), self.pixels, labels)
    }
}
