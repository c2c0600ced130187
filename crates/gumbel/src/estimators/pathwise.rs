//! What estimators that differentiate through the draw have in common.
use candle_core::Result;
use gumbel_kernels::Key;

use super::{Objective, Program, Sampler, Surrogate, Trace};

/// One run of the program, differentiated as it stands.
pub(crate) fn surrogate(
    program: &Program<'_>,
    objective: &dyn Objective,
    sampler: &mut dyn Sampler,
    key: Key,
) -> Result<Surrogate> {
    let (log_px, sites) = Trace::run(program, sampler, key)?;
    let bound = objective.bound(&objective.log_weights(&log_px, &sites)?)?;
    let loss = bound.mean_all()?.neg()?;
    Ok(Surrogate { loss, bound: bound.detach(), log_px: log_px.detach(), sites })
}
