//! Data that need no file: drawn digits whose batches are functions of the step, and a language whose likelihood is known.
//!
//! `cargo run -p gumbel-datasets --example batches`
use std::sync::Arc;

use candle_core::{Device, Tensor};
use gumbel_datasets::languages::{Language, Mixture};
use gumbel_datasets::{Binarisation, ImageSet, Result, Split, strokes};
use gumbel_kernels::Key;

const BATCH: usize = 32;

fn digits() -> Result<ImageSet> {
    let images = strokes::draw(strokes::SEED, Split::Train, 500)?;
    ImageSet::new(Arc::new(images), Binarisation::Dynamic)
}

/// Training batch `step`, `[32, 784]`, and its digits.
fn batch(set: &ImageSet, step: u64) -> Result<(Tensor, Vec<u8>)> {
    let key = Key::from_seed(1).named("data");
    let labels = set.labels(&set.batch_rows(step, BATCH, key)?)?;
    Ok((set.batch(step, BATCH, key, &Device::Cpu)?, labels))
}

/// An image as text, two rows to a line.
fn picture(pixels: &[f32]) -> String {
    let row = |row: &[f32]| row.iter().map(|x| if *x > 0.5 { '#' } else { '.' }).collect();
    let rows: Vec<String> = pixels.chunks(strokes::SIDE).step_by(2).map(row).collect();
    rows.join("\n")
}

/// The entropy of a language in nats for each sentence, by its own likelihood of sentences that it wrote.
fn entropy(language: &dyn Language, sentences: u64, key: Key) -> f64 {
    let log_prob = |i| language.log_prob(&language.sentence(key.fold_in(i)).symbols);
    -(0..sentences).map(log_prob).sum::<f64>() / sentences as f64
}

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<()> {
    let (pixels, labels) = batch(&digits()?, 41)?;
    let first = pixels.get(0)?.to_vec1::<f32>()?;
    println!("the first of batch 41, a {}:\n{}", labels[0], picture(&first));
    let language = Mixture::new(8, 32, 64, 1., Key::from_seed(2))?;
    let sentence = language.sentence(Key::from_seed(3));
    let words: Vec<String> = sentence.symbols.iter().map(|symbol| language.word(*symbol)).collect();
    println!("a sentence of chain {}: {} …", sentence.latents[0], words[..12].join(" "));
    let nats = entropy(&language, 2000, Key::from_seed(4));
    let blind = 64. * 32f64.ln();
    println!("entropy {nats:.1} nats a sentence; who knows nothing needs {blind:.1}");
    Ok(())
}

#[test]
fn a_batch_is_a_function_of_its_step() -> Result<()> {
    let values =
        |set: &ImageSet, step| -> Result<Vec<Vec<f32>>> { Ok(batch(set, step)?.0.to_vec2()?) };
    let (set, resumed) = (digits()?, digits()?);
    let (before, here) = (values(&set, 40)?, values(&set, 41)?);
    assert!(here == values(&resumed, 41)? && here != before);
    // 500 batches of 32 are 32 epochs, and each has each of the 500 digits once.
    let key = Key::from_seed(1).named("data");
    let mut counts = [0; 500];
    for step in 0..500 {
        set.batch_rows(step, BATCH, key)?.iter().for_each(|row| counts[*row as usize] += 1);
    }
    assert_eq!(counts, [32; 500]);
    Ok(())
}

#[test]
fn a_language_is_a_distribution_and_no_other_likelihood_is_better_on_it() -> Result<()> {
    let language = |seed| Mixture::new(2, 3, 4, 1., Key::from_seed(seed));
    let (own, other) = (language(1)?, language(2)?);
    let all = (0..81u32).map(|i| [i / 27, i / 9 % 3, i / 3 % 3, i % 3]);
    let total: f64 = all.map(|symbols| own.log_prob(&symbols).exp()).sum();
    assert!((total - 1.).abs() < 1e-12, "{total}");
    let key = Key::from_seed(4);
    let cross = |i| -other.log_prob(&own.sentence(key.fold_in(i)).symbols);
    let cross = (0..2000).map(cross).sum::<f64>() / 2000.;
    let entropy = entropy(&own, 2000, key);
    assert!(entropy < cross && entropy < 4. * 3f64.ln(), "{entropy} {cross}");
    Ok(())
}
