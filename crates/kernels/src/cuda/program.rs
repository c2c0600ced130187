//! The compiled kernels.
#![expect(unsafe_code, reason = "the version of a library of C")]
use std::collections::HashMap;
use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts, sys};
use candle_core::{Result, bail};

use super::SOURCE;

/// Fused multiply-adds are written out where they are meant.
const OPTIONS: [&str; 2] = ["--fmad=false", "--std=c++17"];

const NO_COMPILER: &str =
    "libnvrtc of CUDA is not on the loader's path; add its directory to LD_LIBRARY_PATH";

/// Compiled programs by architecture, of this process.
static PROGRAMS: LazyLock<Mutex<HashMap<(i32, i32), &'static str>>> = LazyLock::new(Mutex::default);

/// The kernels for a compute capability such as `(9, 0)`, as PTX: from this process, from the user's cache, or compiled.
pub(super) fn program((major, minor): (i32, i32)) -> Result<&'static str> {
    let mut programs = PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(program) = programs.get(&(major, minor)) {
        return Ok(program);
    }
    let architecture = format!("compute_{major}{minor}");
    let name = name(&architecture)?;
    let cached = cache().map(|directory| directory.join(name));
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
    let architecture_option = format!("--gpu-architecture={architecture}");
    let options = OPTIONS.into_iter().map(str::to_owned).chain([architecture_option]).collect();
    let options = CompileOptions { options, ..CompileOptions::default() };
    // A library that is not there is a panic of cudarc.
    match quietly(|| compile_ptx_with_opts(SOURCE, options)) {
        Ok(Ok(ptx)) => Ok(ptx.to_src()),
        Ok(Err(error)) => bail!("the kernels do not compile for {architecture}: {error:?}"),
        Err(_) => bail!("{NO_COMPILER}"),
    }
}

/// `f`, or none where it panics, which is not printed.
pub(super) fn quietly<T>(f: impl FnOnce() -> T) -> std::result::Result<T, String> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let value = std::panic::catch_unwind(AssertUnwindSafe(f));
    std::panic::set_hook(hook);
    value.map_err(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_default())
}

/// The version of NVRTC: a newer one writes programs that an older driver does not take.
fn version() -> Result<(i32, i32)> {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both are written before the call returns.
    let result = quietly(|| unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) });
    match result {
        Ok(sys::nvrtcResult::NVRTC_SUCCESS) => Ok((major, minor)),
        _ => bail!("{NO_COMPILER}"),
    }
}

/// The name of a compiled program in the cache, which another source, option, compiler or architecture does not have.
fn name(architecture: &str) -> Result<String> {
    let (major, minor) = version()?;
    // FNV-1a.
    let bytes = OPTIONS.into_iter().chain([SOURCE]).flat_map(str::bytes);
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Ok(format!("{architecture}-nvrtc-{major}.{minor}-{hash:016x}.ptx"))
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
