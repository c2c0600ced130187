//! Where a run computes.
use std::fmt;
use std::str::FromStr;

use candle_core::Device;

use crate::world::place;
use crate::{Error, Result};

/// Names of devices, for messages.
const NAMES: &str = "auto, cpu, cuda, cuda:N, metal";

/// The device that was asked for: `auto` or one by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceChoice {
    /// The fastest device that this build can use and this machine has.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// An NVIDIA GPU by its number; `cuda` is that of the process among those of its machine, 0 where it is alone.
    Cuda(usize),
    /// The GPU of an Apple computer.
    Metal,
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let number = name.strip_prefix("cuda:").map(str::parse);
        match (name, number) {
            ("auto", _) => Ok(Self::Auto),
            ("cpu", _) => Ok(Self::Cpu),
            ("cuda", _) => Ok(Self::Cuda(local_rank())),
            ("metal", _) => Ok(Self::Metal),
            (_, Some(Ok(number))) => Ok(Self::Cuda(number)),
            _ => Err(Error::Usage(format!("there is no device `{name}`; use one of {NAMES}"))),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Metal => f.write_str("metal"),
        }
    }
}

impl DeviceChoice {
    /// Number of the NVIDIA GPU that this may be.
    pub(crate) fn gpu(self) -> Option<usize> {
        match self {
            Self::Auto => Some(local_rank()),
            Self::Cuda(number) => Some(number),
            Self::Cpu | Self::Metal => None,
        }
    }

    /// Opens the device and says in one line of the log which it is and why.
    ///
    /// # Errors
    /// If a device was asked for by name, and this build cannot use it or this machine does not have it.
    pub fn open(self) -> Result<Device> {
        let (device, name, why) = match self {
            Self::Cpu => (Device::Cpu, "cpu".to_owned(), "asked for by --device".to_owned()),
            Self::Cuda(number) => {
                (cuda(number)?, self.to_string(), "asked for by --device".to_owned())
            }
            Self::Metal => (metal()?, self.to_string(), "asked for by --device".to_owned()),
            Self::Auto => fastest(),
        };
        tracing::info!("device: {name}, {why}");
        Ok(device)
    }
}

/// Number of the GPU of this process, where each of those on its machine has one of its own.
fn local_rank() -> usize {
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    place().ok().flatten().map_or(0, |place| place.gpu(visible.as_deref()))
}

/// A GPU if there is one, else the processor; its name, and why.
fn fastest() -> (Device, String, String) {
    let mut reasons = Vec::new();
    let number = local_rank();
    for (name, open) in [(format!("cuda:{number}"), cuda(number)), ("metal".to_owned(), metal())] {
        match open {
            Ok(device) => return (device, name, "the fastest that is there".to_owned()),
            Err(error) => reasons.push(error.to_string()),
        }
    }
    (Device::Cpu, "cpu".to_owned(), reasons.join("; "))
}

/// Without the backtrace that an error of candle carries where `RUST_BACKTRACE` is set.
#[cfg(any(feature = "cuda", feature = "metal"))]
fn does_not_open(name: &str, error: &candle_core::Error) -> Error {
    let text = error.to_string();
    let why = text.lines().next().unwrap_or_default();
    Error::Usage(format!("device {name} does not open: {why}"))
}

#[cfg(feature = "cuda")]
fn cuda(number: usize) -> Result<Device> {
    let device = gumbel_kernels::cuda_device(number);
    device.map_err(|error| does_not_open(&format!("cuda:{number}"), &error))
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: usize) -> Result<Device> {
    Err(Error::Usage("this build has no CUDA; build it with --features cuda".to_owned()))
}

#[cfg(feature = "metal")]
fn metal() -> Result<Device> {
    let device = Device::new_metal(0);
    device.map_err(|error| does_not_open("metal", &error))
}

#[cfg(not(feature = "metal"))]
fn metal() -> Result<Device> {
    Err(Error::Usage("this build has no Metal; build it with --features metal".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_does_not_exist_is_refused_with_those_that_do() {
        for wrong in ["gpu", "cuda:", "cuda:x", "cuda:-1", "CPU", ""] {
            let error = wrong.parse::<DeviceChoice>().unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(
                error.to_string().contains(&format!("`{wrong}`; use one of {NAMES}")),
                "{error}"
            );
        }
    }

    #[test]
    fn names_read_back() {
        use DeviceChoice::{Auto, Cpu, Cuda, Metal};
        for choice in [Auto, Cpu, Cuda(0), Cuda(12), Metal] {
            assert_eq!(choice.to_string().parse::<DeviceChoice>().unwrap(), choice);
        }
        assert_eq!("cuda".parse::<DeviceChoice>().unwrap(), Cuda(0));
        assert!(Cpu.open().unwrap().is_cpu());
        assert!(Auto.open().is_ok());
    }

    /// Whatever this build and this machine have, a device that cannot be used is an error that says what to do.
    #[test]
    fn what_cannot_be_opened_says_why() {
        let built = cfg!(feature = "cuda");
        match DeviceChoice::Cuda(97).open() {
            Err(error) if built => assert!(error.to_string().contains("cuda:97"), "{error}"),
            Err(error) => assert!(error.to_string().contains("--features cuda"), "{error}"),
            Ok(_) => panic!("GPU 97"),
        }
    }
}
