//! A trained model as a folder of its own, and back.
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use candle_core::Tensor;

use crate::checkpoint::{Checkpoint, decode, encode};
use crate::files::{read_limited, sync_directory, write_atomic};
use crate::run::CONFIG;
use crate::{Error, Result, config};

/// The parameters, as other programs expect them to be named.
const MODEL: &str = "model.safetensors";
/// Copied as they are, where a run has them.
const COPIED: [&str; 3] = ["citations.bib", SUMMARY, "tokenizer.json"];
/// What came out, and after how many steps.
const SUMMARY: &str = "summary.json";
/// Of a file of parameters, in bytes.
const LARGEST: u64 = 1 << 40;

/// Writes the newest checkpoint of a run as a folder, which must not exist yet: `model.safetensors`, the configuration as
/// `config.toml` and `config.json`, `README.md` with what `card` says, `tokenizer.json` where there is one, and whom to cite.
///
/// `card` is told how many steps the parameters had, which may be fewer than the run had; a summary of other steps stays behind.
/// The folder is there whole or not at all. `--config FOLDER/config.toml --init FOLDER` starts a run from it.
///
/// # Errors
/// If the run has no checkpoint, the folder exists, or a file cannot be read or written.
pub fn export(run: &Path, folder: &Path, card: impl FnOnce(u64) -> String) -> Result<()> {
    let text = config::read(&run.join(CONFIG))?;
    let Some(checkpoint) = Checkpoint::newest(&run.join("checkpoints"))? else {
        let run = run.display();
        return Err(Error::Usage(format!("{run} has no checkpoint; let it go on with --resume")));
    };
    if folder.exists() {
        return Err(Error::Usage(format!("{} is there already; choose another", folder.display())));
    }
    let values: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| Error::corrupt(&run.join(CONFIG), error.message()))?;
    let steps = checkpoint.state.step;
    let json = serde_json::to_vec_pretty(&values).map_err(|error| Error::caller(70, error))?;
    let mut name = folder.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".tmp-{}", std::process::id()));
    let temporary = folder.with_file_name(name);
    fs::create_dir_all(&temporary).map_err(Error::io("create", &temporary))?;
    let fill = || -> Result<()> {
        write_atomic(&temporary.join(MODEL), &encode(&checkpoint.model)?)?;
        write_atomic(&temporary.join(CONFIG), text.as_bytes())?;
        write_atomic(&temporary.join("config.json"), &json)?;
        write_atomic(&temporary.join("README.md"), card(steps).as_bytes())?;
        for name in COPIED {
            let path = run.join(name);
            if path.exists() && (name != SUMMARY || steps_of(&path) == Some(steps)) {
                fs::copy(&path, temporary.join(name)).map_err(Error::io("copy", &path))?;
            }
        }
        sync_directory(&temporary)?;
        fs::rename(&temporary, folder).map_err(Error::io("write", folder))
    };
    let written = fill();
    if written.is_err() {
        let _ = fs::remove_dir_all(&temporary);
    }
    written
}

/// The steps after which a summary was written.
fn steps_of(summary: &Path) -> Option<u64> {
    let bytes = read_limited(summary, 1 << 24).ok()?;
    let summary: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    summary["steps"].as_u64()
}

/// The parameters of a folder that [`export`] wrote, or of any folder with a `model.safetensors`; on the CPU.
///
/// # Errors
/// If there is no such file, or it does not hold what it should.
pub fn import(folder: &Path) -> Result<BTreeMap<String, Tensor>> {
    check(folder)?;
    let path = folder.join(MODEL);
    let bytes = read_limited(&path, LARGEST)?;
    decode(&bytes).map_err(|reason| Error::corrupt(&path, reason))
}

/// An error where there is nothing to import.
pub(crate) fn check(folder: &Path) -> Result<()> {
    if folder.join(MODEL).is_file() {
        return Ok(());
    }
    let folder = folder.display();
    Err(Error::Usage(format!("{folder} is no exported model: no {MODEL} in it")))
}
