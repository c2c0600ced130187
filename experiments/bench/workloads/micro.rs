//! Parts of a step on their own: the update of all parameters, and random numbers.
use anyhow::Result;
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Shape, Tensor};
use gumbel::Key;
use gumbel_training::{Optimizer, OptimizerConfig, Params};

use super::Workload;

/// Outputs and inputs of the layers of W1.
const LAYERS: [(usize, usize); 6] =
    [(512, 784), (256, 512), (300, 256), (256, 300), (512, 256), (784, 512)];

/// How many random numbers are drawn in a step.
const DRAWS: usize = 1 << 22;

/// Adam over the parameters of W1, with a gradient that stays the same.
struct Update {
    params: Params,
    gradients: GradStore,
    optimizer: Optimizer,
}

pub(crate) fn adam(device: &Device) -> Result<Box<dyn Workload>> {
    let key = Key::from_seed(4);
    let params = Params::new(key, DType::F32, device);
    let mut gradients = GradStore::default();
    let mut parameter = |name: &str, shape: Shape| -> Result<()> {
        let normal = |key: Key| key.named(name).normal(&shape, DType::F32, device);
        let var = params.parameter(name, &normal(key.named("value"))?.affine(0.01, 0.)?)?;
        gradients.insert(&var, normal(key.named("gradient"))?);
        Ok(())
    };
    for (i, (outputs, inputs)) in LAYERS.into_iter().enumerate() {
        parameter(&format!("{i}.weight"), Shape::from((outputs, inputs)))?;
        parameter(&format!("{i}.bias"), Shape::from(outputs))?;
    }
    let optimizer = Optimizer::new(&OptimizerConfig::default(), &params)?;
    Ok(Box::new(Update { params, gradients, optimizer }))
}

impl Workload for Update {
    fn step(&mut self) -> Result<f64> {
        self.optimizer.step(&self.params, &self.gradients, 1e-3)?;
        Ok(0.)
    }
}

type Draw = fn(Key, usize, DType, &Device) -> candle_core::Result<Tensor>;

/// 2²² random numbers of one kind.
struct Noise {
    device: Device,
    draw: Draw,
    key: Key,
    steps: u64,
}

pub(crate) fn noise(device: &Device, draw: Draw) -> Result<Box<dyn Workload>> {
    Ok(Box::new(Noise { device: device.clone(), draw, key: Key::from_seed(5), steps: 0 }))
}

impl Workload for Noise {
    fn step(&mut self) -> Result<f64> {
        let key = self.key.fold_in(self.steps);
        self.steps += 1;
        (self.draw)(key, DRAWS, DType::F32, &self.device)?;
        Ok(0.)
    }
}
