//! How a run estimates gradients.
use gumbel::Key;
use gumbel::estimators::{Method, ScheduledEstimator};
use gumbel_models::LatentVariableModel;
use gumbel_training::{Params, Result, Run};

/// The estimators of a run, and what to cite for them in its directory; their learned parts are made for the latents that
/// `model` draws on a batch.
pub fn build_estimators<M: LatentVariableModel>(
    method: &Method,
    (model, batch): (&M, &M::Batch),
    params: &Params,
    key: Key,
    run: &Run,
) -> Result<ScheduledEstimator> {
    let estimators = method.build(
        &|trace| model.log_likelihood(batch, trace),
        &mut params.clone(),
        key.named("estimator"),
    )?;
    run.write_file("citations.bib", estimators.at(0).bibtex().as_bytes())?;
    Ok(estimators)
}
