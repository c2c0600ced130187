//! Every set that is read from files, images and texts alike.
use std::path::{Path, PathBuf};

use crate::catalogue::{DataFile, HubSet};
use crate::text::TextName;
use crate::text::catalogue as texts;
use crate::{DatasetName, Places, Result, catalogue, verify};

/// A set that is read from files.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Set {
    /// The name of the set and of its folder.
    pub name: &'static str,
    /// The name to call it by in results.
    pub title: &'static str,
    /// Whether its rows are images; else they are text.
    pub images: bool,
    /// Its files.
    pub files: Vec<DataFile>,
    /// Folders of URLs where they are published; none for sets that were made from others.
    pub mirrors: &'static [&'static str],
    /// Where else it is, as parquet files.
    pub hub: Option<HubSet>,
    /// The licence of the data.
    pub licence: &'static str,
    /// Who is to be cited.
    pub citation: &'static str,
}

impl Set {
    /// All of them: images, then texts.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let of_images = |entry: &'static catalogue::Entry| Self {
            name: entry.name.as_str(),
            title: entry.title,
            images: true,
            files: entry.files(),
            mirrors: entry.mirrors,
            hub: entry.hub,
            licence: entry.licence,
            citation: entry.citation,
        };
        let of_text = |name: TextName| {
            let entry = texts::entry(name);
            Self {
                name: name.as_str(),
                title: entry.title,
                images: false,
                files: entry.files().to_vec(),
                mirrors: entry.mirrors,
                hub: None,
                licence: entry.licence,
                citation: entry.citation,
            }
        };
        let images = DatasetName::ALL.into_iter().filter_map(catalogue::entry).map(of_images);
        images.chain(TextName::ALL.into_iter().map(of_text)).collect()
    }

    /// The first folder that holds every file of the set; where there is none it is fetched, if the places may.
    ///
    /// # Errors
    /// [`Error::Missing`](crate::Error::Missing) if it is nowhere to be had.
    pub fn find(&self, places: &Places) -> Result<PathBuf> {
        let instead = if self.images { "--dataset strokes" } else { "--corpus mixture" };
        places.folder((self.name, self.title), (&self.files, self.mirrors), instead)
    }

    /// The folder of its parquet files, where one of the places has them.
    #[must_use]
    pub fn find_parquet(&self, places: &Places) -> Option<PathBuf> {
        let hub = self.hub?;
        let has = |place: &&PathBuf| {
            [&hub.train, &hub.test].iter().all(|file| hub.path(place, file).is_file())
        };
        let place = places.directories().iter().find(has)?;
        Some(place.join("hub").join(hub.repository))
    }

    /// Checks size and SHA-256 of every file in a folder.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) for the first file that is not the published one,
    /// [`Error::Io`](crate::Error::Io) if one cannot be read.
    pub fn verify(&self, folder: &Path) -> Result<()> {
        self.files.iter().try_for_each(|file| verify::read(folder, file).map(drop))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_mirrors_are_folders_behind_encryption() {
        let sets = Set::all();
        for (i, set) in sets.iter().enumerate() {
            assert!(sets[..i].iter().all(|other| other.name != set.name));
            assert!(!set.files.is_empty() && !set.licence.is_empty() && !set.citation.is_empty());
            let encrypted = |url: &&str| url.starts_with("https://") && url.ends_with('/');
            assert!(set.mirrors.iter().all(encrypted), "{}", set.name);
        }
        assert!(sets.iter().any(|set| !set.mirrors.is_empty()));
    }

    #[test]
    fn a_set_is_found_where_all_files_are_and_refused_where_one_is_another() {
        let root = tempfile::tempdir().unwrap();
        let places = Places::new(vec![root.path().into()]);
        for set in Set::all() {
            assert_eq!(set.find(&places).unwrap_err().exit_code(), 69);
            let folder = root.path().join(set.name);
            std::fs::create_dir(&folder).unwrap();
            for file in &set.files {
                std::fs::write(folder.join(file.name), b"else").unwrap();
            }
            assert_eq!(set.find(&places).unwrap(), folder);
            assert_eq!(set.verify(&folder).unwrap_err().exit_code(), 65);
        }
    }
}
