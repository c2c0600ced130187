//! Data sets: drawn digits and synthetic languages that need no files, and real images with pinned hashes.
//!
//! A set is found by name ([`load`]), verified, and seen through a [`Binarisation`] ([`ImageSet`]).
//! Nothing here has iterator state: training batch `t` is a pure function of (key, t), so that a
//! resumed run sees what an uninterrupted one would have seen.
//!
//! ```
//! use std::sync::Arc;
//! use candle_core::Device;
//! use gumbel_datasets::{Binarisation, Dataset, ImageSet, Split, in_order, strokes};
//! use gumbel_kernels::Key;
//!
//! let images = Arc::new(strokes::draw(strokes::SEED, Split::Train, 100)?);
//! let set = ImageSet::new(images, Binarisation::Dynamic)?;
//! let batch = set.batch(41, 32, Key::from_seed(1).named("data"), &Device::Cpu)?;
//! assert_eq!(batch.dims(), [32, 784]);
//! for rows in in_order(set.len(), 64) {
//!     let batch = set.gather(&rows, &Device::Cpu)?; // for evaluation: each row once
//!     assert_eq!(batch.dims(), [rows.len(), 784]);
//! }
//! # Ok::<(), gumbel_datasets::Error>(())
//! ```
use candle_core::Device;

mod batches;
mod binarise;
pub mod catalogue;
#[cfg(feature = "download")]
mod download;
mod error;
mod glyphs;
#[cfg(feature = "download")]
mod hub;
pub mod idx;
mod image_set;
mod images;
pub mod languages;
mod load;
mod locate;
mod name;
mod own;
mod pen;
mod sets;
pub mod strokes;
pub mod text;
mod verify;

pub use batches::{Batches, in_order};
pub use binarise::Binarisation;
#[cfg(feature = "download")]
pub use download::{Downloads, Watcher};
pub use error::{Error, Result};
pub use image_set::ImageSet;
pub use images::{Images, Origin};
pub use load::load;
#[cfg(all(test, feature = "download"))]
use load::load_entry;
pub use locate::{Looked, Places};
pub use name::{DatasetName, Split};
pub use own::load_own;
pub use sets::Set;

/// Rows that can be put together into batches.
pub trait Dataset {
    /// A batch on a device.
    type Batch;

    /// Number of rows.
    fn len(&self) -> usize;

    /// Whether there are no rows.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// These rows as one batch, for evaluation: the same values each time.
    fn gather(&self, rows: &[u32], device: &Device) -> Result<Self::Batch>;
}
