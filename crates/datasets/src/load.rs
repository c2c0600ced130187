//! From the name of a data set to its images.
use std::path::Path;

use crate::catalogue::{self, Entry};
use crate::images::Origin;
use crate::{DatasetName, Error, Images, Places, Result, Split, idx, strokes, verify};

/// Loads one split of a data set from the first of `places` that has it, or draws it (`strokes`).
///
/// Size and SHA-256 of each file are checked before it is interpreted, at every load. A set that is
/// not there is [`Error::Missing`]: no other data are ever used in its stead.
pub fn load(name: &DatasetName, split: Split, places: &Places) -> Result<Images> {
    if *name == DatasetName::Own {
        return Err(Error::Argument(
            "images of your own are found by their path: data.path, or --images PATH".into(),
        ));
    }
    match catalogue::entry(*name) {
        None => strokes::draw(strokes::SEED, split, strokes::rows(split)),
        Some(entry) => load_entry(entry, split, places),
    }
}

/// From the first of these: the published files in a place, parquet files of a hub that are here, the published files from where
/// they are published, parquet files from the hub.
#[cfg(feature = "download")]
pub(crate) fn load_entry(entry: &'static Entry, split: Split, places: &Places) -> Result<Images> {
    let hub = match crate::hub::FromHub::new(entry, places) {
        Some(hub) if !places.has(entry)? => hub,
        _ => return read(entry, split, &places.find(entry)?),
    };
    if let Some(images) = hub.here(split)? {
        return Ok(images);
    }
    match places.find(entry) {
        Ok(folder) => read(entry, split, &folder),
        Err(Error::Missing { title, files, instead, looked_in, mut tried }) => {
            hub.fetch(split).map_err(|more| {
                tried.extend(more);
                Error::Missing { title, files, instead, looked_in, tried }
            })
        }
        Err(error) => Err(error),
    }
}

#[cfg(not(feature = "download"))]
fn load_entry(entry: &Entry, split: Split, places: &Places) -> Result<Images> {
    read(entry, split, &places.find(entry)?)
}

/// Reads a split from the folder of its set.
fn read(entry: &Entry, split: Split, folder: &Path) -> Result<Images> {
    let part = entry.part(split);
    let corrupt = |file: &str, reason: String| Error::Corrupt { path: folder.join(file), reason };
    let [height, width] = entry.shape;
    let dim = height * width;

    let file = part.images.name;
    let read = idx::images(&verify::read(folder, &part.images)?, part.file_rows * dim)
        .map_err(|error| corrupt(file, error.to_string()))?;
    let found = [read.rows, read.height, read.width];
    let wanted = [part.file_rows, height, width];
    if found != wanted {
        return Err(corrupt(file, format!("images of size {found:?}, expected {wanted:?}")));
    }
    let pixels = cut(read.pixels, part.first * dim, part.rows * dim);

    let labels = match (&part.labels, entry.classes) {
        (Some(labels), Some(classes)) => {
            let file = labels.name;
            let read = idx::labels(&verify::read(folder, labels)?, part.file_rows)
                .map_err(|error| corrupt(file, error.to_string()))?;
            if read.len() != part.file_rows {
                let (found, wanted) = (read.len(), part.file_rows);
                return Err(corrupt(file, format!("{found} labels, expected {wanted}")));
            }
            if let Some(label) = read.iter().find(|label| usize::from(**label) >= classes) {
                return Err(corrupt(file, format!("label {label}, expected less than {classes}")));
            }
            Some(cut(read, part.first, part.rows))
        }
        _ => None,
    };
    let origin = Origin::Folder(folder.to_path_buf());
    Images::new((entry.name, split), origin, entry.shape, pixels, labels)
}

