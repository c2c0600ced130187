//! The compiled kernels.
use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};
use candle_core::{Result, bail};

use super::SOURCE;

/// Compiled programs by architecture, of this process.
static PROGRAMS: LazyLock<Mutex<HashMap<(i32, i32), &'static str>>> = LazyLock::new(Mutex::default);

/// The kernels for a compute capability such as `(9, 0)`, as PTX: from this process, from the user's cache, or compiled.
pub(super) fn program((major, minor): (i32, i32)) -> Result<&'static str> {
    let mut programs = PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(program) = programs.get(&(major, minor)) {
        return Ok(program);
    }
    let architecture = format!("compute_{major}{minor}");
    let cached = cache().map(|directory| directory.join(name(&architecture)));
    let text = match cached.as_ref().and_then(|path| fs::read_to_string(path).ok()) {
        Some(text) if text.contains(".visible .entry") => text,
        _ => {
            let text = compile(&architecture)?;
            if let Some(path) = cached {
                keep(&path, &text);
            }
            text
        }
    };
    // Once per architecture and process; candle keeps the module as long.
    let text: &'static str = Box::leak(text.into_boxed_str());
    programs.insert((major, minor), text);
    Ok(text)
}

/// The kernels as PTX for an architecture such as `compute_90`.
pub(super) fn compile(architecture: &str) -> Result<String> {
    // `CompileOptions` has no plain way to say that fused multiply-adds are written out where they are meant.
    let options = CompileOptions {
        options: vec![
            format!("--gpu-architecture={architecture}"),
            "--fmad=false".to_owned(),
            "--std=c++17".to_owned(),
        ],
        ..CompileOptions::default()
    };
    // A library that is not there is a panic of cudarc.
    match std::panic::catch_unwind(|| compile_ptx_with_opts(SOURCE, options)) {
        Ok(Ok(ptx)) => Ok(ptx.to_src()),
        Ok(Err(error)) => bail!("the kernels do not compile for {architecture}: {error:?}"),
        Err(_) => bail!(
            "libnvrtc of CUDA is not on the loader's path; add its directory to LD_LIBRARY_PATH"
        ),
    }
}

/// The name of a compiled program in the cache, which another source or architecture does not have.
fn name(architecture: &str) -> String {
    // FNV-1a.
    let hash = SOURCE.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{architecture}-{hash:016x}.ptx")
}

fn cache() -> Option<PathBuf> {
    let set =
        |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    Some(base.join("gumbel").join("kernels"))
}

/// Writes a program beside its place and moves it there, so that no one reads half of it. What cannot be kept is compiled
/// again next time.
fn keep(path: &std::path::Path, text: &str) {
    let Some(directory) = path.parent() else { return };
    let beside = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = fs::create_dir_all(directory).and_then(|()| fs::write(&beside, text));
    if written.and_then(|()| fs::rename(&beside, path)).is_err() {
        let _ = fs::remove_file(&beside);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs libnvrtc, but no GPU.
    #[test]
    fn the_kernels_compile_for_the_architectures_of_data_centres() {
        for architecture in ["compute_80", "compute_90"] {
            match compile(architecture) {
                Ok(ptx) => {
                    for kernel in ["fill", "gumbel_softmax", "softmax_slopes", "adam"] {
                        assert!(ptx.contains(&format!(".entry {kernel}")), "{kernel}");
                    }
                }
                Err(error) if error.to_string().contains("loader's path") => return,
                Err(error) => panic!("{error}"),
            }
        }
    }
}
