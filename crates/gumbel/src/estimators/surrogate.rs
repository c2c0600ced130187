//! What an estimator returns.
use candle_core::{Result, Tensor, Var};

use super::SiteDraw;

/// A loss to differentiate, and the values to report.
#[derive(Debug)]
pub struct Surrogate {
    /// Scalar to differentiate. Its *value* has no meaning for score-function estimators.
    pub loss: Tensor,
    /// The objective for each example as it was drawn, `[B]` in nats, detached. Under a relaxed draw it is
    /// not a bound of the discrete model.
    pub bound: Tensor,
    /// `log p(x | z)`, `[S, B]` in nats, detached.
    pub log_px: Tensor,
    /// The sites of the (main) run.
    pub sites: Vec<SiteDraw>,
    /// Running statistics of the estimator, and what they become after this step.
    statistics: Vec<(Var, Tensor)>,
}

impl Surrogate {
    /// The surrogate whose loss is minus the mean of `gain: [B]` over the batch, with the values of `bound:
    /// [B]` and `log_px: [S, B]` to report.
    pub fn new(
        gain: &Tensor,
        bound: &Tensor,
        log_px: &Tensor,
        sites: Vec<SiteDraw>,
    ) -> Result<Self> {
        let loss = gain.mean_all()?.neg()?;
        let (bound, log_px) = (bound.detach(), log_px.detach());
        Ok(Self { loss, bound, log_px, sites, statistics: vec![] })
    }

    /// The same with running statistics that become new values after this step.
    #[must_use]
    pub(crate) fn with_statistics(self, statistics: Vec<(Var, Tensor)>) -> Self {
        Self { statistics, ..self }
    }

    /// The same with a term of the loss that moves the learned parts of the estimator, and nothing else.
    pub(crate) fn with_auxiliary(self, auxiliary: &Tensor) -> Result<Self> {
        Ok(Self { loss: (&self.loss + auxiliary)?, ..self })
    }

    /// Moves the running statistics of the estimator, such as the average that is its baseline, by one step.
    ///
    /// For a training loop to call once a step; an estimator that has none does nothing. Estimates that no
    /// step is made with, such as those that measure the variance, leave them as they were.
    pub fn update_statistics(&self) -> Result<()> {
        self.statistics.iter().try_for_each(|(var, value)| var.set(value))
    }
}
