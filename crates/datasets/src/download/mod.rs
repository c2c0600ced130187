//! Data sets that are not on this machine, from where their publishers put them.
//!
//! A file is accepted if its size and SHA-256 are the pinned ones, whoever sent it: mirrors are tried in order, and none of
//! them is trusted. What came before a connection broke is kept, and the next try asks for the rest.
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gumbel_hub::{Hub, network};

use crate::catalogue::DataFile;

mod file;
mod lock;

use file::Transfer;

/// Waits that end a try.
#[derive(Clone, Copy, Debug)]
struct Limits {
    network: network::Limits,
    /// For another process that fetches the same file.
    lock: Duration,
}

const LIMITS: Limits = Limits { network: network::LIMITS, lock: Duration::from_secs(600) };

/// Is told how a download gets on.
pub trait Watcher: Send + Sync {
    /// A file of so many bytes is fetched, of which `held` are there from before.
    fn begin(&self, file: &str, bytes: u64, held: u64);
    /// So many bytes of it are there.
    fn progress(&self, held: u64);
    /// The file is complete and was checked, or is given up.
    fn end(&self);
}

/// How to fetch data sets; see [`Places::with_downloads`](crate::Places::with_downloads).
#[derive(Clone)]
pub struct Downloads {
    offline: Option<&'static str>,
    hub: Hub,
    watcher: Option<Arc<dyn Watcher>>,
    limits: Limits,
}

impl fmt::Debug for Downloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Downloads").field("offline", &self.offline).finish_non_exhaustive()
    }
}

impl Downloads {
    /// Downloads, unless `GUMBEL_OFFLINE` or `HF_HUB_OFFLINE` forbids them; proxies and the hub are those of the environment.
    #[must_use]
    pub fn from_env() -> Self {
        Self { offline: gumbel_hub::offline(), hub: Hub::from_env(), watcher: None, limits: LIMITS }
    }

    /// Tells `watcher` how each file gets on.
    #[must_use]
    pub fn watched(self, watcher: Arc<dyn Watcher>) -> Self {
        Self { watcher: Some(watcher), ..self }
    }

    /// Puts the files that `folder` lacks there, from one of `mirrors`, folders of URLs; else what was tried, a line each.
    pub(crate) fn fetch(
        &self,
        folder: &Path,
        files: &[DataFile],
        mirrors: &[&str],
    ) -> Result<(), Vec<String>> {
        if let Some(variable) = self.offline {
            return Err(vec![format!("no download: {variable} is set")]);
        }
        if mirrors.is_empty() {
            return Err(vec!["no download: this set was made from others, and is nowhere".into()]);
        }
        for file in files {
            let transfer = Transfer { folder, file, limits: self.limits, watcher: self.watcher() };
            transfer.fetch(mirrors)?;
        }
        Ok(())
    }

    /// The same with another hub than the environment says.
    #[cfg(test)]
    pub(crate) fn with_hub(self, hub: Hub) -> Self {
        Self { hub, offline: None, ..self }
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.hub
    }

    pub(crate) fn watcher(&self) -> &dyn Watcher {
        match &self.watcher {
            Some(watcher) => &**watcher,
            None => &Nobody,
        }
    }
}

/// Watches nothing.
struct Nobody;

impl Watcher for Nobody {
    fn begin(&self, _: &str, _: u64, _: u64) {}
    fn progress(&self, _: u64) {}
    fn end(&self) {}
}
