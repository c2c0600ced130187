//! A checkpoint and its directory.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::keep::{STEP, discard, prune, step_of, steps};
use super::manifest::{MANIFEST, MODEL, Manifest, OPTIMIZER, STATE};
use super::tensors;
use crate::files::{self, TEMPORARY, read_limited, sync_directory, write_synced};
use crate::{Error, Result};

/// Upper limit for `state.json` and `MANIFEST` in bytes.
const MAX_SMALL: u64 = 1 << 16;

/// The version of the layout described here.
const FORMAT: u32 = 1;

/// Everything a run needs to go on from a step.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Checkpoint {
    /// The numbers of the run.
    pub state: State,
    /// The parameters by name.
    pub model: BTreeMap<String, Tensor>,
    /// The state of the optimizer by name.
    pub optimizer: BTreeMap<String, Tensor>,
}

/// The numbers of a run at a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct State {
    /// Version of the layout, 1.
    format: u32,
    /// Steps that are done.
    pub step: u64,
    /// Length of `metrics.jsonl` in bytes, before any evaluation at this step.
    pub metrics_bytes: u64,
    /// SHA-256 of what the results depend on in the configuration.
    pub config_sha256: String,
}

impl State {
    /// The numbers of a run after `step` steps.
    #[must_use]
    pub fn new(step: u64, metrics_bytes: u64, config_sha256: String) -> Self {
        Self { format: FORMAT, step, metrics_bytes, config_sha256 }
    }
}

impl Checkpoint {
    /// Writes the checkpoint below `root` and removes all but the newest `keep`.
    ///
    /// Checkpoints of later steps are removed too: they are leftovers that could not be loaded.
    pub fn save(&self, root: &Path, keep: usize) -> Result<PathBuf> {
        let name = format!("{STEP}{}", self.state.step);
        let process = std::process::id();
        let temporary = root.join(format!("{TEMPORARY}{name}-{process}"));
        if temporary.exists() {
            files::remove(&temporary)?;
        }
        let complete = root.join(&name);
        let written = self.fill(&temporary).and_then(|()| {
            if complete.exists() {
                discard(root, &name)?;
            }
            fs::rename(&temporary, &complete).map_err(Error::io("write", &complete))?;
            sync_directory(root)
        });
        if written.is_err() && temporary.exists() {
            // Gives the space back where the disk is full; the first error matters more.
            let _ = files::remove(&temporary);
        }
        written?;
        prune(root, self.state.step, keep.max(1));
        Ok(complete)
    }

    fn fill(&self, directory: &Path) -> Result<()> {
        fs::create_dir(directory).map_err(Error::io("create", directory))?;
        let mut manifest = Manifest::default();
        let state = serde_json::to_vec(&self.state)
            .map_err(|error| Error::caller(70, format!("cannot write {STATE}: {error}")))?;
        let contents = [
            (MODEL, tensors::encode(&self.model)?),
            (OPTIMIZER, tensors::encode(&self.optimizer)?),
            (STATE, state),
        ];
        for (name, bytes) in contents {
            write_synced(&directory.join(name), &bytes)?;
            manifest.add(name, &bytes);
        }
        write_synced(&directory.join(MANIFEST), manifest.to_string().as_bytes())?;
        sync_directory(directory)
    }

