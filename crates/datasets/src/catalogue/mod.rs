//! The data sets that are read from files: which files, how they are split, whose they are.
//!
//! Sizes and SHA-256 are pinned and checked at every load, before a byte is interpreted.
use std::path::{Path, PathBuf};

mod sets;

use sets::{BINARIZED_MNIST, FASHION_MNIST, MNIST, OMNIGLOT};

use crate::{DatasetName, Split};

/// A file of a data set, with its only accepted content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DataFile {
    /// The name of the file, inside the folder of the set.
    pub name: &'static str,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, 64 lowercase hexadecimal digits.
    pub sha256: &'static str,
}

/// Where the rows of a split are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Part {
    /// The file of images.
    pub images: DataFile,
    /// The file of labels, if there are any.
    pub labels: Option<DataFile>,
    /// Number of rows in these files.
    pub file_rows: usize,
    /// The first row of the split.
    pub first: usize,
    /// The number of rows of the split.
    pub rows: usize,
}

/// A parquet file on a model hub. Its bytes may change, what is in it may not.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct HubFile {
    /// Its path in the repository.
    pub path: &'static str,
    /// Most bytes that it may have.
    pub most: u64,
    /// SHA-256 of the grey pixels of all rows.
    pub pixels_sha256: &'static str,
    /// SHA-256 of the labels of all rows, a byte each.
    pub labels_sha256: &'static str,
}

/// A set as a data set of a model hub.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct HubSet {
    /// `owner/name`.
    pub repository: &'static str,
    /// The branch of the parquet files.
    pub revision: &'static str,
    /// Training rows, and after them those for validation.
    pub train: HubFile,
    /// Test rows.
    pub test: HubFile,
}

impl HubSet {
    /// Where a file of it is in a place, a folder of data sets.
    #[must_use]
    pub fn path(&self, place: &Path, file: &HubFile) -> PathBuf {
        place.join("hub").join(self.repository).join(file.path)
    }
}

/// What is known about a data set that is read from files.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Entry {
    /// The name of the set and of its folder.
    pub name: DatasetName,
    /// The name to call it by in results.
    pub title: &'static str,
    /// Height and width of an image.
    pub shape: [usize; 2],
    /// Number of classes that the labels tell apart, if there are labels.
    pub classes: Option<usize>,
    /// The licence of the data.
    pub licence: &'static str,
    /// Who is to be cited.
    pub citation: &'static str,
    /// Folders of URLs where its files are published, in the order in which they are tried; none for sets that were made from
    /// others.
    pub mirrors: &'static [&'static str],
    /// Where else it is, as parquet files.
    pub hub: Option<HubSet>,
    /// Training rows.
    pub train: Part,
    /// Validation rows; for MNIST, Fashion-MNIST and Omniglot they are the last of the training file.
    pub valid: Part,
    /// Test rows.
    pub test: Part,
}

impl Entry {
    /// Where the rows of a split are.
    #[must_use]
    pub const fn part(&self, split: Split) -> &Part {
        match split {
            Split::Train => &self.train,
            Split::Valid => &self.valid,
            Split::Test => &self.test,
        }
    }

    /// Every file of the set, once.
    #[must_use]
    pub fn files(&self) -> Vec<DataFile> {
        let mut files = Vec::new();
        for part in [&self.train, &self.valid, &self.test] {
            for file in std::iter::once(part.images).chain(part.labels) {
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        files
    }
}

/// The entry of a set, or `None` if it has no files of its own here ([`DatasetName::Strokes`], [`DatasetName::Own`]).
#[must_use]
pub const fn entry(name: DatasetName) -> Option<&'static Entry> {
    match name {
        DatasetName::Strokes | DatasetName::Own => None,
        DatasetName::Mnist => Some(&MNIST),
        DatasetName::FashionMnist => Some(&FASHION_MNIST),
        DatasetName::BinarizedMnist => Some(&BINARIZED_MNIST),
        DatasetName::Omniglot => Some(&OMNIGLOT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::TextName;

    #[test]
    fn the_file_sha256sums_lists_exactly_the_files_of_the_catalogue() {
        let mut expected: Vec<String> = DatasetName::ALL
            .into_iter()
            .filter_map(entry)
            .flat_map(|entry| {
                entry
                    .files()
                    .into_iter()
                    .map(|f| format!("{}  {}/{}", f.sha256, entry.name, f.name))
            })
            .collect();
        for name in TextName::ALL {
            let files = crate::text::catalogue::entry(name).files();
            expected.extend(
                files.iter().map(|f| format!("{}  {}/{}", f.sha256, name.as_str(), f.name)),
            );
        }
        let mut listed: Vec<&str> = include_str!("../../../../data/SHA256SUMS").lines().collect();
        expected.sort_unstable();
        listed.sort_unstable();
        assert_eq!(listed, expected);
    }

    #[test]
    fn splits_of_one_file_do_not_overlap_and_none_leaves_its_file() {
        for entry in DatasetName::ALL.into_iter().filter_map(entry) {
            let parts = Split::ALL.map(|split| *entry.part(split));
            for (i, part) in parts.iter().enumerate() {
                assert!(part.rows > 0 && part.first + part.rows <= part.file_rows);
                assert_eq!(part.labels.is_some(), entry.classes.is_some());
                for other in &parts[..i] {
                    let apart = part.first >= other.first + other.rows;
                    assert!(part.images != other.images || apart, "{}", entry.name);
                }
            }
        }
    }
}
