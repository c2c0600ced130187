//! Where data sets are looked for.
use std::fmt;
use std::path::{Path, PathBuf};

use crate::catalogue::{DataFile, Entry};
use crate::{Error, Result};

/// The directories in which data sets are looked for, in order; a set is a folder of its name in one.
///
/// The first directory that holds all files of a set is used for it. Which one does not matter for
/// the result, because only one content of each file is accepted. Files must be as
/// published: of images un-gzipped copies are not accepted, because the pinned hash is that of the archive.
#[derive(Clone, Debug)]
pub struct Places {
    directories: Vec<PathBuf>,
    #[cfg(feature = "download")]
    downloads: Option<crate::Downloads>,
}

/// A directory that was looked into, and what was there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Looked {
    /// The folder of the set.
    pub directory: PathBuf,
    /// How many of its files it holds.
    pub held: usize,
    /// How many files the set has.
    pub of: usize,
}

impl fmt::Display for Looked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { directory, held, of } = self;
        match held {
            0 => write!(f, "{} (none of the files)", directory.display()),
            _ => write!(f, "{} ({held} of {of} files)", directory.display()),
        }
    }
}

impl Places {
    /// Exactly these directories.
    #[must_use]
    pub fn new(directories: Vec<PathBuf>) -> Self {
        Self {
            directories,
            #[cfg(feature = "download")]
            downloads: None,
        }
    }

    /// The usual places: `data_dir` (a flag), then `env_dir` (`GUMBEL_DATA_DIR`), then `data` in the
    /// current directory, then `gumbel/datasets` in the cache directory of the user.
    #[must_use]
    pub fn usual(
        data_dir: Option<PathBuf>,
        env_dir: Option<PathBuf>,
        user_cache: Option<PathBuf>,
    ) -> Self {
        let cache = user_cache.map(|cache| cache.join("gumbel").join("datasets"));
        let current = Some(PathBuf::from("data"));
        let directories = [data_dir, env_dir, current, cache].into_iter().flatten();
        Self::new(directories.filter(|directory| !directory.as_os_str().is_empty()).collect())
    }

    /// [`Places::usual`] with `GUMBEL_DATA_DIR` and the cache directory from the environment:
    /// `$XDG_CACHE_HOME`, or `~/.cache` if that is unset or relative.
    #[must_use]
    pub fn from_env(data_dir: Option<PathBuf>) -> Self {
        let variable = |name| std::env::var_os(name).map(PathBuf::from);
        let xdg = variable("XDG_CACHE_HOME").filter(|path| path.is_absolute());
        let home = || variable("HOME").filter(|path| path.is_absolute());
        let cache = xdg.or_else(|| home().map(|home| home.join(".cache")));
        Self::usual(data_dir, variable("GUMBEL_DATA_DIR"), cache)
    }

    /// The directories, in the order in which they are tried.
    #[must_use]
    pub fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    /// The first folder that holds every file of the set.
    ///
    /// All files are asked for even if one split is wanted, so that a run does not end for want of
    /// its test rows. [`Error::Missing`] if no directory has them all; [`Error::Io`] if a directory
    /// cannot be looked into.
    pub fn find(&self, entry: &Entry) -> Result<PathBuf> {
        let files = (&*entry.files(), entry.mirrors);
        self.folder((entry.name.as_str(), entry.title), files, "--dataset strokes")
    }

    /// Whether one of the places holds every file of the set.
    #[cfg(feature = "download")]
    pub(crate) fn has(&self, entry: &Entry) -> Result<bool> {
        let files = entry.files();
        let mut looked_in = Vec::new();
        Ok(self.look(entry.name.as_str(), &files, &mut looked_in)?.is_some())
    }

    /// How to fetch what is in none of the places, where that is allowed.
    #[cfg(feature = "download")]
    pub(crate) fn downloads(&self) -> Option<&crate::Downloads> {
        self.downloads.as_ref()
    }

