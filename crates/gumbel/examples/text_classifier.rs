//! Text through a frozen classifier: a writer of words learns what the classifier likes, by gradients that run through the
//! letters.
//!
//! `cargo run --release --example text_classifier`
use candle_core::{DType, Device, Result, Tensor, Var};
use gumbel::Key;
use gumbel::distributions::Categorical;
use gumbel::estimators::{Divergence, Estimator, Independent, StraightThroughGumbelSoftmax, Trace};
use gumbel::kernels::softplus;
use gumbel::objectives::Elbo;

const ALPHABET: [char; 8] = ['a', 'e', 'i', 'o', 'k', 'l', 'n', 't'];
const LENGTH: usize = 6;
const V: usize = ALPHABET.len();

fn step(loss: &Tensor, var: &Var, rate: f64) -> Result<()> {
    match loss.backward()?.get(var) {
        Some(gradient) => var.set(&(var.as_detached_tensor() - (gradient * rate)?)?),
        None => Ok(()),
    }
}

/// Logits `[V, V]` of "this letter can be spoken after that one", learned from pairs of a vowel and a consonant, and then
/// frozen.
fn classifier() -> Result<Tensor> {
    let spoken = |a: usize, b: usize| f32::from(u8::from((a < V / 2) != (b < V / 2)));
    let labels: Vec<f32> = (0..V * V).map(|pair| spoken(pair / V, pair % V)).collect();
    let labels = Tensor::from_vec(labels, (V, V), &Device::Cpu)?;
    let logits = Var::zeros((V, V), DType::F32, &Device::Cpu)?;
    for _ in 0..100 {
        let loss = (softplus(logits.as_tensor())? - (logits.as_tensor() * &labels)?)?.mean_all()?;
        step(&loss, &logits, 20.)?;
    }
    Ok(logits.as_detached_tensor())
}

/// `log p(spoken)` of `letters: [S, 1, LENGTH, V]`, one-hot or mixtures: `[S, 1]`.
fn log_spoken(classifier: &Tensor, letters: &Tensor) -> Result<Tensor> {
    let before = letters.narrow(2, 0, LENGTH - 1)?.contiguous()?;
    let after = letters.narrow(2, 1, LENGTH - 1)?;
    let log_sigmoid = softplus(&classifier.neg()?)?.neg()?;
    (before.broadcast_matmul(&log_sigmoid)? * after)?.sum((2, 3))
}

/// Draws a word letter by letter, each given the one before: a language model in small. `next: [V + 1, V]`.
fn write(next: &Tensor, trace: &mut Trace<'_>) -> Result<Tensor> {
    let mut letters: Vec<Tensor> = Vec::new();
    for place in 0..LENGTH {
        let logits = match letters.last() {
            None => next.get(V)?.reshape((1, 1, 1, V))?,
            Some(letter) => letter.broadcast_matmul(&next.narrow(0, 0, V)?)?,
        };
        let law = Categorical::from_logits(&logits)?;
        letters.push(trace.sample(("letter", place), &law, &Categorical::uniform_like(&law)?)?);
    }
    Tensor::cat(&letters, 2)
}

/// Trains a writer: the share of its words that can be spoken, before and after, and one of them.
fn train(key: Key) -> Result<(f32, f32, String)> {
    let (classifier, next) = (classifier()?, Var::zeros((V + 1, V), DType::F32, &Device::Cpu)?);
    let program = |trace: &mut Trace<'_>| log_spoken(&classifier, &write(&next, trace)?);
    let judged = |key| -> Result<(f32, String)> {
        let (log_p, sites) = Trace::run(&program, &mut Independent { samples: 500 }, key)?;
        let spoken = log_p.ge(0.5f64.ln())?.to_dtype(DType::F32)?.mean_all()?.to_scalar()?;
        let first = |site: &Tensor| site.get(0)?.flatten_all()?.argmax(0)?.to_scalar::<u32>();
        let ids = sites.iter().map(|site| Ok(ALPHABET[first(&site.draw.value)? as usize]));
        Ok((spoken, ids.collect::<Result<_>>()?))
    };
    let before = judged(key.named("before"))?.0;
    let estimator = StraightThroughGumbelSoftmax { samples: 32, temperature: 1. };
    // A little of the divergence from uniform letters keeps the words from being all the same.
    let objective = Elbo { divergence: Divergence::Analytic, beta: 0.05 };
    for index in 0..200 {
        let noise = key.named("step").fold_in(index);
        step(&estimator.surrogate(&program, &objective, noise)?.loss, &next, 1.)?;
    }
    let (after, word) = judged(key.named("after"))?;
    Ok((before, after, word))
}

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<()> {
    let (before, after, word) = train(Key::from_seed(1))?;
    println!(
        "{:.0} % of the words can be spoken, {:.0} % before: {word}",
        100. * after,
        100. * before
    );
    Ok(())
}

#[test]
fn words_that_are_drawn_are_what_the_classifier_likes() -> Result<()> {
    let (before, after, word) = train(Key::from_seed(1))?;
    assert!(before < 0.2 && after > 0.9, "{before} {after} {word}");
    Ok(())
}
