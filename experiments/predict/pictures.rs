//! What the model makes of upper halves.
use candle_core::Tensor;
use gumbel::Key;
use gumbel_datasets::Dataset;
use gumbel_experiments::{Judged, loaded};
use gumbel_models::StructuredPrediction;
use gumbel_training::{Result, png};

const COLUMNS: usize = 12;

/// Validation images in the first row, and below each five whose lower half is drawn by the model.
pub(crate) fn completions(
    judged: &Judged<'_, StructuredPrediction>,
    key: Key,
) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let set = &judged.data.valid;
    // Spread over the set, because some sets are sorted by class.
    let count = COLUMNS.min(set.len());
    let rows: Vec<u32> = (0..count).map(|i| (i * set.len() / count) as u32).collect();
    let x = loaded(set.gather(&rows, judged.device))?;
    let completed = judged.model.complete(&x, 5, key.named("completions"))?;
    let all = Tensor::cat(&[x, completed.flatten_to(1)?], 0)?.flatten_all()?.to_vec1()?;
    let images = set.images();
    let grid = png::grid(&all, images.height(), images.width(), count, 1)?;
    Ok(vec![("completions", grid)])
}
