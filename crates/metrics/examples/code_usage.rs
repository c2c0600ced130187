//! What a discrete code tells: usage, perplexity, mutual information with the data, agreement with known classes, and a
//! mean with its standard error.
//!
//! `cargo run -p gumbel-metrics --example code_usage`
use candle_core::{D, Device, Result, Tensor};
use gumbel_metrics::{Agreement, CodeUsage, Mean, bits_per_dim};

/// How many things there are, their classes, and codes of a variable.
const THINGS: usize = 600;
const CLASSES: usize = 3;
const CODES: usize = 4;

/// Posteriors of four variables for a thing of a class: one tells the class, one is always the same, one never knows,
/// and one tells the first class from the others.
fn posteriors(class: usize) -> [[f64; CODES]; 4] {
    let sure = |code: usize| std::array::from_fn(|k| if k == code { 0.97 } else { 0.01 });
    [sure(class), [1., 0., 0., 0.], [0.25; CODES], sure(class.min(1))]
}

/// Usage of the codes, how far each variable agrees with the classes, and the mean of what things cost, batch by batch.
fn measure(batches: usize) -> Result<(CodeUsage, [Agreement; 4], Mean)> {
    let (mut usage, mut agreements, mut nats) =
        (CodeUsage::new(), <[Agreement; 4]>::default(), Mean::new());
    for things in (0..THINGS).collect::<Vec<_>>().chunks(THINGS / batches) {
        let probs = things.iter().flat_map(|thing| posteriors(thing % CLASSES)).flatten().collect();
        let probs = Tensor::from_vec(probs, (things.len(), 4, CODES), &Device::Cpu)?;
        usage.push(&probs)?;
        let codes: Vec<Vec<u32>> = probs.argmax(D::Minus1)?.to_vec2()?;
        for (thing, codes) in things.iter().zip(codes) {
            let of_each = agreements.iter_mut().zip(codes);
            of_each.for_each(|(agreement, code)| agreement.push((thing % CLASSES) as u32, code));
        }
        let cost: Vec<f64> = things.iter().map(|thing| 90. + (thing % 21) as f64).collect();
        nats.push_tensor(&Tensor::new(cost, &Device::Cpu)?)?;
    }
    Ok((usage, agreements, nats))
}

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<()> {
    let (usage, agreements, nats) = measure(6)?;
    println!("codes used   {:?}", usage.codes_used());
    println!("perplexities {:.3?}", usage.perplexities());
    println!("information  {:.3?} nats", usage.mutual_information());
    let agreements = agreements.each_ref().map(Agreement::normalised_mutual_information);
    println!("agreement    {agreements:.3?}");
    let (mean, error) = (nats.mean(), nats.standard_error());
    println!("{mean:.2} ± {error:.2} nats, {:.4} bits a dimension", bits_per_dim(mean, 784));
    Ok(())
}

#[test]
fn what_a_variable_says_of_the_classes_shows() -> Result<()> {
    let (usage, agreements, _) = measure(6)?;
    let (perplexities, information) = (usage.perplexities(), usage.mutual_information());
    let agreement = agreements.each_ref().map(Agreement::normalised_mutual_information);
    assert_eq!((usage.codes_used(), usage.active_variables(0.01)), (vec![3, 1, 1, 2], 2));
    // It tells ln 3 nats, less what its doubt costs.
    assert!(information[0] > 0.9 && information[0] < 3f64.ln(), "{information:?}");
    assert!(information[3] > 0.4 && information[3] < information[0], "{information:?}");
    assert!((agreement[0] - 1.).abs() < 1e-12 && agreement[3] > 0.5 && agreement[3] < 0.9);
    // Collapsed, and never sure: neither says anything, and their perplexities tell which is which.
    assert!(information[1] + information[2] + agreement[1] + agreement[2] < 1e-12);
    assert!((perplexities[1] - 1.).abs() < 1e-12 && (perplexities[2] - 4.).abs() < 1e-12);
    Ok(())
}

#[test]
fn batches_change_nothing_and_a_mean_has_its_error() -> Result<()> {
    assert_eq!(measure(1)?, measure(20)?);
    let (_, _, mean) = measure(6)?;
    // Integers uniform over 21 have the variance (21² - 1) / 12.
    let expected = (440f64 / 12. / THINGS as f64).sqrt();
    assert!((mean.mean() - 100.).abs() < 0.2 && mean.count() == THINGS as u64, "{mean:?}");
    assert!((mean.standard_error() / expected - 1.).abs() < 0.02, "{mean:?}");
    Ok(())
}
