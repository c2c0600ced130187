//! The path from given noise to a relaxed sample, its density and its derivatives.
use candle_core::Tensor;
use gumbel::distributions::ExpConcrete;
use gumbel_kernels::{noise, one_hot_argmax};

use crate::case::{Array, Case, Fallible, NO_FLOOR, cancellation, numbers};

/// Sample, discrete end, vector–Jacobian products, density from the noise alone and from the sample.
pub(crate) fn check(case: &mut Case<'_>) -> Fallible<()> {
    let (logits, temperature) = (case.array("logits")?, case.array("temperature")?);
    let (uniform, cotangent) = (case.array("uniform")?, case.array("cotangent")?);
    let gumbel: Vec<f64> = uniform.values.iter().map(|u| noise::gumbel_of_uniform(*u)).collect();
    case.expect("gumbel", &gumbel, cancellation(&[]))?;

    let k = logits.values.len();
    let row = |values: Vec<f64>| Array { shape: vec![1, 1, 1, k], values }.tensor();
    let (gumbel, cotangent_row) = (row(gumbel)?, row(cotangent.values.clone())?);
    let (logits_var, temperature_var) = (logits.var()?, temperature.var()?);
    let q = ExpConcrete::new(
        &logits_var.reshape((1, 1, 1, k))?,
        temperature_var.as_tensor(), // a tensor that carries a gradient
    )?;
    let log_y = q.transport(&gumbel)?;
    let y = log_y.exp()?;

    // Everything below is a sum of terms of the size of the scores, divided by the temperature.
    let inverse = 1. / temperature_var.to_scalar::<f64>()?;
    let scores = numbers(&(gumbel.broadcast_add(q.logits())? * inverse)?.detach())?;
    let size = cancellation(&scores);
    case.expect_tensor("log_y", &log_y, size)?;
    case.expect_tensor("y", &y, NO_FLOOR)?;
    let class = one_hot_argmax(&y)?.flatten_all()?.argmax(0)?.to_scalar::<u32>()?;
    case.expect("argmax", &[f64::from(class)], NO_FLOOR)?;

    let slope = inverse.max(1.) * cancellation(&cotangent.values);
    let names =
        [("vjp_y_logits", "vjp_y_temperature"), ("vjp_logy_logits", "vjp_logy_temperature")];
    for (output, (in_logits, in_temperature)) in [&y, &log_y].into_iter().zip(names) {
        let grads = (output * &cotangent_row)?.sum_all()?.backward()?;
        let missing = "the sample has no such gradient";
        let gradient = grads.get(logits_var.as_tensor()).ok_or(missing)?;
        case.expect_tensor(in_logits, gradient, slope)?;
        let gradient = grads.get(temperature_var.as_tensor()).ok_or(missing)?;
        case.expect_tensor(in_temperature, gradient, slope * (size / cancellation(&[])))?;
    }
    densities(case, &q, &gumbel, &log_y.detach(), size)
}

fn densities(
    case: &mut Case<'_>,
    q: &ExpConcrete,
    gumbel: &Tensor,
    log_y: &Tensor,
    floor: f64,
) -> Fallible<()> {
    let of_noise = q.log_density_of_noise(gumbel)?;
    case.expect_tensor("log_prob_log_y", &of_noise, floor)?;
    case.expect_tensor("log_prob_log_y", &q.log_density(log_y)?, floor)?;
    let jacobian = log_y.sum((2, 3))?;
    case.expect_tensor("log_prob_simplex", &(of_noise - jacobian)?, floor)?;
    case.expect_tensor("log_prob_simplex", &q.log_density_simplex_from_log(log_y)?, floor)
}
