//! A set as a data set of a model hub: parquet files, whose bytes the hub may change, and whose pixels and labels it may not.
use std::cell::Cell;
use std::fs;
use std::path::Path;

use gumbel_hub::{Kind, Repository};

use crate::catalogue::{Entry, HubFile, HubSet};
use crate::download::Watcher;
use crate::images::Origin;
use crate::own::{Gathered, parquet};
use crate::verify::sha256;
use crate::{Downloads, Error, Images, Places, Result, Split};

/// Where the files of a set are looked for and put.
pub(crate) struct FromHub<'a> {
    entry: &'static Entry,
    set: &'a HubSet,
    places: &'a Places,
    /// None where nothing may be fetched.
    downloads: Option<&'a Downloads>,
}

impl<'a> FromHub<'a> {
    /// None where the set is on no hub.
    pub(crate) fn new(entry: &'static Entry, places: &'a Places) -> Option<Self> {
        Some(Self { entry, set: entry.hub.as_ref()?, places, downloads: places.downloads() })
    }

    fn repository(&self) -> Result<Repository> {
        let HubSet { repository, revision, .. } = self.set;
        Repository::new(Kind::Dataset, repository, revision)
            .map_err(|error| Error::Argument(error.to_string()))
    }

    fn file(&self, split: Split) -> &HubFile {
        if split == Split::Test { &self.set.test } else { &self.set.train }
    }

    /// The split from a file that is here already: in a place, or where the hub's own programs keep theirs. One that is not what
    /// was published is as good as none.
    pub(crate) fn here(&self, split: Split) -> Result<Option<Images>> {
        let file = self.file(split);
        let in_places = self.places.directories().iter().map(|place| self.set.path(place, file));
        let repository = self.repository()?;
        let cached = self.downloads.and_then(|d| d.hub().cached(&repository, file.path));
        for path in in_places.chain(cached) {
            if path.is_file()
                && let Ok(images) = self.read(&path, split)
            {
                return Ok(Some(images));
            }
        }
        Ok(None)
    }

    /// Fetches the file of the split into the last place, where that is allowed, and reads it; else what was tried.
    pub(crate) fn fetch(&self, split: Split) -> Result<Images, Vec<String>> {
        let (Some(downloads), Some(place)) = (self.downloads, self.places.directories().last())
        else {
            return Err(Vec::new());
        };
        self.fetch_to(place, downloads, split).map_err(|why| vec![why])
    }

    fn fetch_to(
        &self,
        place: &Path,
        downloads: &Downloads,
        split: Split,
    ) -> Result<Images, String> {
        let said = |why: String| format!("{} ({why})", downloads.hub().host());
        let file = self.file(split);
        let path = self.set.path(place, file);
        let repository = self.repository().map_err(|error| error.to_string())?;
        let bytes = shown(downloads, &repository, file).map_err(|error| said(error.to_string()))?;
        self.put(&path, &bytes).map_err(|error| format!("cannot write here: {error}"))?;
        self.read(&path, split).map_err(|error| {
            let _ = fs::remove_file(&path);
            said(error.to_string())
        })
    }

    /// Whole or not at all.
    fn put(&self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(path);
        fs::create_dir_all(folder)?;
        let part = folder.join(format!(".part-{}", std::process::id()));
        fs::write(&part, bytes)?;
        fs::File::open(&part)?.sync_all()?;
        fs::rename(&part, path)
    }

    /// The rows of the split, if pixels and labels of the whole file are the published ones.
    fn read(&self, path: &Path, split: Split) -> Result<Images> {
        let file = self.file(split);
        let mut rows = Gathered::default();
        parquet::read(path, &mut rows)?;
        let found = [sha256(&rows.pixels), sha256(&rows.labels)];
        if found != [file.pixels_sha256, file.labels_sha256] {
            let reason = format!(
                "not the {} that was published: sha256 of pixels {}, of labels {}",
                self.entry.title, found[0], found[1]
            );
            return Err(Error::Corrupt { path: path.to_path_buf(), reason });
        }
        let part = self.entry.part(split);
        let all: Vec<u32> = (part.first..part.first + part.rows).map(|row| row as u32).collect();
        let origin = Origin::Folder(path.to_path_buf());
        rows.take(&all).images((self.entry.name, split), origin)
    }
}

