//! What the model draws.
use candle_core::{Device, Tensor};
use gumbel::Key;
use gumbel_datasets::Dataset;
use gumbel_experiments::{Data, Judged, loaded};
use gumbel_models::CategoricalVae;
use gumbel_training::{Result, png};

const COLUMNS: usize = 12;

/// Draws of the model, and reconstructions.
pub(crate) fn all(
    judged: &Judged<'_, CategoricalVae>,
    key: Key,
) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let Judged { model, data, device, .. } = judged;
    let reconstructions = reconstructions(model, data, device, key)?;
    Ok(vec![("prior", prior(model, data, key)?), ("reconstructions", reconstructions)])
}

/// Pixel probabilities of 96 codes drawn from the prior.
fn prior(model: &CategoricalVae, data: &Data, key: Key) -> Result<Vec<u8>> {
    let z = model.sample_prior(COLUMNS * 8, key.named("prior"))?;
    grid(&model.decode_probs(&z, key.named("prior pixels"))?, data)
}

/// Validation images over their reconstructions from one discrete sample of the posterior each.
fn reconstructions(
    model: &CategoricalVae,
    data: &Data,
    device: &Device,
    key: Key,
) -> Result<Vec<u8>> {
    // Spread over the set, because some sets are sorted by class.
    let count = (COLUMNS * 4).min(data.valid.len());
    let rows: Vec<u32> = (0..count).map(|i| (i * data.valid.len() / count) as u32).collect();
    let x = loaded(data.valid.gather(&rows, device))?;
    let z = model.posterior(&x)?.sample(1, key.named("reconstructions"))?;
    let reconstructed = model.decode_probs(&z, key.named("reconstruction pixels"))?.squeeze(0)?;
    let mut pairs = Vec::new();
    for start in (0..count).step_by(COLUMNS) {
        let width = COLUMNS.min(count - start);
        if width == COLUMNS {
            pairs.push(x.narrow(0, start, width)?);
            pairs.push(reconstructed.narrow(0, start, width)?);
        }
    }
    grid(&Tensor::cat(&pairs, 0)?, data)
}

fn grid(images: &Tensor, data: &Data) -> Result<Vec<u8>> {
    let set = data.train.images();
    png::grid(&images.flatten_all()?.to_vec1()?, set.height(), set.width(), COLUMNS, 1)
}
