//! One training step of the VAE of the papers, as the experiment does it.
use std::time::{Duration, Instant};

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use gumbel::Key;
use gumbel::estimators::{Estimator, GumbelSoftmax};
use gumbel::objectives::Elbo;
use gumbel_models::{
    Activation, CategoricalVae, CategoricalVaeConfig, Coding, LatentVariableModel, Prior,
};
use gumbel_training::{Optimizer, OptimizerConfig, Params};

use crate::quartiles;

const BATCH: usize = 100;

/// 784-512-256-(30 × 10)-256-512-784, batch 100, τ = 1, analytic KL, Adam.
pub(crate) fn time(budget: Duration) -> Result<String> {
    let key = Key::from_seed(1);
    let config = CategoricalVaeConfig {
        latents: 30,
        categories: 10,
        encoder: vec![512, 256],
        decoder: vec![256, 512],
        activation: Activation::Relu,
        prior: Prior::Uniform,
        coding: Coding::Bits,
    };
    let params = Params::new(key.named("init"), DType::F32, &Device::Cpu);
    let mean = Tensor::full(0.13f32, 784, &Device::Cpu)?;
    let model = CategoricalVae::new(&config, &mean, &params.var_builder())?;
    let mut optimizer = Optimizer::new(&OptimizerConfig::default(), &params)?;
    let x =
        key.uniform((BATCH, 784), DType::F32, &Device::Cpu)?.lt(0.13f32)?.to_dtype(DType::F32)?;
    let estimator = GumbelSoftmax::new(1, 1.);
    let mut times = Vec::new();
    let start = Instant::now();
    for step in 0.. {
        let begin = Instant::now();
        let surrogate = estimator.surrogate(
            &|trace| model.log_likelihood(&x, trace),
            &Elbo::default(),
            key.fold_in(step),
        )?;
        let gradients = surrogate.loss.backward()?;
        drop(surrogate);
        optimizer.step(&params, &gradients, 1e-3)?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        if start.elapsed() >= budget && times.len() >= 5 {
            break;
        }
    }
    let [low, median, high] = quartiles(times);
    Ok(format!(
        "VAE step 784-512-256-(30x10)-256-512-784, batch {BATCH}: {median:.2} ms (quartiles {low:.2}-{high:.2})"
    ))
}