/// The bytes, while the watcher is told how they come.
fn shown(
    downloads: &Downloads,
    repository: &Repository,
    file: &HubFile,
) -> gumbel_hub::Result<Vec<u8>> {
    let watcher: &dyn Watcher = downloads.watcher();
    let begun = Cell::new(false);
    let progress = |held: u64, total: Option<u64>| {
        if !begun.replace(true) {
            watcher.begin(file.path, total.unwrap_or(file.most), 0);
        }
        watcher.progress(held);
    };
    let bytes = downloads.hub().fetch(repository, file.path, file.most, &progress);
    if begun.get() {
        watcher.end();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use gumbel_hub::mock::{Fault, Mock};

    use super::*;
    use crate::catalogue::{DataFile, Part};
    use crate::own::tests::columns::write;
    use crate::own::tests::grey_png;
    use crate::{DatasetName, load_entry};

    /// A set of six and two images on a hub.
    fn made_up(mirror: &'static str) -> &'static Entry {
        let file = |name, path, first: std::ops::Range<u8>| {
            let pixels: Vec<u8> = first.clone().flat_map(|i| [i; 6]).collect();
            let labels: Vec<u8> = first.map(|i| i % 3).collect();
            let leak = |text: String| &*Box::leak(text.into_boxed_str());
            let hub = HubFile {
                path,
                most: 1 << 20,
                pixels_sha256: leak(sha256(&pixels)),
                labels_sha256: leak(sha256(&labels)),
            };
            let images = DataFile { name, bytes: 1, sha256: hub.pixels_sha256 };
            let rows = labels.len();
            (hub, Part { images, labels: Some(images), file_rows: rows, first: 0, rows })
        };
        let (train, all) = file("train", "m/train/0.parquet", 0..6);
        let (test, test_part) = file("test", "m/test/0.parquet", 6..8);
        let mnist = crate::catalogue::entry(DatasetName::Mnist).unwrap();
        Box::leak(Box::new(Entry {
            shape: [2, 3],
            classes: Some(3),
            mirrors: Box::leak(Box::new([mirror])),
            hub: Some(HubSet { repository: "o/m", revision: "refs/convert/parquet", train, test }),
            train: Part { rows: 4, ..all },
            valid: Part { first: 4, rows: 2, ..all },
            test: test_part,
            ..*mnist
        }))
    }

    fn file(rows: std::ops::Range<u8>) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        let images: Vec<Vec<u8>> = rows.clone().map(grey_png).collect();
        write(&path, &images, &rows.map(|i| i64::from(i % 3)).collect::<Vec<_>>());
        fs::read(path).unwrap()
    }

    fn downloads(mock: &Mock) -> Downloads {
        Downloads::from_env().with_hub(gumbel_hub::Hub::at(&mock.url(), None))
    }

    const TRAIN: &str = "/datasets/o/m/resolve/refs%2Fconvert%2Fparquet/m/train/0.parquet";
    const TEST: &str = "/datasets/o/m/resolve/refs%2Fconvert%2Fparquet/m/test/0.parquet";

    #[test]
    fn a_set_that_no_mirror_has_comes_from_the_hub_and_is_kept() {
        let nobody = Mock::new(&[], vec![]);
        let entry = made_up(Box::leak(format!("{}/", nobody.url()).into_boxed_str()));
        let (train, test) = (file(0..6), file(6..8));
        let mock = Mock::new(&[(TRAIN, &train), (TEST, &test)], vec![Fault::Cut(100)]);
        let root = tempfile::tempdir().unwrap();
        let places = Places::new(vec![root.path().join("a"), root.path().join("b")])
            .with_downloads(downloads(&mock));
        let split = |split| load_entry(entry, split, &places).unwrap();
        for _ in 0..2 {
            assert_eq!(split(Split::Train).labels(), Some(&[0, 1, 2, 0][..]));
            assert_eq!(split(Split::Valid).pixels(), [[4; 6], [5; 6]].concat());
            assert_eq!(split(Split::Test).labels(), Some(&[0, 1][..]));
        }
        // The cut one, its rest, and the other file; never again.
        assert_eq!(mock.requests().len(), 3);
        assert!(root.path().join("b/hub/o/m/m/train/0.parquet").is_file());
    }

    #[test]
    fn other_pixels_are_not_the_set_and_do_not_stay() {
        let nobody = Mock::new(&[], vec![]);
        let entry = made_up(Box::leak(format!("{}/", nobody.url()).into_boxed_str()));
        let other = file(1..7);
        let mock = Mock::new(&[(TRAIN, &other)], vec![]);
        let root = tempfile::tempdir().unwrap();
        let places = Places::new(vec![root.path().into()]).with_downloads(downloads(&mock));
        let error = load_entry(entry, Split::Train, &places).unwrap_err();
        assert_eq!(error.exit_code(), 69);
        let text = error.to_string();
        assert!(
            text.contains("127.0.0.1") && text.contains("not the mnist that was published"),
            "{text}"
        );
        assert!(!root.path().join("hub/o/m/m/train/0.parquet").exists());
        // Where nothing may be fetched, what is there is read all the same.
        let here = Places::new(vec![root.path().into()]);
        assert!(load_entry(entry, Split::Train, &here).is_err());
        std::fs::create_dir_all(root.path().join("hub/o/m/m/train")).unwrap();
        fs::write(root.path().join("hub/o/m/m/train/0.parquet"), file(0..6)).unwrap();
        assert_eq!(load_entry(entry, Split::Train, &here).unwrap().len(), 4);
        // Nor is a wrong one that lies in a place.
        let path = root.path().join("hub/o/m/m/train/0.parquet");
        fs::write(&path, &other).unwrap();
        assert!(load_entry(entry, Split::Train, &places).is_err());
    }
}