/// `len` bytes from `first` on, without a second copy of the whole.
fn cut(mut bytes: Vec<u8>, first: usize, len: usize) -> Vec<u8> {
    bytes.truncate(first.saturating_add(len));
    bytes.drain(..first.min(bytes.len()));
    bytes.shrink_to_fit();
    bytes
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;
    use crate::catalogue::{DataFile, Part};

    /// A set of `rows` images of one pixel, in a folder and as a catalogue entry that pins it.
    fn made_up(root: &Path, pixels: &[u8], labels: &[u8], wanted_rows: usize) -> Entry {
        let folder = root.join("mnist");
        std::fs::create_dir_all(&folder).unwrap();
        let put = |name: &'static str, header: &[u32], data: &[u8]| {
            let mut file = GzEncoder::new(Vec::new(), Compression::fast());
            for word in header {
                file.write_all(&word.to_be_bytes()).unwrap();
            }
            file.write_all(data).unwrap();
            let bytes = file.finish().unwrap();
            std::fs::write(folder.join(name), &bytes).unwrap();
            let sha256 = Box::leak(verify::sha256(&bytes).into_boxed_str());
            DataFile { name, bytes: bytes.len() as u64, sha256 }
        };
        let rows = pixels.len() as u32;
        let part = Part {
            images: put("images", &[2051, rows, 1, 1], pixels),
            labels: Some(put("labels", &[2049, labels.len() as u32], labels)),
            file_rows: wanted_rows,
            first: 1,
            rows: 2,
        };
        let mnist = *catalogue::entry(DatasetName::Mnist).unwrap();
        Entry { shape: [1, 1], train: part, valid: part, test: part, ..mnist }
    }

    #[test]
    fn a_split_is_cut_out_of_its_file_with_its_labels() {
        let root = tempfile::tempdir().unwrap();
        let entry = made_up(root.path(), &[10, 20, 30, 40], &[1, 2, 3, 4], 4);
        let folder = Places::new(vec![root.path().into()]).find(&entry).unwrap();
        let images = read(&entry, Split::Valid, &folder).unwrap();
        assert_eq!(images.pixels(), [20, 30]);
        assert_eq!(images.labels().unwrap(), [2, 3]);
        assert_eq!(*images.origin(), Origin::Folder(folder));
    }

    #[test]
    fn a_file_with_the_right_hash_and_the_wrong_content_is_still_refused() {
        for (pixels, labels, wanted, complaint) in [
            (&[1, 2, 3][..], &[1, 2, 3, 4][..], 4, "images of size"),
            (&[1, 2, 3, 4], &[1, 2, 3], 4, "3 labels"),
            (&[1, 2, 3, 4], &[1, 2, 10, 4], 4, "label 10"),
            (&[1, 2, 3, 4], &[1, 2, 3, 4], 3, "at most 3"),
        ] {
            let root = tempfile::tempdir().unwrap();
            let entry = made_up(root.path(), pixels, labels, wanted);
            let error = read(&entry, Split::Train, &root.path().join("mnist")).unwrap_err();
            assert_eq!(error.exit_code(), 65);
            assert!(error.to_string().contains(complaint), "{error}");
        }
    }

    #[test]
    fn a_set_that_is_nowhere_is_an_error_and_strokes_are_everywhere() {
        let nowhere = Places::new(vec![]);
        let error = load(&DatasetName::Mnist, Split::Test, &nowhere).unwrap_err();
        assert_eq!(error.exit_code(), 69);
        let strokes = load(&DatasetName::Strokes, Split::Test, &nowhere).unwrap();
        assert_eq!((strokes.len(), strokes.origin()), (2_000, &Origin::Drawn));
    }

    /// Does something only where `GUMBEL_DATA_DIR` is set to a directory with all four sets.
    #[test]
    fn real_sets_load_where_gumbel_data_dir_names_them() {
        let Some(directory) = std::env::var_os("GUMBEL_DATA_DIR") else { return };
        let places = Places::new(vec![directory.into()]);
        for name in DatasetName::ALL {
            for split in Split::ALL {
                let images = load(&name, split, &places).unwrap();
                let mean = images.mean().iter().sum::<f32>() / 784.;
                println!("{} mean {mean:.4}", images.identity());
                assert_eq!(images.dim(), 784);
                assert!((0.08..0.3).contains(&mean), "{name} {split}: mean {mean}");
                if let Some(entry) = catalogue::entry(name) {
                    assert_eq!(images.len(), entry.part(split).rows);
                }
            }
        }
    }
}
