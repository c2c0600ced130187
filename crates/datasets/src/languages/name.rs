//! Languages by name.
use gumbel_kernels::Key;
use serde::{Deserialize, Serialize};

use super::{Grammar, Language, Mixture, Slots, Switching};
use crate::Result;

/// A language by the name that configurations have for it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LanguageName {
    /// [`Mixture`]: one latent value per sentence.
    #[default]
    Mixture,
    /// [`Switching`]: one latent value per segment, a Markov chain.
    Switching,
    /// [`Slots`]: six latent attributes and a template.
    Slots,
    /// [`Grammar`]: a tree.
    Grammar,
}

impl LanguageName {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Mixture, Self::Switching, Self::Slots, Self::Grammar];

    /// The name as it is written in a configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mixture => "mixture",
            Self::Switching => "switching",
            Self::Slots => "slots",
            Self::Grammar => "grammar",
        }
    }

    /// The language in its standard size. There is one of each name: its tables do not depend on the seed of a run.
    ///
    /// # Errors
    /// None, but that the sizes are checked as those of any other are.
    pub fn build(self) -> Result<Box<dyn Language>> {
        let key = Key::from_seed(0).named(self.as_str());
        Ok(match self {
            Self::Mixture => Box::new(Mixture::new(8, 32, 64, 1., key)?),
            Self::Switching => Box::new(Switching::new(8, 16, (8, 8), key)?),
            Self::Slots => Box::new(Slots::new(key)),
            Self::Grammar => Box::new(Grammar::new(key)?),
        })
    }
}
