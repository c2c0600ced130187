//! What tests of optimisers have in common.
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use gumbel_kernels::Key;

use super::{AdamConfig, Optimizer, OptimizerConfig};
use crate::Params;

pub(super) const STEPS: u64 = 20;
/// Names and sizes of the parameters.
pub(super) const SIZES: [(&str, usize); 2] = [("a", 3), ("b", 1)];

pub(super) fn params(dtype: DType) -> Params {
    let params = Params::new(Key::from_seed(1), dtype, &Device::Cpu);
    let init = candle_nn::Init::Randn { mean: 1., stdev: 1. };
    for (name, size) in SIZES {
        params.var_builder().get_with_hints(size, name, init).unwrap();
    }
    params
}

/// Gradient of number `i` of all parameters at step `t`: any fixed function will do.
pub(super) fn slope(i: usize, t: u64) -> f64 {
    (1. + i as f64) * (0.7 * t as f64 + i as f64).cos() + 0.3
}

pub(super) fn learning_rate(t: u64) -> f64 {
    0.1 / (t as f64).sqrt()
}

/// Gradients of all parameters at step `t`.
pub(super) fn grads(params: &Params, t: u64) -> GradStore {
    let mut grads = GradStore::default();
    let mut first = 0;
    for (_, var) in params.iter() {
        let n = var.elem_count();
        let values: Vec<f64> = (first..first + n).map(|i| slope(i, t)).collect();
        let gradient = Tensor::new(values, &Device::Cpu).unwrap().to_dtype(var.dtype()).unwrap();
        grads.insert(&var, gradient);
        first += n;
    }
    grads
}

/// All parameters, one after another.
pub(super) fn numbers(params: &Params) -> Vec<f64> {
    let of_one = |(_, var): (String, Var)| {
        var.detach().to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap()
    };
    params.iter().into_iter().flat_map(of_one).collect()
}

/// The parameters after [`STEPS`] steps.
pub(super) fn run(config: &OptimizerConfig, dtype: DType) -> Vec<f64> {
    let params = params(dtype);
    let mut optimizer = Optimizer::new(config, &params).unwrap();
    for t in 1..=STEPS {
        optimizer.step(&params, &grads(&params, t), learning_rate(t)).unwrap();
    }
    assert_eq!(optimizer.steps, STEPS);
    numbers(&params)
}

/// One of each rule.
pub(super) fn all_kinds() -> [OptimizerConfig; 3] {
    let radam = OptimizerConfig::Radam(AdamConfig { weight_decay: 0.01, ..AdamConfig::default() });
    let sgd = OptimizerConfig::Sgd { momentum: 0.9, nesterov: true };
    [OptimizerConfig::default(), radam, sgd]
}