    /// The newest checkpoint below `root` that agrees with its `MANIFEST`; none if there is none at all.
    ///
    /// One that is torn or changed is skipped with a warning; if all are, that is an error.
    pub fn newest(root: &Path) -> Result<Option<Self>> {
        let mut skipped = Vec::new();
        for step in steps(root)?.into_iter().rev() {
            match Self::load(&root.join(format!("{STEP}{step}"))) {
                Ok(checkpoint) => return Ok(Some(checkpoint)),
                Err(error @ Error::Corrupt { .. }) => {
                    tracing::warn!("checkpoint of step {step} skipped: {error}");
                    skipped.push(error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        if skipped.is_empty() {
            return Ok(None);
        }
        let reason = format!("no checkpoint is whole; start a new run ({})", skipped.join("; "));
        Err(Error::corrupt(root, reason))
    }

    /// Reads one checkpoint directory; tensors are on the CPU.
    pub fn load(directory: &Path) -> Result<Self> {
        let small = |name: &str| read_existing(&directory.join(name), MAX_SMALL);
        let text = small(MANIFEST)?;
        let manifest = Manifest::parse(&text)
            .map_err(|reason| Error::corrupt(&directory.join(MANIFEST), reason))?;
        let checked = |name: &'static str| -> Result<Vec<u8>> {
            let path = directory.join(name);
            let entry =
                manifest.get(name).ok_or_else(|| Error::corrupt(&path, "not in MANIFEST"))?;
            let bytes = read_existing(&path, entry.length)?;
            entry.check(&bytes).map_err(|reason| Error::corrupt(&path, reason))?;
            Ok(bytes)
        };
        let decode = |name: &'static str| -> Result<BTreeMap<String, Tensor>> {
            tensors::decode(&checked(name)?)
                .map_err(|reason| Error::corrupt(&directory.join(name), reason))
        };
        let state = directory.join(STATE);
        let state: State = serde_json::from_slice(&checked(STATE)?)
            .map_err(|error| Error::corrupt(&state, error.to_string()))?;
        let name = directory.file_name().unwrap_or_default().to_string_lossy();
        if state.format != FORMAT || step_of(&name) != Some(state.step) {
            let reason = format!("format {} and step {} in {name}", state.format, state.step);
            return Err(Error::corrupt(&directory.join(STATE), reason));
        }
        Ok(Self { state, model: decode(MODEL)?, optimizer: decode(OPTIMIZER)? })
    }
}

/// Reads a file whose absence means that the checkpoint is torn.
fn read_existing(path: &Path, limit: u64) -> Result<Vec<u8>> {
    read_limited(path, limit).map_err(|error| match error {
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Error::corrupt(path, "the file is missing")
        }
        error => error,
    })
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::super::keep::clean;
    use super::*;

    fn checkpoint(step: u64) -> Checkpoint {
        let tensor = |value: f64, dtype| {
            Tensor::full(value, (2, 3), &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
        };
        Checkpoint {
            state: State::new(step, 17 * step, "0".repeat(64)),
            model: [("w".into(), tensor(step as f64, DType::F32))].into(),
            optimizer: [
                ("adam.m.w".into(), tensor(0.5, DType::F64)),
                ("n".into(), tensor(3., DType::U32)),
            ]
            .into(),
        }
    }

    fn root() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn newest(root: &Path) -> Result<Option<u64>> {
        Ok(Checkpoint::newest(root)?.map(|c| c.state.step))
    }

    fn bytes_of(directory: &Path) -> Vec<(String, Vec<u8>)> {
        let names = files::names(directory).unwrap();
        names.into_iter().map(|n| (n.clone(), fs::read(directory.join(n)).unwrap())).collect()
    }

    #[test]
    fn what_was_saved_is_loaded_bit_for_bit_and_saved_again_as_the_same_bytes() {
        let (root, other) = (root(), root());
        let saved = checkpoint(5).save(root.path(), 2).unwrap();
        let loaded = Checkpoint::newest(root.path()).unwrap().unwrap();
        assert_eq!(loaded.state, checkpoint(5).state);
        let w = |c: &Checkpoint| c.model["w"].to_vec2::<f32>().unwrap();
        assert_eq!(w(&loaded), w(&checkpoint(5)));
        assert_eq!(loaded.optimizer["n"].to_vec2::<u32>().unwrap(), [[3; 3]; 2]);
        let again = loaded.save(other.path(), 2).unwrap();
        assert_eq!(bytes_of(&saved), bytes_of(&again));
        assert_eq!(files::names(&saved).unwrap().len(), 4);
    }

    #[test]
    fn the_newest_two_are_kept_and_nothing_else_stays() {
        let root = root();
        assert_eq!(newest(root.path()).unwrap(), None);
        for step in [1, 9, 10, 100] {
            checkpoint(step).save(root.path(), 2).unwrap();
        }
        assert_eq!(files::names(root.path()).unwrap(), ["step-10", "step-100"]);
        // Going on from an older one removes the later ones, which could not be loaded.
        checkpoint(50).save(root.path(), 1).unwrap();
        assert_eq!(files::names(root.path()).unwrap(), ["step-50"]);
        // The same step can be saved again.
        checkpoint(50).save(root.path(), 1).unwrap();
        assert_eq!(newest(root.path()).unwrap(), Some(50));
    }

    #[test]
    fn a_torn_checkpoint_is_skipped_whatever_is_torn() {
        for name in [MODEL, OPTIMIZER, STATE, MANIFEST] {
            let bytes = {
                let root = root();
                bytes_of(&checkpoint(8).save(root.path(), 2).unwrap())
            };
            let whole = bytes.into_iter().find(|(n, _)| n == name).unwrap().1;
            for length in [None, Some(0), Some(whole.len() / 2), Some(whole.len() - 1)] {
                let root = root();
                checkpoint(7).save(root.path(), 2).unwrap();
                let torn = checkpoint(8).save(root.path(), 2).unwrap().join(name);
                match length {
                    None => fs::remove_file(&torn).unwrap(),
                    Some(length) => fs::write(&torn, &whole[..length]).unwrap(),
                }
                assert_eq!(newest(root.path()).unwrap(), Some(7), "{name} {length:?}");
            }
        }
    }

    #[test]
    fn when_no_checkpoint_is_whole_that_is_bad_data_and_not_a_new_start() {
        let root = root();
        let saved = checkpoint(8).save(root.path(), 2).unwrap();
        fs::write(saved.join(MODEL), b"x").unwrap();
        let error = newest(root.path()).unwrap_err();
        assert_eq!(error.exit_code(), 65);
        assert!(error.to_string().contains(MODEL), "{error}");
    }

    #[test]
    fn a_checkpoint_under_another_steps_name_is_not_believed() {
        let root = root();
        checkpoint(8).save(root.path(), 2).unwrap();
        fs::rename(root.path().join("step-8"), root.path().join("step-9")).unwrap();
        assert_eq!(newest(root.path()).unwrap_err().exit_code(), 65);
        assert_eq!(["step-07", "step-+7", "step-", "step", "step-1x"].map(step_of), [None; 5]);
    }

    #[test]
    fn strays_of_killed_processes_are_removed_and_never_loaded() {
        let root = root();
        checkpoint(3).save(root.path(), 2).unwrap();
        for stray in [".tmp-step-4-77", ".del-step-2-77"] {
            fs::create_dir(root.path().join(stray)).unwrap();
            fs::write(root.path().join(stray).join(MODEL), b"half").unwrap();
        }
        assert_eq!(newest(root.path()).unwrap(), Some(3));
        clean(root.path()).unwrap();
        assert_eq!(files::names(root.path()).unwrap(), ["step-3"]);
    }

    #[test]
    fn a_failed_save_leaves_the_old_checkpoint_and_no_rubbish() {
        let root = root();
        checkpoint(3).save(root.path(), 2).unwrap();
        let mut bad = checkpoint(4);
        bad.model.insert("half".into(), Tensor::zeros(2, DType::F8E4M3, &Device::Cpu).unwrap());
        assert!(bad.save(root.path(), 2).is_err());
        assert_eq!(files::names(root.path()).unwrap(), ["step-3"]);
    }

    /// Changes bytes of each file and gives `MANIFEST` the right sums again, so that the readers behind
    /// it get to see them.
    #[test]
    fn hostile_bytes_are_refused_and_never_panic() {
        let root = root();
        let directory = checkpoint(8).save(root.path(), 2).unwrap();
        let files: Vec<(String, Vec<u8>)> = bytes_of(&directory);
        let key = gumbel_kernels::Key::from_seed(1).named("hostile");
        for (name, bytes) in &files {
            for trial in 0..400 {
                let key = key.named(name).fold_in(trial);
                let mut bad = bytes.clone();
                let at = |i: u64| key.word(i) as usize % bytes.len();
                match trial % 4 {
                    0 => bad.truncate(at(0)),
                    1 => bad[at(1)] ^= 1 << (key.word(2) % 8),
                    2 => bad.iter_mut().skip(at(3)).take(8).for_each(|b| *b = 0xff),
                    _ => bad.splice(at(4)..at(4), [b'9'; 20]).for_each(drop),
                }
                fs::write(directory.join(name), &bad).unwrap();
                if name != MANIFEST {
                    let mut manifest = Manifest::default();
                    for (other, bytes) in files.iter().filter(|(other, _)| other != MANIFEST) {
                        manifest.add(other, if other == name { &bad } else { bytes });
                    }
                    fs::write(directory.join(MANIFEST), manifest.to_string()).unwrap();
                }
                // A flipped bit of a tensor's data is another number and no error.
                if let Err(error) = Checkpoint::load(&directory) {
                    assert_eq!(error.exit_code(), 65, "{name} {trial}: {error}");
                }
            }
            for (name, bytes) in &files {
                fs::write(directory.join(name), bytes).unwrap();
            }
            Checkpoint::load(&directory).unwrap();
        }
    }
}
