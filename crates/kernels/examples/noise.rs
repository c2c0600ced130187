//! Random numbers that have names: any element of a key's stream by itself, exact draws of categories by Gumbel noise,
//! and the gradient of a relaxed draw.
//!
//! `cargo run -p gumbel-kernels --example noise`
use candle_core::{DType, Device, Result, Tensor, Var};
use gumbel_kernels::{Forward, Key, gumbel_softmax, one_hot_argmax, softmax};

const LOGITS: [f64; 4] = [1., 0., -1., 2.];
const DRAWS: usize = 100_000;

/// How often each category has the largest of `logits + G`, and its probability.
fn gumbel_max(key: Key) -> Result<(Vec<f64>, Vec<f64>)> {
    let logits = Tensor::new(&LOGITS, &Device::Cpu)?;
    let noise = key.gumbel((DRAWS, LOGITS.len()), DType::F64, &Device::Cpu)?;
    let drawn = one_hot_argmax(&noise.broadcast_add(&logits)?)?;
    Ok((drawn.mean(0)?.to_vec1()?, softmax(&logits)?.to_vec1()?))
}

/// The mean of `(Σ_k k y_k)²` over 100 relaxed draws `y`, and its gradient. One key, one noise: a function of the logits.
fn relaxed(logits: [f64; 4], key: Key) -> Result<(f64, Vec<f64>)> {
    let logits = Var::new(&[logits], &Device::Cpu)?;
    let draws = gumbel_softmax(&logits, 100, 0.5, Forward::Soft, key)?;
    let values = draws.broadcast_mul(&Tensor::arange(0f64, 4., &Device::Cpu)?)?.sum(1)?;
    let loss = values.sqr()?.mean(0)?;
    let gradient = loss.backward()?.remove(&logits).unwrap_or(logits.zeros_like()?);
    Ok((loss.to_scalar()?, gradient.squeeze(0)?.to_vec1()?))
}

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<()> {
    let key = Key::from_seed(1);
    let step = key.named("noise").fold_in(41);
    println!("word 1,000,000 of the noise of step 41: {:#010x}", step.word(1_000_000));
    let (frequencies, probs) = gumbel_max(key.named("draws"))?;
    println!("frequencies {frequencies:.4?}\nsoftmax     {probs:.4?}");
    let (loss, gradient) = relaxed(LOGITS, key.named("relaxed"))?;
    println!("loss {loss:.4}, gradient {gradient:.4?}");
    Ok(())
}

#[test]
fn an_element_does_not_depend_on_how_the_stream_is_read() -> Result<()> {
    let key = Key::from_seed(1);
    let mut words = [0; 9];
    key.fill_words(1_000_003, &mut words);
    assert!((0..9).all(|i| words[i as usize] == key.word(1_000_003 + i)));
    let noise: Vec<f32> = key.gumbel(1000, DType::F32, &Device::Cpu)?.to_vec1()?;
    assert_eq!(noise[777], gumbel_kernels::noise::gumbel::<f32>(key.word(777)));
    let [a, b, zero] = [key.named("a"), key.named("b"), key.fold_in(0)].map(|key| key.word(777));
    assert!(a != b && a != zero && b != zero && zero != key.word(777));
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
    let key = Key::from_seed(1).named("relaxed");
    for (k, gradient) in relaxed(LOGITS, key)?.1.into_iter().enumerate() {
        let mut moved = [LOGITS; 2];
        (moved[0][k], moved[1][k]) = (LOGITS[k] + 1e-5, LOGITS[k] - 1e-5);
        let difference = (relaxed(moved[0], key)?.0 - relaxed(moved[1], key)?.0) / 2e-5;
        assert!((gradient - difference).abs() < 1e-7 && gradient != 0., "{gradient} {difference}");
    }
    Ok(())
}
