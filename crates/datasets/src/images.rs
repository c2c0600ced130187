//! Images in memory: one byte per pixel, held once.
use std::fmt;
use std::path::PathBuf;

use crate::verify::sha256;
use crate::{DatasetName, Error, Result, Split, catalogue};

/// Where images came from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Drawn by this program: SYNTHETIC.
    Drawn,
    /// Read from this folder, or file.
    Folder(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drawn => f.write_str("drawn by this program"),
            Self::Folder(folder) => write!(f, "from {}", folder.display()),
        }
    }
}

/// The images of one split: `[rows, height * width]` bytes, row-major, and labels if there are any.
#[derive(Clone)]
pub struct Images {
    name: DatasetName,
    split: Split,
    origin: Origin,
    shape: [usize; 2],
    rows: usize,
    pixels: Vec<u8>,
    labels: Option<Vec<u8>>,
}

impl Images {
    /// `shape` is height and width; an error names what does not fit together.
    pub(crate) fn new(
        (name, split): (DatasetName, Split),
        origin: Origin,
        shape: [usize; 2],
        pixels: Vec<u8>,
        labels: Option<Vec<u8>>,
    ) -> Result<Self> {
        let dim = shape[0].checked_mul(shape[1]).unwrap_or(0);
        let rows = pixels.len().checked_div(dim).unwrap_or(0);
        if rows == 0 || rows * dim != pixels.len() || u32::try_from(rows).is_err() {
            let bytes = pixels.len();
            return Err(Error::Argument(format!(
                "{bytes} bytes are no images of {shape:?} pixels, give at least one whole image"
            )));
        }
        if let Some(labels) = labels.as_ref().filter(|labels| labels.len() != rows) {
            let count = labels.len();
            return Err(Error::Argument(format!(
                "{count} labels for {rows} images, give one each"
            )));
        }
        Ok(Self { name, split, origin, shape, rows, pixels, labels })
    }

    /// Number of images, at least 1.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "there is always an image")]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Number of pixels `D` of an image: `height * width`.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.height() * self.width()
    }

    /// Height of an image in pixels.
    #[must_use]
    pub fn height(&self) -> usize {
        self.shape[0]
    }

    /// Width of an image in pixels.
    #[must_use]
    pub fn width(&self) -> usize {
        self.shape[1]
    }

    /// The data set.
    #[must_use]
    pub fn name(&self) -> DatasetName {
        self.name
    }

    /// The part of the data set.
    #[must_use]
    pub fn split(&self) -> Split {
        self.split
    }

    /// Where the images came from, for the one line that tells the user.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The name to call the set by in results: `"omniglot (reconstructed)"`, else the name itself.
    #[must_use]
    pub fn title(&self) -> &'static str {
        catalogue::entry(self.name).map_or(self.name.as_str(), |entry| entry.title)
    }

    /// All pixels, `[rows, D]` row-major, 0 to 255.
    #[must_use]
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The pixels of one image, `[D]`.
    pub fn image(&self, row: u32) -> Result<&[u8]> {
        let first = (row as usize).checked_mul(self.dim());
        first
            .and_then(|first| self.pixels.get(first..first.checked_add(self.dim())?))
            .ok_or(Error::Row { row, rows: self.rows })
    }

    /// The label of each image, if the set has labels.
    #[must_use]
    pub fn labels(&self) -> Option<&[u8]> {
        self.labels.as_deref()
    }

    /// Number of classes that the labels tell apart, if the set has labels.
    #[must_use]
    pub fn classes(&self) -> Option<usize> {
        match catalogue::entry(self.name) {
            Some(entry) => entry.classes,
            None if self.name == DatasetName::Own => {
                self.labels.iter().flatten().max().map(|last| usize::from(*last) + 1)
            }
            None => Some(10),
        }
    }

    /// The mean of each pixel over all images, `[D]`, in `[0, 1]`.
    ///
    /// Sums are exact (integers), so that the order of summation cannot matter. The logarithm of its
    /// odds is the usual start for the bias of a decoder; take it from the training split.
    #[must_use]
    pub fn mean(&self) -> Vec<f32> {
        let mut sums = vec![0_u64; self.dim()];
        for image in self.pixels.chunks_exact(self.dim()) {
            for (sum, pixel) in sums.iter_mut().zip(image) {
                *sum += u64::from(*pixel);
            }
        }
        let whole = 255. * self.rows as f64;
        sums.into_iter().map(|sum| (sum as f64 / whole) as f32).collect()
    }

    /// What these images are, for the record of a run: set, split, size and SHA-256 of the pixels
    /// (which takes a tenth of a second for 40 million of them).
    #[must_use]
    pub fn identity(&self) -> String {
        let Self { name, split, rows, shape: [height, width], pixels, .. } = self;
        format!("{name}/{split} rows={rows} size={height}x{width} sha256={}", sha256(pixels))
    }

    /// These images and after them those of another part of the set; it counts as this part.
    pub fn and(mut self, other: &Self) -> Result<Self> {
        if (self.name, self.shape) != (other.name, other.shape) {
            let [a, b] = [&self, other].map(|images| format!("{} {:?}", images.name, images.shape));
            return Err(Error::Argument(format!(
                "images of two sets do not go together: {a}, {b}"
            )));
        }
        self.pixels.extend_from_slice(&other.pixels);
        if let (Some(labels), Some(more)) = (&mut self.labels, &other.labels) {
            labels.extend_from_slice(more);
        }
        Self::new((self.name, self.split), self.origin, self.shape, self.pixels, self.labels)
    }

    /// The same images with other pixels.
    pub(crate) fn with_pixels(&self, pixels: Vec<u8>) -> Result<Self> {
        let Self { name, split, origin, shape, labels, .. } = self;
        Self::new((*name, *split), origin.clone(), *shape, pixels, labels.clone())
    }
}

