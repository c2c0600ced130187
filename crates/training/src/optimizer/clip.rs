//! Clipping of gradients by their norm over all parameters.
use candle_core::backprop::GradStore;
use gumbel_kernels::optimizer::sums_of_squares;

use super::descent::gradient;
use super::{OptimizerError, config};
use crate::Params;

/// Scales all gradients by `max_norm / norm` where their global norm is larger than `max_norm`, and returns
/// the norm before.
///
/// The norm `√Σ g²` runs over all parameters (Pascanu et al., 2013), summed in double precision in name
/// order. A parameter without a gradient, or with one that is not finite, is an error that names it, and
/// nothing is scaled then. Gradients of other tensors in `grads` stay as they are.
pub fn clip_global_norm(
    params: &Params,
    grads: &mut GradStore,
    max_norm: f64,
) -> Result<f64, OptimizerError> {
    config::check("max_norm", max_norm, config::POSITIVE)?;
    let params = params.iter();
    let gradients = params
        .iter()
        .map(|(name, var)| gradient(grads, name, var))
        .collect::<Result<Vec<_>, OptimizerError>>()?;
    let mut sum = 0.;
    for (squares, (name, _)) in sums_of_squares(&gradients)?.iter().zip(&params) {
        if !squares.is_finite() {
            return Err(OptimizerError::NotFinite { name: name.clone() });
        }
        sum += squares;
    }
    let norm = sum.sqrt();
    if norm > max_norm {
        for (name, var) in &params {
            let scaled = gradient(grads, name, var)?.affine(max_norm / norm, 0.)?;
            grads.insert(var.as_tensor(), scaled.detach());
        }
    }
    Ok(norm)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};
    use gumbel_kernels::Key;

    use super::*;

    /// Parameters `a`, `b` with gradients (3, 0) and (0, 4): norm 5.
    fn setting() -> Result<(Params, GradStore, Tensor), OptimizerError> {
        let params = Params::new(Key::from_seed(1), DType::F32, &Device::Cpu);
        let builder = params.var_builder();
        let (a, b) = (builder.get(2, "a")?, builder.get((1, 2), "b")?);
        let mut grads = GradStore::default();
        grads.insert(&a, Tensor::new(&[3f32, 0.], &Device::Cpu)?);
        grads.insert(&b, Tensor::new(&[[0f32, 4.]], &Device::Cpu)?);
        let other = Tensor::new(&[100f32], &Device::Cpu)?;
        grads.insert(&other, other.clone());
        Ok((params, grads, other))
    }

    fn numbers(params: &Params, grads: &GradStore) -> Vec<f32> {
        let of_one = |(name, var): &(String, candle_core::Var)| {
            let gradient = gradient(grads, name, var).unwrap();
            gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        params.iter().iter().flat_map(of_one).collect()
    }

    #[test]
    fn the_norm_runs_over_all_parameters_and_only_over_them() -> Result<(), OptimizerError> {
        let (params, mut grads, other) = setting()?;
        assert_eq!(clip_global_norm(&params, &mut grads, 2.5)?, 5.);
        assert_eq!(numbers(&params, &grads), [1.5, 0., 0., 2.]);
        let untouched = grads.get(&other).unwrap().to_vec1::<f32>()?;
        assert_eq!(untouched, [100.]);
        assert_eq!(clip_global_norm(&params, &mut grads, 100.)?, 2.5);
        assert_eq!(numbers(&params, &grads), [1.5, 0., 0., 2.]);
        Ok(())
    }

    #[test]
    fn what_cannot_be_clipped_is_an_error_that_names_it() -> Result<(), OptimizerError> {
        for bad in [f32::NAN, f32::INFINITY] {
            let (params, mut grads, _) = setting()?;
            let b = params.get("b").unwrap();
            grads.insert(&b, Tensor::new(&[[bad, 0.]], &Device::Cpu)?);
            let error = clip_global_norm(&params, &mut grads, 1.).unwrap_err();
            assert!(matches!(error, OptimizerError::NotFinite { name } if name == "b"));
            grads.remove(&b);
            let error = clip_global_norm(&params, &mut grads, 1.).unwrap_err();
            assert!(matches!(error, OptimizerError::NoGradient { name } if name == "b"));
            let a = grads.get(&params.get("a").unwrap()).unwrap().to_vec1::<f32>()?;
            assert_eq!(a, [3., 0.]);
            for bound in [0., -1., f64::NAN] {
                assert!(clip_global_norm(&params, &mut grads, bound).is_err());
            }
        }
        Ok(())
    }
}
