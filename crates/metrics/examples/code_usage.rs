//! What a discrete code tells: usage, perplexity, mutual information with the data, agreement with known classes, and
//! means with their standard errors.
//!
//! `cargo run -p gumbel-metrics --example code_usage`
use candle_core::{D, Device, Result, Tensor};
use gumbel_metrics::{Agreement, CodeUsage, JsonLines, Mean, Report, bits_per_dim};

/// Things of so many classes, and codes of each variable.
const CLASSES: usize = 3;
const CODES: usize = 4;

/// Posteriors `[B, 4, K]` of four variables: one tells the class, one is always the same, one never knows, and one tells
/// the first class from the others.
fn posteriors(classes: &[usize]) -> Result<Tensor> {
    let sure = |code: usize| -> [f64; CODES] {
        std::array::from_fn(|k| if k == code { 0.97 } else { 0.03 / (CODES - 1) as f64 })
    };
    let of_one = |class: &usize| {
        [sure(*class), [1., 0., 0., 0.], [1. / CODES as f64; CODES], sure((*class).min(1))]
    };
    Tensor::new(classes.iter().map(of_one).collect::<Vec<_>>(), &Device::Cpu)
}

/// Usage of the codes, and how far each variable agrees with the classes, over `batches` batches.
fn measure(batches: usize) -> Result<(CodeUsage, Vec<Agreement>)> {
    let mut usage = CodeUsage::new();
    let mut agreements = vec![Agreement::new(); 4];
    let all: Vec<usize> = (0..600).map(|i| i % CLASSES).collect();
    for classes in all.chunks(600 / batches) {
        let probs = posteriors(classes)?;
        usage.push(&probs)?;
        let codes: Vec<Vec<u32>> = probs.argmax(D::Minus1)?.to_vec2()?;
        for (class, codes) in classes.iter().zip(codes) {
            for (agreement, code) in agreements.iter_mut().zip(codes) {
                agreement.push(*class as u32, code);
            }
        }
    }
    Ok((usage, agreements))
}

/// The mean of negative log-likelihoods that come batch by batch.
fn mean_nats() -> Result<Mean> {
    let mut mean = Mean::new();
    for batch in 0..4u32 {
        let nats: Vec<f64> = (0..100).map(|i| 90. + f64::from((batch * 100 + i) % 21)).collect();
        mean.push_tensor(&Tensor::new(nats, &Device::Cpu)?)?;
    }
    Ok(mean)
}

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<()> {
    let (usage, agreements) = measure(6)?;
    let (perplexities, information) = (usage.perplexities(), usage.mutual_information());
    println!("variable  codes used  perplexity  information  agreement");
    for (n, agreement) in agreements.iter().enumerate() {
        let (used, agreement) = (usage.codes_used()[n], agreement.normalised_mutual_information());
        let (perplexity, information) = (perplexities[n], information[n]);
        println!("{n:8}  {used:10}  {perplexity:10.3}  {information:11.3}  {agreement:9.3}");
    }
    let nats = mean_nats()?;
    let bits = bits_per_dim(nats.mean(), 784);
    println!("{:.2} ± {:.2} nats, {bits:.4} bits", nats.mean(), nats.standard_error());
    let report = Report::new().number("nats", nats.mean()).number("bits_per_dim", bits);
    let mut lines = JsonLines::new(Vec::new());
    lines.write(1000, "test", &report.scalars()?)?;
    print!("{}", String::from_utf8_lossy(&lines.into_inner()));
    Ok(())
}

#[test]
fn what_a_variable_says_of_the_classes_shows() -> Result<()> {
    let (usage, agreements) = measure(6)?;
    let (perplexities, information) = (usage.perplexities(), usage.mutual_information());
    let agreement = |n: usize| agreements[n].normalised_mutual_information();
    assert_eq!(usage.codes_used(), [3, 1, 1, 2]);
    // It tells ln 3 nats, less what its doubt costs.
    assert!(information[0] > 0.9 && information[0] < 3f64.ln(), "{information:?}");
    assert!(information[3] > 0.4 && information[3] < information[0], "{information:?}");
    assert!((agreement(0) - 1.).abs() < 1e-12 && agreement(3) > 0.5 && agreement(3) < 0.9);
    // Collapsed, and never sure: neither says anything, and their perplexities tell which is which.
    assert!(information[1] + information[2] + agreement(1) + agreement(2) < 1e-12);
    assert!((perplexities[1] - 1.).abs() < 1e-12 && (perplexities[2] - 4.).abs() < 1e-12);
    assert_eq!(usage.active_variables(0.01), 2);
    Ok(())
}

#[test]
fn batches_change_nothing_and_means_have_their_errors() -> Result<()> {
    assert_eq!(measure(1)?, measure(20)?);
    let mean = mean_nats()?;
    // Integers uniform over 21 have the standard deviation √((21² - 1) / 12).
    let expected = (440f64 / 12. / 400.).sqrt();
    assert!((mean.mean() - 100.).abs() < 0.1 && mean.count() == 400, "{mean:?}");
    assert!((mean.standard_error() / expected - 1.).abs() < 0.02, "{mean:?}");
    Ok(())
}
