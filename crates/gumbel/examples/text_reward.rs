//! A reward on sampled text: a writer of words learns from a score that nobody can differentiate.
//!
//! `cargo run --release --example text_reward`
use candle_core::{DType, Device, Result, Tensor, Var};
use gumbel::Key;
use gumbel::distributions::Categorical;
use gumbel::estimators::{Divergence, Estimator, Independent, LeaveOneOut, Trace};
use gumbel::objectives::Elbo;

const ALPHABET: [char; 6] = ['e', 'h', 'l', 'o', 'x', '.'];
const LENGTH: usize = 5;
const V: usize = ALPHABET.len();

/// Logits of the first letter, `[V]`, and of each later one given the letter before it, `[LENGTH, V, V]`.
struct Writer {
    first: Var,
    next: Var,
}

impl Writer {
    /// Writes a word, letter by letter: one-hot letters `[S, 1, LENGTH, V]`.
    fn write(&self, trace: &mut Trace<'_>) -> Result<Tensor> {
        let mut letters: Vec<Tensor> = Vec::new();
        for t in 0..LENGTH {
            let logits = match letters.last() {
                None => self.first.reshape((1, 1, 1, V))?,
                Some(letter) => letter.broadcast_matmul(&self.next.get(t)?)?,
            };
            let law = Categorical::from_logits(&logits)?;
            letters.push(trace.sample(("token", t), &law, &Categorical::uniform_like(&law)?)?);
        }
        Tensor::cat(&letters, 2)
    }
}

/// The words of one-hot letters.
fn words(letters: &Tensor) -> Result<Vec<String>> {
    let ids = letters.squeeze(1)?.argmax(2)?.to_vec2::<u32>()?;
    Ok(ids.iter().map(|word| word.iter().map(|i| ALPHABET[*i as usize]).collect()).collect())
}

/// Any function of a word: here, how many letters are those of "hello".
fn reward(word: &str) -> f32 {
    word.chars().zip("hello".chars()).filter(|(a, b)| a == b).count() as f32
}

/// The reward of each sample, `[S, 1]`.
fn rewards(letters: &Tensor) -> Result<Tensor> {
    let rewards: Vec<f32> = words(letters)?.iter().map(|word| reward(word)).collect();
    Tensor::from_vec(rewards, (letters.dim(0)?, 1), letters.device())
}

/// Trains, and returns the mean reward, which is 5/6 of random letters, and a word.
fn train(key: Key) -> Result<(f32, String)> {
    let zeros = |shape: &[usize]| Var::zeros(shape, DType::F32, &Device::Cpu);
    let writer = Writer { first: zeros(&[V])?, next: zeros(&[LENGTH, V, V])? };
    let program = |trace: &mut Trace<'_>| rewards(&writer.write(trace)?);
    let run = |samples, key| Trace::run(&program, &mut Independent { samples }, key);
    // A little of the divergence from uniform letters keeps the writer curious.
    let objective = Elbo { divergence: Divergence::Analytic, beta: 0.02 };
    for step in 0..200 {
        let key = key.named("step").fold_in(step);
        let surrogate = LeaveOneOut { samples: 32 }.surrogate(&program, &objective, key)?;
        let grads = surrogate.loss.backward()?;
        for var in [&writer.first, &writer.next] {
            if let Some(gradient) = grads.get(var) {
                var.set(&(var.as_detached_tensor() - (gradient * 1.)?)?)?;
            }
        }
    }
    let mean = run(500, key.named("mean"))?.0.mean_all()?.to_scalar()?;
    let (_, sites) = run(1, key.named("word"))?;
    let letters: Vec<&Tensor> = sites.iter().map(|site| &site.draw.value).collect();
    Ok((mean, words(&Tensor::cat(&letters, 2)?)?.remove(0)))
}

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<()> {
    let (mean, word) = train(Key::from_seed(1))?;
    println!("mean reward {mean:.2} of {LENGTH}, a word: {word}");
    Ok(())
}

#[test]
fn the_writer_learns_the_word() -> Result<()> {
    let (mean, word) = train(Key::from_seed(1))?;
    assert!(mean > 4.5 && reward(&word) >= 4., "{mean} {word}");
    Ok(())
}
