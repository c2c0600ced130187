//! Names of data sets and of their splits.
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A data set, by the name used in configuration files, on the command line and as a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DatasetName {
    /// Procedurally drawn digits, see [`strokes`](crate::strokes): no files, SYNTHETIC.
    Strokes,
    /// Handwritten digits (LeCun, Cortes and Burges).
    Mnist,
    /// Articles of clothing (Xiao, Rasul and Vollgraf 2017).
    FashionMnist,
    /// MNIST with the fixed binarisation of Larochelle and Murray (2011); no labels.
    BinarizedMnist,
    /// Characters of 50 alphabets at 28x28, a reconstruction of the files of Burda et al. (2016).
    Omniglot,
    /// Images of a user's own, see [`load_own`](crate::load_own).
    Own,
}

impl DatasetName {
    /// Every data set that is known by its name, in the order in which they are listed to a user.
    pub const ALL: [Self; 5] =
        [Self::Strokes, Self::Mnist, Self::FashionMnist, Self::BinarizedMnist, Self::Omniglot];

    /// The name as it is written in a configuration and on disk.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Strokes => "strokes",
            Self::Mnist => "mnist",
            Self::FashionMnist => "fashion-mnist",
            Self::BinarizedMnist => "binarized-mnist",
            Self::Omniglot => "omniglot",
            Self::Own => "own",
        }
    }

    /// Whether the set is made by a program: results on it are marked SYNTHETIC.
    #[must_use]
    pub const fn is_synthetic(self) -> bool {
        matches!(self, Self::Strokes)
    }
}

impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for DatasetName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|set| set.as_str() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            Error::Argument(format!("unknown data set {name:?}, choose one of: {known}"))
        })
    }
}

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// The rows that parameters are fitted to.
    Train,
    /// The rows that settings are chosen by.
    Valid,
    /// The rows that a result is reported on.
    Test,
}

impl Split {
    /// Every split.
    pub const ALL: [Self; 3] = [Self::Train, Self::Valid, Self::Test];

    /// The name as it is written in a configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Valid => "valid",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Split {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|split| split.as_str() == name).ok_or_else(|| {
            Error::Argument(format!("unknown split {name:?}, choose one of: train, valid, test"))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde::de::value::{Error as ValueError, StrDeserializer};
    use serde::de::{Deserialize, IntoDeserializer};

    use super::*;

    #[test]
    fn the_written_name_is_the_name_in_configurations() {
        for set in DatasetName::ALL {
            let config: StrDeserializer<'_, ValueError> = set.as_str().into_deserializer();
            assert_eq!(DatasetName::deserialize(config).unwrap(), set);
            assert_eq!(set.to_string().parse::<DatasetName>().unwrap(), set);
        }
        for split in Split::ALL {
            let config: StrDeserializer<'_, ValueError> = split.as_str().into_deserializer();
            assert_eq!(Split::deserialize(config).unwrap(), split);
            assert_eq!(split.to_string().parse::<Split>().unwrap(), split);
        }
    }

    #[test]
    fn an_unknown_name_is_a_usage_error_that_lists_the_known_ones() {
        let error = "mnits".parse::<DatasetName>().unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("\"mnits\"") && error.to_string().contains("mnist,"));
        assert!("training".parse::<Split>().is_err());
    }
}
