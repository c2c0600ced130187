//! W3: a Gumbel-Softmax sample of standard normal logits, and its gradient.
use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor, Var};
use gumbel::Key;
use gumbel_kernels::{Forward, backward_with, gumbel_softmax};

use super::Workload;

/// One sample of each row at temperature 1, soft or straight-through, forward and backward.
struct Sample {
    logits: Var,
    gradient: Tensor,
    forward: Forward,
    noise: Key,
    steps: u64,
}

pub(crate) fn new(
    device: &Device,
    rows: usize,
    categories: usize,
    forward: Forward,
) -> Result<Box<dyn Workload>> {
    let key = Key::from_seed(3);
    let normal = |name| key.named(name).normal((1, rows, categories), DType::F32, device);
    Ok(Box::new(Sample {
        logits: Var::from_tensor(&normal("logits")?)?,
        gradient: normal("gradient")?,
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
        let gradients = backward_with(&y, &self.gradient)?;
        gradients.get(&self.logits).context("the logits have no gradient")?;
        Ok(0.)
    }
}
