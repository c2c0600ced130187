//! What the model draws.
use candle_core::{Device, Tensor};
use gumbel::Key;
use gumbel_datasets::Dataset;
use gumbel_experiments::{Data, Judged, loaded};
use gumbel_models::CategoricalVae;
use gumbel_training::{Result, png};

const COLUMNS: usize = 12;
/// Latents that are traversed, at most.
const ROWS: usize = 12;

/// Draws of the model, reconstructions, and what each latent does.
pub(crate) fn all(
    judged: &Judged<'_, CategoricalVae>,
    key: Key,
) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let Judged { model, data, device, .. } = judged;
    let reconstructions = reconstructions(model, data, device, key)?;
    let traversals = traversals(model, data, device, key)?;
    let prior = prior(model, data, key)?;
    Ok(vec![("prior", prior), ("reconstructions", reconstructions), ("traversals", traversals)])
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
    // Whole rows only; a small set may not even fill one of the usual length.
    let columns = COLUMNS.min(count);
    let mut pairs = Vec::new();
    for start in (0..count / columns * columns).step_by(columns) {
        pairs.push(x.narrow(0, start, columns)?);
        pairs.push(reconstructed.narrow(0, start, columns)?);
    }
    grid_of(&Tensor::cat(&pairs, 0)?, data, columns)
}

/// The codes of the first validation image with one latent changed: a row a latent, a column each of its values.
fn traversals(model: &CategoricalVae, data: &Data, device: &Device, key: Key) -> Result<Vec<u8>> {
    let x = loaded(data.valid.gather(&[0], device))?;
    let z = model.posterior(&x)?.sample(1, key.named("reconstructions"))?;
    let (latents, values) = match z.dims() {
        [.., latents, categories] if z.rank() == 4 => (*latents, Some(*categories)),
        [.., latents] => (*latents, None),
        _ => (0, None),
    };
    let columns = values.unwrap_or(2).min(COLUMNS);
    let mut codes = Vec::new();
    for latent in 0..latents.min(ROWS) {
        for value in 0..columns {
            let one = match values {
                Some(categories) => {
                    let one_hot: Vec<f32> =
                        (0..categories).map(|k| f32::from(k == value)).collect();
                    Tensor::from_vec(one_hot, (1, 1, 1, categories), device)?
                }
                None => Tensor::full(value as f32, (1, 1, 1), device)?,
            };
            let rest = latents - latent - 1;
            let parts = [z.narrow(2, 0, latent)?, one, z.narrow(2, latent + 1, rest)?];
            let whole: Vec<&Tensor> = parts.iter().filter(|part| part.elem_count() > 0).collect();
            codes.push(Tensor::cat(&whole, 2)?);
        }
    }
    let pixels = model.decode_probs(&Tensor::cat(&codes, 0)?, key.named("traversal pixels"))?;
    grid_of(&pixels, data, columns)
}

fn grid(images: &Tensor, data: &Data) -> Result<Vec<u8>> {
    grid_of(images, data, COLUMNS)
}

fn grid_of(images: &Tensor, data: &Data, columns: usize) -> Result<Vec<u8>> {
    let set = data.train.images();
    png::grid(&images.flatten_all()?.to_vec1()?, set.height(), set.width(), columns, 1)
}
