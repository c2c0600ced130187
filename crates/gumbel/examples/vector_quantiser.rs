//! A vector quantiser as in wav2vec 2.0: groups of codes, chosen by Gumbel-Softmax, looked up in a codebook.
//!
//! `cargo run --release --example vector_quantiser`
use candle_core::{DType, Device, Result, Tensor, Var};
use gumbel::kernels::{categorical_entropy, log_softmax};
use gumbel::{Key, SampleMode, Schedule, codebook_lookup, sample_categorical};

/// Groups, codes of each group, numbers of each code.
const G: usize = 2;
const V: usize = 8;
const D: usize = 4;

/// Inputs `[B, G · D]`: in each group one of six centres, and a little noise.
fn batch(centres: &Tensor, size: usize, key: Key) -> Result<Tensor> {
    let noise = key.named("noise").normal((size, G * D), DType::F32, &Device::Cpu)?;
    let which: Vec<u32> = (0..(size * G) as u64).map(|i| key.word(i) % 6).collect();
    let which = Tensor::from_vec(which, size * G, &Device::Cpu)?;
    centres.index_select(&which, 0)?.reshape((size, G * D))? + (noise * 0.1)?
}

struct Quantiser {
    /// `[G · D, G · V]`: from inputs to logits.
    encoder: Var,
    /// `[G, V, D]`.
    codebook: Var,
}

impl Quantiser {
    /// The quantised inputs `[B, G · D]`, the codes `[B, G, V]`, and their logits.
    fn forward(&self, x: &Tensor, tau: f64, mode: SampleMode, key: Key) -> Result<[Tensor; 3]> {
        let logits = x.matmul(&self.encoder)?.reshape(((), G, V))?;
        let codes = sample_categorical(&logits, tau, mode, 2, key)?;
        let quantised = codebook_lookup(&codes, &self.codebook)?.flatten_from(1)?;
        Ok([quantised, codes, logits])
    }
}

/// Trains, and returns the mean squared error of fresh inputs, without noise, and the perplexity of the codes of
/// each group: how many are in use.
fn train(key: Key) -> Result<(f32, Vec<f32>)> {
    let normal = |name, shape: &[usize]| key.named(name).normal(shape, DType::F32, &Device::Cpu);
    let model = Quantiser {
        encoder: Var::from_tensor(&(normal("encoder", &[G * D, G * V])? * 0.1)?)?,
        codebook: Var::from_tensor(&normal("codebook", &[G, V, D])?)?,
    };
    let centres = (normal("centres", &[6, D])? * 2.)?;
    let tau = Schedule::Exponential { start: 2., floor: 0.5, rate: 3e-3, every: 1 };
    for step in 0..800 {
        let key = key.named("step").fold_in(step);
        let x = batch(&centres, 128, key.named("batch"))?;
        let [quantised, _, logits] =
            model.forward(&x, tau.at(step), SampleMode::Hard, key.named("codes"))?;
        let error = (quantised - &x)?.sqr()?.mean_all()?;
        // Diversity: the entropy of the mean probabilities, largest where all codes are used alike.
        let usage = log_softmax(&logits)?.exp()?.mean(0)?;
        let diversity = categorical_entropy(&usage.log()?)?.mean(0)?;
        let grads = (error - (diversity * 0.1)?)?.backward()?;
        for (var, rate) in [(&model.encoder, 0.5), (&model.codebook, 2.)] {
            if let Some(gradient) = grads.get(var) {
                var.set(&(var.as_detached_tensor() - (gradient * rate)?)?)?;
            }
        }
    }
    let x = batch(&centres, 1000, key.named("test"))?;
    let [quantised, codes, _] = model.forward(&x, 1., SampleMode::Mode, key)?;
    let error = (quantised - &x)?.sqr()?.mean_all()?.to_scalar()?;
    // A code that is never used has the logarithm -∞: a masked category.
    let perplexity = categorical_entropy(&codes.mean(0)?.log()?)?.exp()?;
    Ok((error, perplexity.to_vec1()?))
}

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<()> {
    let (error, perplexity) = train(Key::from_seed(1))?;
    println!("mean squared error {error:.3}, perplexity of the codes {perplexity:.2?} of {V}");
    Ok(())
}

#[test]
fn codes_stand_for_the_centres() -> Result<()> {
    let (error, perplexity) = train(Key::from_seed(1))?;
    // Inputs have a variance of about 4, of which 0.01 is noise.
    assert!(error < 0.5, "{error}");
    assert!(perplexity.iter().all(|codes| *codes > 4.), "{perplexity:?}");
    Ok(())
}