    /// The first folder of that name that holds every one of the files; what can be done without them is `instead`.
    pub(crate) fn folder(
        &self,
        (name, title): (&str, &'static str),
        (files, mirrors): (&[DataFile], &[&str]),
        instead: &'static str,
    ) -> Result<PathBuf> {
        let mut looked_in = Vec::new();
        if let Some(folder) = self.look(name, files, &mut looked_in)? {
            return Ok(folder);
        }
        let tried = match self.fetch(name, files, mirrors) {
            Ok(folder) => return Ok(folder),
            Err(tried) => tried,
        };
        Err(Error::Missing { title, files: files.to_vec(), instead, looked_in, tried })
    }

    /// The first folder of that name that holds every one of the files; what the others hold.
    fn look(
        &self,
        name: &str,
        files: &[DataFile],
        looked_in: &mut Vec<Looked>,
    ) -> Result<Option<PathBuf>> {
        for place in &self.directories {
            let directory = place.join(name);
            let mut held = 0;
            for file in files {
                held += usize::from(exists(&directory.join(file.name))?);
            }
            if held == files.len() {
                return Ok(Some(directory));
            }
            let directory = std::path::absolute(&directory).unwrap_or(directory);
            looked_in.push(Looked { directory, held, of: files.len() });
        }
        Ok(None)
    }
}

impl Places {
    /// Fetches the files into the last of the places, where that is allowed; else what was tried.
    #[cfg(feature = "download")]
    fn fetch(
        &self,
        name: &str,
        files: &[DataFile],
        mirrors: &[&str],
    ) -> std::result::Result<PathBuf, Vec<String>> {
        let (Some(downloads), Some(place)) = (&self.downloads, self.directories.last()) else {
            return Err(Vec::new());
        };
        let folder = place.join(name);
        downloads.fetch(&folder, files, mirrors)?;
        Ok(folder)
    }

    /// Nothing is fetched without the feature `download`.
    #[cfg(not(feature = "download"))]
    fn fetch(
        &self,
        _: &str,
        _: &[DataFile],
        _: &[&str],
    ) -> std::result::Result<PathBuf, Vec<String>> {
        Err(Vec::new())
    }

    /// Sets that are in none of the places are fetched into the last one, from where they are published.
    #[cfg(feature = "download")]
    #[must_use]
    pub fn with_downloads(self, downloads: crate::Downloads) -> Self {
        Self { downloads: Some(downloads), ..self }
    }
}

/// Whether there is a file or anything else of this name; a directory in its stead fails later.
fn exists(path: &Path) -> Result<bool> {
    match path.try_exists() {
        Ok(exists) => Ok(exists),
        // A file where the folder should be is as good as no folder.
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => Ok(false),
        Err(source) => Err(Error::Io { path: path.to_path_buf(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DatasetName;
    use crate::catalogue::entry;

    fn put(place: &Path, entry: &Entry, files: usize) {
        let folder = place.join(entry.name.as_str());
        std::fs::create_dir_all(&folder).unwrap();
        for file in entry.files().iter().take(files) {
            std::fs::write(folder.join(file.name), b"").unwrap();
        }
    }

    #[test]
    fn the_first_place_with_all_files_is_used_and_partial_ones_are_reported() {
        let root = tempfile::tempdir().unwrap();
        let mnist = entry(DatasetName::Mnist).unwrap();
        let place = |name: &str| root.path().join(name);
        let places = Places::new(vec![place("a"), place("b"), place("c")]);
        put(&place("b"), mnist, 3);
        let Err(Error::Missing { looked_in, .. }) = places.find(mnist) else {
            panic!("found what is not there")
        };
        assert_eq!(looked_in.iter().map(|l| l.held).collect::<Vec<_>>(), [0, 3, 0]);
        put(&place("c"), mnist, 4);
        assert_eq!(places.find(mnist).unwrap(), place("c").join("mnist"));
        put(&place("a"), mnist, 4);
        assert_eq!(places.find(mnist).unwrap(), place("a").join("mnist"));
    }

    #[test]
    fn a_flag_comes_before_the_environment_before_the_project_before_the_cache() {
        let path = |text: &str| Some(PathBuf::from(text));
        let places = Places::usual(path("flag"), path("env"), path("cache"));
        let expected = ["flag", "env", "data", "cache/gumbel/datasets"].map(PathBuf::from);
        assert_eq!(places.directories(), expected);
        assert_eq!(Places::usual(None, path(""), None).directories(), [PathBuf::from("data")]);
    }

    #[test]
    fn a_file_in_the_place_of_a_folder_is_no_place() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("mnist"), b"").unwrap();
        let found = Places::new(vec![root.path().into()]).find(entry(DatasetName::Mnist).unwrap());
        assert!(matches!(found, Err(Error::Missing { .. })));
    }
}
