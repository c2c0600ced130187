//! Which checkpoints there are, and which of them stay.
use std::fs;
use std::path::Path;

use crate::files::{self, TEMPORARY};
use crate::{Error, Result};

/// Start of the names of directories that are about to be deleted.
const DELETED: &str = ".del-";

/// Start of the names of complete checkpoints.
pub(super) const STEP: &str = "step-";

/// Removes what killed processes left below `root`. Only for the holder of the run's lock.
pub(crate) fn clean(root: &Path) -> Result<()> {
    for name in files::names(root)? {
        if name.starts_with(TEMPORARY) || name.starts_with(DELETED) {
            tracing::debug!("removing {name}, left by a process that was killed");
            files::remove(&root.join(name))?;
        }
    }
    Ok(())
}

/// Steps of the complete checkpoints, ascending.
pub(super) fn steps(root: &Path) -> Result<Vec<u64>> {
    let mut steps: Vec<u64> = files::names(root)?.iter().filter_map(|name| step_of(name)).collect();
    steps.sort_unstable();
    Ok(steps)
}

/// The step of a complete checkpoint, by its name.
pub(super) fn step_of(name: &str) -> Option<u64> {
    let step: u64 = name.strip_prefix(STEP)?.parse().ok()?;
    // Only the way in which we write it: no `+7`, no `007`.
    (format!("{STEP}{step}") == name).then_some(step)
}

/// Takes a checkpoint away in one go, then deletes it.
pub(super) fn discard(root: &Path, name: &str) -> Result<()> {
    let gone = root.join(format!("{DELETED}{name}-{}", std::process::id()));
    let path = root.join(name);
    fs::rename(&path, &gone).map_err(Error::io("remove", &path))?;
    files::remove(&gone)
}

/// Removes all checkpoints but the newest `keep` up to `saved`. A failure costs only disk space.
pub(crate) fn prune(root: &Path, saved: u64, keep: usize) {
    let pruned = steps(root).and_then(|steps| {
        let (old, later): (Vec<u64>, Vec<u64>) = steps.into_iter().partition(|s| *s <= saved);
        let surplus = old.len().saturating_sub(keep);
        let gone = old.into_iter().take(surplus).chain(later);
        gone.map(|step| format!("{STEP}{step}")).try_for_each(|name| discard(root, &name))
    });
    if let Err(error) = pruned {
        tracing::warn!("an old checkpoint stays: {error}");
    }
}
