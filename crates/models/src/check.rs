//! What tests of models have in common.
use candle_core::{DType, Device, Result};
use candle_nn::{VarBuilder, VarMap};
use gumbel_kernels::Key;

/// What `build` makes, with its parameters: irregular numbers, normal with standard deviation `scale`, each by its name.
pub(crate) fn irregular<M>(
    scale: f64,
    build: impl FnOnce(&VarBuilder<'_>) -> Result<M>,
) -> Result<(M, VarMap)> {
    let map = VarMap::new();
    let model = build(&VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu))?;
    #[expect(clippy::iter_over_hash_type, reason = "each variable is set by its own name")]
    for (name, var) in map.data().lock().unwrap().iter() {
        let key = Key::from_seed(1).named(name);
        var.set(&(key.normal(var.shape(), DType::F32, &Device::Cpu)? * scale)?)?;
    }
    Ok((model, map))
}
