//! What stands behind candle's `VarBuilder`.
use std::sync::Arc;

use candle_core::{DType, Device, Result, Shape, Tensor, bail};
use candle_nn::Init;
use candle_nn::var_builder::SimpleBackend;

use super::initial;
use super::shared::Shared;

/// Creates each parameter at its first and only request.
pub(super) struct Trainable(pub(super) Arc<Shared>);

/// Hands out existing parameters, detached.
pub(super) struct Frozen(pub(super) Arc<Shared>);

impl SimpleBackend for Trainable {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        init: Init,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let initial = || initial::value(self.0.key, name, shape, init, dtype, device);
        Ok(self.0.create(name, true, initial)?.as_tensor().clone())
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        bail!("parameter `{name}` cannot be created without a shape; use `get`");
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.0.var(name).is_some()
    }
}

impl SimpleBackend for Frozen {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: Init,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let tensor = self.get_unchecked(name, dtype, device)?;
        if tensor.shape() != &shape {
            bail!("parameter `{name}` has shape {:?}, asked for {shape:?}", tensor.shape());
        }
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let Some(var) = self.0.var(name) else {
            bail!("there is no parameter `{name}`; build the model to train first");
        };
        // A conversion would be a copy, which does not follow training.
        if var.dtype() != dtype || !var.device().same_device(device) {
            bail!(
                "parameter `{name}` is {:?} on {:?}, asked for {dtype:?} on {device:?}",
                var.dtype(),
                var.device()
            );
        }
        Ok(var.as_detached_tensor())
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.0.var(name).is_some()
    }
}
