//! The hub.
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::environment::{endpoint, hub_cache, offline, token};
use crate::get::Get;
use crate::network::{self, LIMITS, Limits};
use crate::{Error, Repository, Result};

/// Is told how many bytes came, and of how many.
pub type Progress<'a> = dyn Fn(u64, Option<u64>) + 'a;

/// Most bytes of a listing, and of a small file.
const SMALL: u64 = 64 << 20;
/// Most bytes of parameters.
const LARGE: u64 = 16 << 30;

/// The parameters of a model.
const MODEL: &str = "model.safetensors";
/// What a model's folder may have beside them.
const BESIDE: [&str; 6] =
    ["config.toml", "config.json", "README.md", "tokenizer.json", "summary.json", "citations.bib"];

/// A hub, and what is here of it.
#[derive(Clone)]
pub struct Hub {
    pub(crate) endpoint: String,
    pub(crate) token: Option<String>,
    cache: Option<PathBuf>,
    pub(crate) offline: Option<&'static str>,
    limits: Limits,
}

impl fmt::Debug for Hub {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, cache, offline, .. } = self;
        f.debug_struct("Hub")
            .field("endpoint", endpoint)
            .field("cache", cache)
            .field("offline", offline)
            .finish_non_exhaustive()
    }
}

impl Hub {
    /// As the environment says, see the crate.
    #[must_use]
    pub fn from_env() -> Self {
        Self {
            endpoint: endpoint(),
            token: token(),
            cache: hub_cache(),
            offline: offline(),
            limits: LIMITS,
        }
    }

    /// The hub at an address, and the cache of the hub's own programs if there is one; no token, whatever the environment says of
    /// the network.
    #[must_use]
    pub fn at(endpoint: &str, cache: Option<PathBuf>) -> Self {
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        Self { endpoint, token: None, cache, offline: None, limits: LIMITS }
    }

    /// The host that is asked.
    #[must_use]
    pub fn host(&self) -> &str {
        network::host(&self.endpoint)
    }

    /// A file that the hub's own programs fetched before.
    #[must_use]
    pub fn cached(&self, repository: &Repository, file: &str) -> Option<PathBuf> {
        let folder = self.cache.as_ref()?.join(repository.cached());
        let commit = fs::read_to_string(folder.join("refs").join(repository.revision()));
        let commit = commit.unwrap_or_else(|_| repository.revision().to_owned());
        let commit = commit.trim();
        let plain = !commit.is_empty() && commit.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let path = folder.join("snapshots").join(commit).join(file);
        (plain && path.is_file()).then_some(path)
    }

    /// A file of a repository, of at most so many bytes.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if it cannot be had, [`Error::Corrupt`] if what came cannot be it.
    pub fn fetch(
        &self,
        repository: &Repository,
        file: &str,
        most: u64,
        progress: &Progress<'_>,
    ) -> Result<Vec<u8>> {
        self.get(&repository.url(file), most, progress)
    }

    fn get(&self, path: &str, most: u64, progress: &Progress<'_>) -> Result<Vec<u8>> {
        let Self { endpoint, token, limits, .. } = self;
        self.reachable()?;
        let token = token.as_deref();
        Get { endpoint, path, token, most, limits: *limits }.bytes(progress)
    }

    /// An error if there is no network to be used.
    pub(crate) fn reachable(&self) -> Result<()> {
        if let Some(variable) = self.offline {
            return Err(Error::Unavailable(format!("no download: {variable} is set")));
        }
        if !["https://", "http://"].iter().any(|scheme| self.endpoint.starts_with(scheme)) {
            let endpoint = &self.endpoint;
            return Err(Error::Usage(format!("HF_ENDPOINT is {endpoint:?}; give https://HOST")));
        }
        Ok(())
    }

    /// Which of the files of a model there are, of those that [`Hub::pull`] takes, and the commit that has them.
    fn files_of_model(&self, repository: &Repository) -> Result<(Repository, Vec<&'static str>)> {
        let listing = self.get(&repository.listing(), SMALL, &|_, _| ())?;
        let no_list = || Error::Corrupt(format!("{}: no list of files", repository.name()));
        let listing: serde_json::Value = serde_json::from_slice(&listing).map_err(|_| no_list())?;
        let siblings = listing["siblings"].as_array().ok_or_else(no_list)?;
        let has = |name: &&str| siblings.iter().any(|file| file["rfilename"] == **name);
        if !has(&MODEL) {
            return Err(Error::Corrupt(format!(
                "{} at {} has no {MODEL}; it is no model that can be read here",
                repository.name(),
                repository.revision()
            )));
        }
        // All files of one commit, though somebody may push meanwhile.
        let commit = listing["sha"].as_str().filter(|sha| sha.len() == 40);
        let at = commit.map(|commit| repository.at(commit)).transpose()?;
        let files = [MODEL].into_iter().chain(BESIDE).filter(has).collect();
        Ok((at.unwrap_or_else(|| repository.clone()), files))
    }

    /// Puts a model into a folder, which must not exist yet: parameters, configuration, card, tokenizer, as far as there are any.
    /// The folder is there whole or not at all.
    ///
    /// # Errors
    /// [`Error::Usage`] if the folder exists, and those of [`Hub::fetch`].
    pub fn pull(
        &self,
        repository: &Repository,
        folder: &Path,
        progress: &dyn Fn(&str, u64, Option<u64>),
    ) -> Result<()> {
        if folder.exists() {
            let folder = folder.display();
            return Err(Error::Usage(format!("{folder} is there already; choose another")));
        }
        let mut files = Vec::new();
        let (repository, names) = self.files_of_model(repository)?;
        for name in names {
            let most = if name == MODEL { LARGE } else { SMALL };
            let tell = |held, total| progress(name, held, total);
            files.push((name, self.fetch(&repository, name, most, &tell)?));
        }
        let mut name = folder.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".part-{}", std::process::id()));
        let part = folder.with_file_name(name);
        let write = || {
            fs::create_dir_all(&part)?;
            for (name, bytes) in &files {
                fs::write(part.join(name), bytes)?;
                fs::File::open(part.join(name))?.sync_all()?;
            }
            fs::rename(&part, folder)
        };
        write().map_err(|source| {
            let _ = fs::remove_dir_all(&part);
            Error::io(format!("writing {}", folder.display()))(source)
        })
    }
}

#[cfg(test)]
mod tests;
