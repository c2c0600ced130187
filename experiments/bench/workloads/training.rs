//! What the workloads that train a model have in common.
use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use gumbel::Key;
use gumbel_training::{Optimizer, OptimizerConfig, Params};

/// Pixels of an image.
pub(crate) const PIXELS: usize = 784;

const LEARNING_RATE: f64 = 1e-3;

/// Parameters under an optimiser.
pub(crate) struct Training {
    pub(crate) params: Params,
    optimizer: Optimizer,
}

impl Training {
    /// For parameters that are all defined.
    pub(crate) fn new(params: Params, config: &OptimizerConfig) -> Result<Self> {
        let optimizer = Optimizer::new(config, &params)?;
        Ok(Self { params, optimizer })
    }

    /// One step down the gradient of `loss`, which is read back.
    pub(crate) fn descend(&mut self, loss: Tensor) -> Result<f64> {
        let gradients = gumbel_kernels::backward(&loss)?;
        let value = loss.to_scalar::<f32>()?;
        // With the loss goes the graph, and what it keeps of the forward pass.
        drop(loss);
        self.optimizer.step(&self.params, &gradients, LEARNING_RATE)?;
        Ok(f64::from(value))
    }
}

/// Draws the weights and biases of all layers uniformly from `±1/√inputs`, as PyTorch's layers start.
///
/// A layer is a pair of parameters `….weight: [outputs, inputs]` and `….bias: [outputs]`.
pub(crate) fn start_as_pytorch(params: &Params, key: Key) -> Result<()> {
    for (name, weight) in params.iter() {
        let (Some(layer), [_, inputs]) = (name.strip_suffix(".weight"), weight.dims()) else {
            continue;
        };
        let bound = (*inputs as f64).sqrt().recip();
        for part in [name.clone(), format!("{layer}.bias")] {
            if let Some(var) = params.get(&part) {
                let draw = key.named(&part).uniform(var.shape(), DType::F32, var.device())?;
                params.set(&part, &draw.affine(2. * bound, -bound)?)?;
            }
        }
    }
    Ok(())
}

/// Random binary images, of whose pixels 13 % are 1; batches walk over them.
pub(crate) struct Images(Tensor);

impl Images {
    const COUNT: usize = 10_000;

    pub(crate) fn new(key: Key, device: &Device) -> Result<Self> {
        let uniform = key.uniform((Self::COUNT, PIXELS), DType::F32, device)?;
        Ok(Self(uniform.lt(0.13f32)?.to_dtype(DType::F32)?))
    }

    pub(crate) fn device(&self) -> &Device {
        self.0.device()
    }

    /// Batch number `step`, `[size, PIXELS]`; the walk starts anew where less than a batch is left.
    pub(crate) fn batch(&self, step: u64, size: usize) -> Result<Tensor> {
        let batch = step as usize % (Self::COUNT / size);
        Ok(self.0.narrow(0, batch * size, size)?)
    }
}
