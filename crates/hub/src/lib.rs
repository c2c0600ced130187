//! Files of repositories on a model hub (`huggingface.co`, or what `HF_ENDPOINT` says), checked before they are believed.
//!
//! What a server sends is not trusted: only status 200, and what continues it, is a file; its length must be the one that was announced, its SHA-256 the
//! one that the hub knows of large files, and it may not be larger than what can be meant. What came before a connection broke is
//! kept and the rest asked for, if it is still the same file. Names that a server sends never become paths. The token goes to the
//! endpoint and to no other host. `HF_HUB_OFFLINE` forbids all of it, and waits have an end.
//!
//! Variables: `HF_ENDPOINT`; `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HOME`; `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, `XDG_CACHE_HOME`;
//! `HF_HUB_OFFLINE`, `GUMBEL_OFFLINE`; proxies as usual.
mod environment;
mod get;
mod hub;
#[cfg(any(test, feature = "mock"))]
pub mod mock;
#[doc(hidden)] // for `gumbel-datasets`; speaks ureq
pub mod network;
#[cfg(feature = "push")]
mod push;
mod repository;

pub use environment::offline;
pub use hub::{Hub, Progress};
#[cfg(feature = "push")]
pub use push::Visibility;
pub use repository::{Kind, Repository};

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was asked for cannot be meant.
    #[error("{0}")]
    Usage(String),
    /// It is forbidden, cannot be reached, or is not there.
    #[error("{0}")]
    Unavailable(String),
    /// What was sent is not what it should be.
    #[error("{0}")]
    Corrupt(String),
    /// The operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The refusal.
        source: std::io::Error,
    },
}

impl Error {
    /// The exit code of a program that ends with this error, after BSD `sysexits.h`: 2 usage, 65 bad data, 69 not available, 74
    /// input/output.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Corrupt(_) => 65,
            Self::Unavailable(_) => 69,
            Self::Io { .. } => 74,
        }
    }

    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