impl fmt::Debug for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Images")
            .field("name", &self.name)
            .field("split", &self.split)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(pixels: &[u8], labels: Option<&[u8]>) -> Result<Images> {
        let name = (DatasetName::Strokes, Split::Valid);
        Images::new(name, Origin::Drawn, [1, 2], pixels.to_vec(), labels.map(<[u8]>::to_vec))
    }

    #[test]
    fn the_mean_is_taken_per_pixel() {
        let images = images(&[0, 255, 51, 255], None).unwrap();
        assert_eq!((images.len(), images.dim()), (2, 2));
        assert_eq!(images.mean(), [0.1, 1.]);
        assert_eq!(images.image(1).unwrap(), [51, 255]);
        assert!(matches!(images.image(2), Err(Error::Row { row: 2, rows: 2 })));
        assert!(images.image(u32::MAX).is_err());
    }

    #[test]
    fn the_identity_tells_pixels_apart() {
        let [a, b] = [[1, 2], [1, 3]].map(|pixels| images(&pixels, None).unwrap().identity());
        assert!(a.starts_with("strokes/valid rows=1 size=1x2 sha256="), "{a}");
        assert_ne!(a, b);
    }

    #[test]
    fn two_parts_are_one_after_the_other() {
        let all = images(&[1, 2], Some(&[7])).unwrap();
        let all = all.and(&images(&[3, 4, 5, 6], Some(&[8, 9])).unwrap()).unwrap();
        assert_eq!((all.len(), all.pixels()), (3, &[1, 2, 3, 4, 5, 6][..]));
        assert_eq!(all.labels(), Some(&[7, 8, 9][..]));
        // Labels of some are labels of none.
        assert!(all.and(&images(&[1, 2], None).unwrap()).is_err());
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        assert!(images(&[], None).is_err());
        assert!(images(&[0; 3], None).is_err());
        assert!(images(&[0; 4], Some(&[1])).is_err());
        assert!(images(&[0; 4], Some(&[1, 2])).is_ok());
    }
}
