//! Images of a user's own, by their path.
//!
//! | path | what is read |
//! |---|---|
//! | a folder with `train-images-idx3-ubyte` (and `valid-`, `t10k-`, `…-labels-idx1-ubyte`; gzipped or not) | IDX |
//! | a folder with `train/` (and `valid/`, `test/`) and no others, or without | PNG files; folders in it are classes, in the order of their names |
//! | a folder with `.parquet` files named or filed by split, or one such file | columns `image` (bytes, as on model hubs) and `label` |
//! | a file ending in `.jsonl` | a line each: `{"image": "file.png"}` or `{"pixels": [[0, 255]]}`, and `"label"`, `"split"` |
//!
//! All images have one size and are grey (a PNG in colour whose channels are equal counts as grey). Labels are 0 to 255, for all
//! images or for none. Where there are no validation rows, a tenth of the training rows become them, chosen by a fixed key; so for
//! test rows. Nothing else is changed, and the SHA-256 of the pixels is part of a run's identity.
use std::path::{Path, PathBuf};

use gumbel_kernels::Key;

use crate::images::Origin;
use crate::{Batches, DatasetName, Error, Images, Result, Split, idx};

mod folder;
mod gathered;
mod grey;
mod json_lines;
#[cfg(feature = "parquet")]
pub(crate) mod parquet;

pub(crate) use gathered::Gathered;

/// Most bytes of pixels, and of one file.
pub(crate) const MAX_BYTES: u64 = 1 << 32;

/// Seed of the choice of rows that are held out.
const HELD_OUT_SEED: u64 = 1_611_006_712;

/// Rows by split; those of a split that was not found are taken from training.
#[derive(Debug, Default)]
struct Parts([Gathered; 3]);

impl Parts {
    fn of(&mut self, split: Split) -> &mut Gathered {
        let [train, valid, test] = &mut self.0;
        match split {
            Split::Train => train,
            Split::Valid => valid,
            Split::Test => test,
        }
    }
}

/// The training, validation and test images at a path, see the module.
///
/// # Errors
/// [`Error::Argument`] if there is nothing there that can be read as images, [`Error::Corrupt`] with file and reason for the first
/// thing that is wrong, [`Error::Io`] if the operating system refuses.
pub fn load_own(path: &Path) -> Result<[Images; 3]> {
    let mut parts = Parts::default();
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    if path.is_dir() {
        folder::read(path, &mut parts)?;
    } else if !path.exists() {
        return Err(Error::Argument(format!(
            "{}: there is no such file or folder",
            path.display()
        )));
    } else if extension == "jsonl" || extension == "ndjson" {
        json_lines::read(path, &mut parts)?;
    } else if extension == "parquet" {
        read_parquet(path, parts.of(Split::Train))?;
    } else {
        return Err(Error::Argument(format!(
            "{} is no file of images; give a folder (IDX, PNG or parquet), a .parquet or a .jsonl file",
            path.display()
        )));
    }
    let Parts([mut train, mut valid, mut test]) = parts;
    if train.is_empty() {
        return Err(Error::Argument(format!("{}: there are no training images", path.display())));
    }
    for (part, split) in [(&mut test, Split::Test), (&mut valid, Split::Valid)] {
        if part.is_empty() {
            *part = hold_out(&mut train, split, path)?;
        }
    }
    let origin = Origin::Folder(path.to_path_buf());
    let images = |rows: Gathered, split| rows.images((DatasetName::Own, split), origin.clone());
    let all =
        [images(train, Split::Train)?, images(valid, Split::Valid)?, images(test, Split::Test)?];
    let [first, others @ ..] = &all;
    for other in others {
        let of = |images: &Images| (images.height(), images.width(), images.labels().is_some());
        if of(first) != of(other) {
            return Err(Error::Argument(format!(
                "{}: the {} images are {}x{} {} labels, and those for training are {}x{} {}",
                path.display(),
                other.split(),
                other.height(),
                other.width(),
                with(other),
                first.height(),
                first.width(),
                with(first),
            )));
        }
    }
    Ok(all)
}

fn with(images: &Images) -> &'static str {
    if images.labels().is_some() { "with" } else { "without" }
}

/// A tenth of the rows, at least one, taken out.
fn hold_out(train: &mut Gathered, split: Split, path: &Path) -> Result<Gathered> {
    let rows = train.rows();
    if rows < 3 {
        return Err(Error::Argument(format!(
            "{}: {rows} images are too few to hold some out for {split}; give {split} images, too, or four in all at least",
            path.display()
        )));
    }
    let key = Key::from_seed(HELD_OUT_SEED).named(split.as_str());
    let chosen = Batches::new(rows, (rows / 10).max(1), key)?.rows(0);
    Ok(train.take(&chosen))
}

#[cfg(feature = "parquet")]
fn read_parquet(path: &Path, rows: &mut Gathered) -> Result<()> {
    parquet::read(path, rows)
}

#[cfg(not(feature = "parquet"))]
fn read_parquet(path: &Path, _: &mut Gathered) -> Result<()> {
    Err(Error::Argument(format!(
        "{}: this program was built without the feature `parquet` of gumbel-datasets",
        path.display()
    )))
}

/// A whole file, not larger than any that can be meant.
fn read_file(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read;
    let refused = |source| Error::Io { path: path.to_path_buf(), source };
    let file = std::fs::File::open(path).map_err(refused)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(refused)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(corrupt(path, format!("more than {MAX_BYTES} bytes; split it")));
    }
    Ok(bytes)
}

fn corrupt(path: &Path, reason: impl Into<String>) -> Error {
    Error::Corrupt { path: path.to_path_buf(), reason: reason.into() }
}

/// Images and labels in IDX files.
fn read_idx(images: &Path, labels: Option<&PathBuf>, rows: &mut Gathered) -> Result<()> {
    let most = usize::try_from(MAX_BYTES).unwrap_or(usize::MAX);
    let read = idx::images(&read_file(images)?, most)
        .map_err(|error| corrupt(images, error.to_string()))?;
    let labels = match labels {
        None => None,
        Some(path) => {
            let labels = idx::labels(&read_file(path)?, most)
                .map_err(|error| corrupt(path, error.to_string()))?;
            if labels.len() != read.rows {
                let (found, wanted) = (labels.len(), read.rows);
                return Err(corrupt(path, format!("{found} labels for {wanted} images")));
            }
            Some(labels)
        }
    };
    rows.add_all([read.height, read.width], &read.pixels, labels.as_deref())
        .map_err(|reason| corrupt(images, reason))
}

#[cfg(test)]
pub(crate) mod tests;
