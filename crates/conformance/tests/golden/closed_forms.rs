//! Entropies and divergences, relaxed and discrete.
use candle_core::Tensor;
use gumbel::distributions::{BinConcrete, Categorical, ExpConcrete, Temperature};

use crate::case::{Array, Case, Fallible, NO_FLOOR, cancellation};

/// Values as the logits of one variable of `K` categories, `[1, 1, 1, K]`.
fn row(values: &[f64]) -> candle_core::Result<Tensor> {
    Array { shape: vec![1, 1, 1, values.len()], values: values.to_vec() }.tensor()
}

/// Differential entropies and divergences of relaxed distributions, by the name of the quantity.
pub(crate) fn check(case: &mut Case<'_>) -> Fallible<()> {
    let quantity = case.text("quantity")?;
    let is = |start: &str| quantity.starts_with(start);
    if is("differential entropy of ExpConcrete") {
        entropy(case)
    } else if is("KL(Concrete(") {
        concrete_kl(case)
    } else if is("KL(BinConcrete(") {
        bin_concrete_kl(case)
    } else {
        Err(format!("no check for the quantity `{quantity}`").into())
    }
}

fn entropy(case: &mut Case<'_>) -> Fallible<()> {
    let (k, temperature) = (case.number("K")? as usize, case.number("temperature")?);
    // It depends on K alone; the logits are anything.
    let logits: Vec<f64> = (0..k).map(|i| (i % 7) as f64 - 3.).collect();
    let learned = Tensor::new(temperature, &candle_core::Device::Cpu)?;
    let floor = cancellation(&[k as f64, k as f64 * temperature.ln()]);
    for temperature in [Temperature::Fixed(temperature), Temperature::Tensor(learned)] {
        let d = ExpConcrete::new(&row(&logits)?, temperature)?;
        case.expect_tensor("value", &d.entropy()?, floor)?;
    }
    Ok(())
}

fn concrete_kl(case: &mut Case<'_>) -> Fallible<()> {
    let (q, p) = (case.array("logits_q")?.values, case.array("logits_p")?.values);
    let floor = cancellation(&[q.as_slice(), p.as_slice()].concat());
    let (q, p) = (row(&q)?, row(&p)?);
    for temperature in [0.05, 0.5, 1., 5.] {
        let kl = ExpConcrete::new(&q, temperature)?.kl(&ExpConcrete::new(&p, temperature)?)?;
        case.expect_tensor("value", &kl, floor)?;
    }
    if case.has("kl_categorical") {
        let kl = Categorical::from_logits(&q)?.kl(&Categorical::from_logits(&p)?)?;
        case.expect_tensor("kl_categorical", &kl, floor)?;
    }
    Ok(())
}

fn bin_concrete_kl(case: &mut Case<'_>) -> Fallible<()> {
    let mut of = |which: &str| -> Fallible<(BinConcrete, f64)> {
        let log_alpha = case.number(&format!("log_alpha_{which}"))?;
        let temperature = case.number(&format!("temperature_{which}"))?;
        let logits = Array { shape: vec![1, 1, 1], values: vec![log_alpha] }.tensor()?;
        Ok((BinConcrete::new(&logits, temperature)?, log_alpha / temperature.min(1.)))
    };
    let ((q, size_q), (p, size_p)) = (of("q")?, of("p")?);
    case.expect_tensor("value", &q.kl(&p)?, cancellation(&[size_q, size_p]))
}

/// The categorical distribution, with masked categories and extreme logits.
pub(crate) fn check_categorical(case: &mut Case<'_>) -> Fallible<()> {
    let (q, p) = (case.array("logits_q")?.values, case.array("logits_p")?.values);
    let floor = cancellation(&[q.as_slice(), p.as_slice()].concat());
    let (q, p) = (Categorical::from_logits(&row(&q)?)?, Categorical::from_logits(&row(&p)?)?);
    case.expect_tensor("probs", &q.probs()?, NO_FLOOR)?;
    case.expect_tensor("log_probs", &q.log_probs()?, floor)?;
    case.expect_tensor("entropy", &q.entropy()?, floor)?;
    case.expect_tensor("kl", &q.kl(&p)?, floor)
}
