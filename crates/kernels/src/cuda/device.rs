//! A GPU that may not be there.
#![expect(unsafe_code, reason = "libraries are loaded, and the driver's settings are C")]
use std::path::PathBuf;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{result, sys};
use candle_core::{DType, Device, Result, bail};
use libloading::Library;

use super::program::quietly;
use crate::Key;

/// The driver's library: where it is missing there is no GPU that could be used.
const DRIVER: [&str; 2] = ["libcuda.so.1", "nvcuda.dll"];
/// What candle and the kernels load beside it, in an order in which each finds those before it.
const LIBRARIES: [&str; 5] = [
    "libcudart.so.13",
    "libnvrtc.so.13",
    "libcublasLt.so.13",
    "libcublas.so.13",
    "libcurand.so.10",
];

/// Opens NVIDIA GPU number `ordinal`, ready for training on one stream.
///
/// Libraries of CUDA are found where the loader looks, or in `$CUDA_HOME/lib64`, `/usr/local/cuda/lib64` and the packages of
/// the Python environment that is active. Memory that is freed stays with the process, everything runs on one stream, and no
/// events are created for each tensor.
///
/// # Errors
/// If there is no driver, no such GPU, a library of CUDA is missing (where they are loaded at run time: docs/gpu.md), or a
/// first kernel fails; never a panic.
pub fn cuda_device(ordinal: usize) -> Result<Device> {
    if !DRIVER.iter().any(|name| load(name.as_ref())) {
        bail!("no NVIDIA driver: {} was not found", DRIVER[0])
    }
    for name in LIBRARIES {
        if !load(name.as_ref()) {
            // What is found by its path here is found by its name later.
            let _ = directories().iter().any(|directory| load(&directory.join(name)));
        }
    }
    // A library or a function that is missing is a panic of cudarc.
    match quietly(|| open(ordinal)) {
        Ok(device) => device,
        Err(panic) => bail!(
            "CUDA did not start: {}; add the directory of CUDA's libraries to LD_LIBRARY_PATH",
            panic.lines().next().unwrap_or("a library is missing")
        ),
    }
}

/// A device that has computed something with a kernel of candle and one of ours.
fn open(ordinal: usize) -> Result<Device> {
    let device = Device::new_cuda_with_stream(ordinal)?;
    let Device::Cuda(cuda) = &device else { bail!("expected a CUDA device") };
    // SAFETY: all tensors of the device are made, used and freed on its one stream, in order.
    unsafe { cuda.disable_event_tracking() };
    // A GPU without memory pools has nothing to keep.
    let _ = keep_freed_memory(ordinal as i32);
    let noise = Key::from_seed(0).gumbel(4, DType::F32, &device)?;
    let sum = (noise * 2.)?.to_vec1::<f32>()?;
    if !sum.iter().all(|x| x.is_finite()) {
        bail!("GPU {ordinal} computes no numbers")
    }
    Ok(device)
}

/// Loads a library for the rest of the process; false if it is not there.
fn load(path: &std::path::Path) -> bool {
    // SAFETY: libraries of the driver and of CUDA, which do nothing that could break Rust's rules when they are loaded.
    match unsafe { Library::new(path) } {
        Ok(library) => {
            std::mem::forget(library);
            true
        }
        Err(_) => false,
    }
}

/// Where CUDA's libraries are, if the loader does not look there.
fn directories() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let toolkit = ["CUDA_HOME", "CUDA_PATH"].iter().filter_map(|name| variable(name));
    let mut directories: Vec<PathBuf> = toolkit
        .chain([PathBuf::from("/usr/local/cuda")])
        .flat_map(|root| [root.join("lib64"), root.join("lib")])
        .collect();
    let environment = ["VIRTUAL_ENV", "CONDA_PREFIX"].iter().filter_map(|name| variable(name));
    for python in environment.filter_map(|root| std::fs::read_dir(root.join("lib")).ok()) {
        let packages = python.flatten().map(|entry| entry.path().join("site-packages"));
        directories.extend(packages.map(|packages| packages.join("nvidia/cu13/lib")));
    }
    directories
}

/// Else every synchronisation would return freed memory to the system, and the next step would ask for it again.
fn keep_freed_memory(ordinal: i32) -> Result<()> {
    let mut all = u64::MAX;
    // SAFETY: the driver runs, for a device is open; the attribute is a number of 64 bits, which is read before the call
    // returns.
    unsafe {
        let device = result::device::get(ordinal).w()?;
        let pool = result::device::get_default_mem_pool(device).w()?;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        let value = std::ptr::from_mut(&mut all).cast();
        sys::cuMemPoolSetAttribute(pool, attribute, value).result().w()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a machine without a GPU the error says what is missing; on one with a GPU it opens.
    #[test]
    fn a_missing_driver_is_an_error_and_not_a_panic() {
        match cuda_device(0) {
            Ok(device) => assert!(device.is_cuda()),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}
