//! Named tensors, and who may have a handle on them.
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Var};
use gumbel_kernels::Key;

/// What all handles on the parameters share.
pub(super) struct Shared {
    pub(super) key: Key,
    pub(super) dtype: DType,
    pub(super) device: Device,
    pub(super) entries: Mutex<BTreeMap<String, Entry>>,
}

/// A named tensor of a model.
pub(super) struct Entry {
    pub(super) var: Var,
    /// Whether the optimiser moves it; a running statistic moves itself.
    pub(super) trained: bool,
}

impl Shared {
    /// The map is whole at any time, so that a panic of another thread does not make it invalid.
    pub(super) fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an entry, whose value `initial` makes.
    pub(super) fn create(
        &self,
        name: &str,
        trained: bool,
        initial: impl FnOnce() -> candle_core::Result<Var>,
    ) -> candle_core::Result<Var> {
        let mut entries = self.entries();
        if entries.contains_key(name) {
            candle_core::bail!(
                "parameter `{name}` is defined twice; give each layer a prefix of its own"
            );
        }
        let var = initial()?;
        entries.insert(name.to_owned(), Entry { var: var.clone(), trained });
        Ok(var)
    }

    pub(super) fn var(&self, name: &str) -> Option<Var> {
        self.entries().get(name).map(|entry| entry.var.clone())
    }
}
