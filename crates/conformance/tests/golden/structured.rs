//! Subsets, orders, permutations, sparse maps, and noise given what it rounds to.
use candle_core::{Device, Tensor};
use gumbel::distributions::conditional_gumbel;
use gumbel::kernels::{SparseMap, log_softmax, sparse_map};
use gumbel::structured::{PlackettLuce, Subset, sinkhorn};

use crate::case::{Case, Fallible, NO_FLOOR, cancellation};

/// Plackett–Luce orders and their inclusion probabilities, or subsets of a fixed size.
pub(crate) fn check_subset(case: &mut Case<'_>) -> Fallible<()> {
    let logits = case.array("logits")?;
    let floor = cancellation(&logits.values);
    let logits = logits.tensor()?;
    if case.has("k") {
        let q = Subset::new(&logits, case.number("k")? as usize)?;
        case.expect_tensor("log_partition", &q.log_partition()?, floor)?;
        case.expect_tensor("marginals", &q.marginals()?, NO_FLOOR)?;
        return case.expect_tensor("entropy", &q.entropy()?, floor);
    }
    let q = PlackettLuce::new(&logits)?;
    for mut part in case.parts("orders")? {
        let order: Vec<u32> = part.array("order")?.values.iter().map(|item| *item as u32).collect();
        let log_prob = q.log_prob(&Tensor::new(order, &Device::Cpu)?)?;
        part.expect_tensor("log_prob", &log_prob, floor)?;
        case.absorb(part);
    }
    let inclusion: Vec<String> = case.fields_with("inclusion_gumbel_topk_k");
    for field in inclusion {
        let k = field.trim_start_matches("inclusion_gumbel_topk_k").parse()?;
        case.expect_tensor(&field, &q.inclusion_probabilities(k)?, NO_FLOOR)?;
    }
    Ok(())
}

/// Rows, then columns, in each iteration.
pub(crate) fn check_sinkhorn(case: &mut Case<'_>) -> Fallible<()> {
    let scores = case.array("scores")?.tensor()?;
    let (temperature, iterations) = (case.number("temperature")?, case.number("iterations")?);
    let order = case.text("order")?;
    if !order.starts_with("row-normalise then column-normalise") {
        return Err(format!("no check for the order `{order}`").into());
    }
    let result = sinkhorn(&scores, temperature, iterations as usize)?;
    case.expect_tensor("result", &result, NO_FLOOR)
}

/// Softmax and its sparse relatives.
pub(crate) fn check_sparse_maps(case: &mut Case<'_>) -> Fallible<()> {
    let x = case.array("x")?;
    let floor = cancellation(&x.values);
    let x = x.tensor()?;
    case.expect_tensor("softmax", &log_softmax(&x)?.exp()?, NO_FLOOR)?;
    case.expect_tensor("sparsemax", &sparse_map(&x, SparseMap::Sparsemax)?, floor)?;
    case.expect_tensor("entmax15", &sparse_map(&x, SparseMap::Entmax15)?, floor)
}

/// Perturbed logits given the largest of them, from exponential variables.
pub(crate) fn check_conditional_gumbel(case: &mut Case<'_>) -> Fallible<()> {
    let (logits, index) = (case.array("logits")?, case.number("index")?);
    let exponential = case.array("exponential")?;
    let floor = cancellation(&logits.values);
    let marks = (0..logits.values.len()).map(|i| f64::from(u8::from(i as f64 == index)));
    let one_hot = Tensor::from_iter(marks, &Device::Cpu)?;
    let logits = logits.tensor()?;
    let noise = exponential.tensor()?.log()?.neg()?;
    let perturbed = conditional_gumbel(&logits, &one_hot, &noise)?;
    case.expect_tensor("perturbed_logits", &perturbed, floor)?;
    case.expect_tensor("gumbel", &(perturbed - logits)?, floor)
}
