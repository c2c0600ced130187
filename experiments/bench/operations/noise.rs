//! Random numbers. Candle's own stand beside them where there is no twin.
use candle_core::{DType, Device, Result, Tensor};
use gumbel_kernels::Key;

use super::Flops::Each;
use super::{ELEMENTARY, Operation};

const DRAWS: usize = 1 << 22;

type Draw = fn(Key, usize, DType, &Device) -> Result<Tensor>;

fn ours(draw: Draw) -> Result<Tensor> {
    draw(Key::from_seed(9), DRAWS, DType::F32, &Device::Cpu)
}

#[expect(clippy::disallowed_methods, reason = "what candle offers, for comparison")]
fn candle_uniform() -> Result<Tensor> {
    Tensor::rand(0f32, 1f32, DRAWS, &Device::Cpu)
}

#[expect(clippy::disallowed_methods, reason = "what candle offers, for comparison")]
fn candle_normal() -> Result<Tensor> {
    Tensor::randn(0f32, 1f32, DRAWS, &Device::Cpu)
}

fn gumbel_twin() -> Result<Tensor> {
    ours(Key::uniform)?.log()?.neg()?.log()?.neg()
}

fn logistic_twin() -> Result<Tensor> {
    let u = ours(Key::uniform)?;
    u.log()? - (1. - u)?.log()?
}

pub(super) fn all() -> Vec<Operation> {
    let draw = |name, elementary: f64, fused, twin| {
        let flops = Each(elementary * ELEMENTARY + 2.);
        Operation::new(name, [], flops, fused, twin).forward_only().of_size("4194304")
    };
    vec![
        draw("uniform", 1., |_| ours(Key::uniform), |_| candle_uniform()),
        draw("gumbel", 3., |_| ours(Key::gumbel), |_| gumbel_twin()),
        draw("logistic", 3., |_| ours(Key::logistic), |_| logistic_twin()),
        draw("normal", 3., |_| ours(Key::normal), |_| candle_normal()),
    ]
}
