//! Objectives by the name they have in a configuration.
use serde::{Deserialize, Serialize};

use super::{Elbo, GuardedElbo, Iwae};
use crate::Schedule;
use crate::estimators::{Divergence, Objective};

/// An objective whose weights depend on the step: what a configuration file says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "bound", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum ObjectiveConfig {
    /// [`Elbo`].
    Elbo {
        /// Form of the divergence.
        #[serde(default)]
        divergence: Divergence,
        /// Weight of the divergence.
        #[serde(default = "unit")]
        beta: Schedule,
    },
    /// [`GuardedElbo`].
    GuardedElbo {
        /// Weight of the divergence.
        #[serde(default = "unit")]
        beta: Schedule,
        /// Nats of divergence of a variable that cost what they cost even if they are not used.
        #[serde(default = "none")]
        free_nats: Schedule,
        /// Share of the divergence that is taken of the average over the batch, from the uniform law.
        #[serde(default = "none")]
        batch_prior: Schedule,
    },
    /// [`Iwae`].
    Iwae {},
}

fn none() -> Schedule {
    Schedule::constant(0.)
}

fn unit() -> Schedule {
    Schedule::constant(1.)
}

impl ObjectiveConfig {
    /// What is wrong with the weights, if anything: key, value, what to do.
    ///
    /// # Errors
    /// If a schedule runs through numbers that are negative or not finite, or a share through one above 1.
    pub fn check(&self) -> std::result::Result<(), String> {
        match *self {
            Self::Elbo { beta, .. } => beta.check("beta", f64::MAX),
            Self::GuardedElbo { beta, free_nats, batch_prior } => {
                beta.check("beta", f64::MAX)?;
                free_nats.check("free_nats", f64::MAX)?;
                batch_prior.check("batch_prior", 1.)
            }
            Self::Iwae {} => Ok(()),
        }
    }

    /// The objective at a training step.
    #[must_use]
    pub fn at(&self, step: u64) -> Box<dyn Objective> {
        match *self {
            Self::Elbo { divergence, beta } => Box::new(Elbo { divergence, beta: beta.at(step) }),
            Self::GuardedElbo { beta, free_nats, batch_prior } => Box::new(GuardedElbo {
                beta: beta.at(step),
                free_nats: free_nats.at(step),
                batch_prior: batch_prior.at(step),
            }),
            Self::Iwae {} => Box::new(Iwae),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_bound_is_the_default() {
        let plain: ObjectiveConfig = toml::from_str("bound = \"elbo\"").unwrap();
        assert_eq!(plain, ObjectiveConfig::Elbo { divergence: Divergence::Analytic, beta: unit() });
        assert!(toml::from_str::<ObjectiveConfig>("bound = \"iwae\"\nbeta = 1.0").is_err());
        let guarded = |key: &str| -> ObjectiveConfig {
            toml::from_str(&format!("bound = \"guarded-elbo\"\n{key}")).unwrap()
        };
        assert!(guarded("batch_prior = 0.5").check().is_ok());
        for (wrong, key) in [
            ("batch_prior = 1.5", "batch_prior"),
            ("beta = -1", "beta"),
            ("free_nats = nan", "free_nats"),
        ] {
            assert!(guarded(wrong).check().unwrap_err().contains(key));
        }
    }
}
