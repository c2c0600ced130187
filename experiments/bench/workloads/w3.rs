//! W3: a Gumbel-Softmax sample of standard normal logits, and its gradient.
use anyhow::{Context, Result};
use candle_core::{DType, Device, Var};
use gumbel::Key;
use gumbel_kernels::{Forward, gumbel_softmax};

use super::Workload;
use crate::upstream::Upstream;

/// One sample of each row at temperature 1, soft or straight-through, forward and backward.
struct Sample {
    logits: Var,
    upstream: Upstream,
    forward: Forward,
    noise: Key,
    steps: u64,
}

pub(crate) fn new(rows: usize, categories: usize, forward: Forward) -> Result<Box<dyn Workload>> {
    let key = Key::from_seed(3);
    let normal = |name| key.named(name).normal((1, rows, categories), DType::F32, &Device::Cpu);
    Ok(Box::new(Sample {
        logits: Var::from_tensor(&normal("logits")?)?,
        upstream: Upstream(normal("gradient")?),
        forward,
        noise: key.named("noise"),
        steps: 0,
    }))
}

impl Workload for Sample {
    fn step(&mut self) -> Result<f64> {
        let noise = self.noise.fold_in(self.steps);
        self.steps += 1;
        let y = gumbel_softmax(&self.logits, 1, 1., self.forward, noise)?;
        let gradients = self.upstream.backward(&y)?;
        gradients.get(&self.logits).context("the logits have no gradient")?;
        Ok(0.)
    }
}
