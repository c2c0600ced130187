//! Updates of parameters, and what is asked of gradients before.
use candle_core::{Device, Result, Tensor, Var};
use gumbel_kernels::optimizer::*;

use super::Flops::Each;
use super::{Operation, constant, positive, variable};

/// As many numbers as W1 has parameters.
const PARAMETERS: &[usize] = &[1_221_180];

const STEP: AdamStep =
    AdamStep { beta1: 0.9, beta2: 0.999, shrink: 1., rate: 1e-3, scale: 1., epsilon: 1e-8 };

fn vars(inputs: &[Tensor]) -> Result<Vec<Var>> {
    // No copies: these are variables already.
    inputs.iter().filter(|input| input.is_variable()).map(Var::from_tensor).collect()
}

fn adam(
    i: &[Tensor],
    update: fn(&Var, &Var, &Var, &Tensor, &AdamStep) -> Result<()>,
) -> Result<Tensor> {
    let v = vars(i)?;
    update(&v[0], &v[1], &v[2], &i[3], &STEP)?;
    Ok(i[0].clone())
}

fn sgd(
    i: &[Tensor],
    update: fn(&Var, &Var, &Tensor, f64, f64, bool) -> Result<()>,
) -> Result<Tensor> {
    let v = vars(i)?;
    update(&v[0], &v[1], &i[2], 1e-3, 0.9, false)?;
    Ok(i[0].clone())
}

fn scalar(x: f64) -> Result<Tensor> {
    Tensor::new(x, &Device::Cpu)
}

pub(super) fn all() -> Vec<Operation> {
    vec![
        Operation::new(
            "adam_update",
            [
                variable(PARAMETERS),
                variable(PARAMETERS),
                positive(PARAMETERS),
                constant(PARAMETERS),
            ],
            Each(14.),
            |i| adam(i, adam_update),
            |i| adam(i, adam_update_reference),
        )
        .in_place(),
        Operation::new(
            "sgd_update",
            [variable(PARAMETERS), variable(PARAMETERS), constant(PARAMETERS)],
            Each(4.),
            |i| sgd(i, sgd_update),
            |i| sgd(i, sgd_update_reference),
        )
        .in_place(),
        Operation::new(
            "sum_of_squares",
            [constant(PARAMETERS)],
            Each(2.),
            |i| scalar(sum_of_squares(&i[0])?),
            |i| scalar(sum_of_squares_reference(&i[0])?),
        )
        .forward_only(),
        Operation::new(
            "all_finite",
            [constant(PARAMETERS)],
            Each(1.),
            |i| scalar(f64::from(all_finite(&i[0])?)),
            |i| scalar(f64::from(all_finite_reference(&i[0])?)),
        )
        .forward_only(),
    ]
}
