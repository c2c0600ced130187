//! Where a run computes.
use std::fmt;
use std::str::FromStr;

use candle_core::Device;

use crate::{Error, Result};

/// Names of the devices that this build can use, for messages.
const SUPPORTED: &str = "auto, cpu";

/// The device that was asked for: `auto` or one by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The fastest device of this build.
    #[default]
    Auto,
    /// The processor.
    Cpu,
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            other => Err(Error::Usage(format!(
                "device `{other}` is not in this build, which supports: {SUPPORTED}"
            ))),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
        })
    }
}

impl DeviceChoice {
    /// Opens the device and says in one line of the log which it is and why.
    pub fn open(self) -> Result<Device> {
        let why = match self {
            Self::Auto => "the only device of this build",
            Self::Cpu => "asked for by --device",
        };
        tracing::info!("device: cpu, {why}");
        Ok(Device::Cpu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_not_built_in_is_refused_with_those_that_are() {
        let error = "cuda".parse::<DeviceChoice>().unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("`cuda`") && error.to_string().contains("auto, cpu"));
    }

    #[test]
    fn names_read_back() {
        for choice in [DeviceChoice::Auto, DeviceChoice::Cpu] {
            assert_eq!(choice.to_string().parse::<DeviceChoice>().unwrap(), choice);
            assert!(choice.open().unwrap().is_cpu());
        }
    }
}
