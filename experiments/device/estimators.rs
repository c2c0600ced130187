//! The gradients of a small model by every kind of estimator, which a device must agree on with the processor.
use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use gumbel::Key;
use gumbel::distributions::Categorical;
use gumbel::estimators::{Method, Trace};
use gumbel::objectives::Elbo;
use gumbel_kernels::{bernoulli_log_prob, linear};
use gumbel_training::Params;

/// Estimators as configurations have them: relaxed, straight-through in its forms, by scores, with learned parts, exact.
pub(crate) const METHODS: [&str; 13] = [
    "method = 'gumbel-softmax'\nsamples = 2\ntemperature = 0.7",
    "method = 'straight-through-gumbel-softmax'\nsamples = 2\ntemperature = 0.7",
    "method = 'straight-through'\nsamples = 2",
    "method = 'reinmax'\nsamples = 1\ntemperature = 1.1",
    "method = 'reinmax-rao'\nsamples = 1\ntemperature = 0.8\ndraws = 3",
    "method = 'zgr'\nsamples = 1",
    "method = 'gumbel-rao'\nsamples = 1\ntemperature = 0.5\ndraws = 10",
    "method = 'leave-one-out'\nsamples = 4",
    "method = 'reinforce'\nsamples = 2",
    "method = 'nvil'\nsamples = 2",
    "method = 'rebar'\nsamples = 1",
    "method = 'sum-and-sample'\nclasses = 3",
    "method = 'enumerate'\nsamples = 1",
];

const BATCH: usize = 16;
const LATENTS: usize = 4;
const CATEGORIES: usize = 5;
const PIXELS: usize = 30;

/// The first line of a method, to call it by.
pub(crate) fn name(method: &str) -> &str {
    method.split('\'').nth(1).unwrap_or(method)
}

/// Loss and gradients of posterior and decoder on a device, from the same numbers and the same noise each time.
pub(crate) fn gradients(method: &str, device: &Device) -> Result<Vec<Tensor>> {
    let (key, method): (Key, Method) = (Key::from_seed(7), toml::from_str(method)?);
    let params = Params::new(key.named("init"), DType::F32, device);
    let normal = |name: &str, shape: &[usize]| -> candle_core::Result<Tensor> {
        let start = key.named(name).normal(shape, DType::F32, &Device::Cpu)?.to_device(device)?;
        params.parameter(name, &start)
    };
    let logits = normal("logits", &[1, BATCH, LATENTS, CATEGORIES])?;
    let weight = normal("weight", &[PIXELS, LATENTS * CATEGORIES])?;
    let bias = normal("bias", &[PIXELS])?;
    let uniform = key.named("data").uniform((BATCH, PIXELS), DType::F32, &Device::Cpu)?;
    let x = uniform.lt(0.3f32)?.to_dtype(DType::F32)?.to_device(device)?;
    let zeros = Tensor::zeros((1, 1, LATENTS, CATEGORIES), DType::F32, device)?;
    let prior = Categorical::from_logits(&zeros)?;
    let program = |trace: &mut Trace<'_>| {
        let posterior = Categorical::from_logits(&logits)?;
        let z = trace.sample("z", &posterior, &prior)?;
        bernoulli_log_prob(&linear(&z.flatten_from(2)?, &weight, &bias)?, &x)
    };
    let estimators = method.build(&program, &mut params.clone(), key.named("estimator"))?;
    let surrogate = estimators.at(0).surrogate(&program, &Elbo::default(), key.named("noise"))?;
    let store = surrogate.loss.backward()?;
    let found = [&logits, &weight, &bias].into_iter().filter_map(|x| store.get(x).cloned());
    Ok([surrogate.loss.detach()].into_iter().chain(found).collect())
}
