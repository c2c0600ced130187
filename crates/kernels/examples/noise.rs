//! Random numbers that have names: any element of a key's stream by itself, exact draws of categories by Gumbel noise,
//! and the gradient of a relaxed draw.
//!
//! `cargo run -p gumbel-kernels --example noise`
use candle_core::{DType, Device, Result, Tensor, Var};
use gumbel_kernels::{Forward, Key, gumbel_softmax, one_hot_argmax, softmax};

const LOGITS: [f64; 4] = [1., 0., -1., 2.];
const DRAWS: usize = 100_000;
const TEMPERATURE: f64 = 0.5;

/// How often each category has the largest of `logits + G`, and its probability.
fn gumbel_max(key: Key) -> Result<(Vec<f64>, Vec<f64>)> {
    let logits = Tensor::new(&LOGITS, &Device::Cpu)?;
    let noise = key.gumbel((DRAWS, LOGITS.len()), DType::F64, &Device::Cpu)?;
    let drawn = one_hot_argmax(&noise.broadcast_add(&logits)?)?;
    Ok((drawn.mean(0)?.to_vec1()?, softmax(&logits)?.to_vec1()?))
}

/// A loss of relaxed draws: the mean of `(Σ_k k y_k)²`. One key, one noise, so that it is a function of the logits.
fn loss(logits: &Tensor, key: Key) -> Result<Tensor> {
    let draws = gumbel_softmax(&logits.unsqueeze(0)?, 100, TEMPERATURE, Forward::Soft, key)?;
    let values = Tensor::arange(0f64, LOGITS.len() as f64, &Device::Cpu)?;
    draws.broadcast_mul(&values)?.sum(1)?.sqr()?.mean(0)
}

/// The gradient of [`loss`] by the kernel's backward pass, and by central differences.
fn gradients(key: Key) -> Result<(Vec<f64>, Vec<f64>)> {
    let logits = Var::new(&LOGITS, &Device::Cpu)?;
    let grads = loss(&logits, key)?.backward()?;
    let exact = grads.get(&logits).map_or_else(|| Ok(Vec::new()), Tensor::to_vec1)?;
    let moved = |place: usize, by: f64| {
        let mut logits = LOGITS;
        logits[place] += by;
        loss(&Tensor::new(&logits, &Device::Cpu)?, key)?.to_scalar::<f64>()
    };
    let difference = |k| Ok((moved(k, 1e-5)? - moved(k, -1e-5)?) / 2e-5);
    Ok((exact, (0..LOGITS.len()).map(difference).collect::<Result<_>>()?))
}

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<()> {
    let key = Key::from_seed(1);
    let step = key.named("noise").fold_in(41);
    println!("word 1,000,000 of the noise of step 41: {:#010x}", step.word(1_000_000));
    let (frequencies, probs) = gumbel_max(key.named("draws"))?;
    println!("frequencies {frequencies:.4?}\nsoftmax     {probs:.4?}");
    let (exact, differences) = gradients(key.named("gradient"))?;
    println!("gradient    {exact:.4?}\ndifferences {differences:.4?}");
    Ok(())
}

#[test]
fn an_element_does_not_depend_on_how_the_stream_is_read() -> Result<()> {
    let key = Key::from_seed(1);
    let mut words = [0; 9];
    key.fill_words(1_000_003, &mut words);
    assert!((0..9).all(|i| words[i as usize] == key.word(1_000_003 + i)));
    let noise: Vec<f32> = key.gumbel(1000, DType::F32, &Device::Cpu)?.to_vec1()?;
    assert_eq!(noise[777], gumbel_kernels::noise::gumbel(key.word(777)));
    let children = [key.named("a"), key.named("b"), key.fold_in(0), key.fold_in(1)];
    let mut first = children.map(|child| child.word(0)).to_vec();
    first.push(key.word(0));
    first.sort_unstable();
    first.dedup();
    assert_eq!(first.len(), 5);
    Ok(())
}

#[test]
fn the_largest_of_logits_and_noise_is_a_draw_from_their_softmax() -> Result<()> {
    let (frequencies, probs) = gumbel_max(Key::from_seed(1).named("draws"))?;
    for (found, p) in frequencies.iter().zip(probs) {
        let standard_error = (p * (1. - p) / DRAWS as f64).sqrt();
        assert!((found - p).abs() < 4.5 * standard_error, "{found} {p}");
    }
    Ok(())
}

#[test]
fn the_gradient_is_that_of_finite_differences() -> Result<()> {
    let (exact, differences) = gradients(Key::from_seed(1).named("gradient"))?;
    assert_eq!(exact.len(), LOGITS.len());
    for (exact, difference) in exact.iter().zip(differences) {
        assert!((exact - difference).abs() < 1e-7 && exact.abs() > 1e-2, "{exact} {difference}");
    }
    Ok(())
}
