//! Steps down the gradient.
use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use gumbel_kernels::optimizer::first_not_finite;

use super::{OptimizerConfig, OptimizerError, config};
use crate::Params;

/// An optimiser of [`Params`]: a rule from [`OptimizerConfig`] and its state.
///
/// The state is complete: an optimiser that loads it goes on bit for bit as the one that saved it. The
/// learning rate is no part of it; hand it to every step, from a schedule.
///
/// ```
/// use candle_core::{DType, Device};
/// use gumbel_kernels::Key;
/// use gumbel_training::{Optimizer, OptimizerConfig, Params};
/// let params = Params::new(Key::from_seed(1), DType::F32, &Device::Cpu);
/// let x = params.var_builder().get_with_hints(2, "x", candle_nn::Init::Const(1.0))?;
/// let mut optimizer = Optimizer::new(&OptimizerConfig::default(), &params)?;
/// let gradients = x.sqr()?.sum_all()?.backward()?;
/// optimizer.step(&params, &gradients, 0.25)?;
/// assert!(x.to_vec1::<f32>()?.iter().all(|x| (x - 0.75).abs() < 1e-6));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Optimizer {
    pub(super) config: OptimizerConfig,
    /// How many were taken, those before a resume included.
    pub(super) steps: u64,
    /// State tensors of each parameter, in the order of [`OptimizerConfig::slots`].
    pub(super) slots: BTreeMap<String, Vec<Var>>,
}

impl Optimizer {
    /// The optimiser before its first step, for the parameters that exist now.
    pub fn new(config: &OptimizerConfig, params: &Params) -> Result<Self, OptimizerError> {
        config.check()?;
        let zeros = |(name, var): (String, Var)| {
            let slots =
                config.slots().iter().map(|_| Ok(Var::from_tensor(&var.detach().zeros_like()?)?));
            Ok((name, slots.collect::<Result<_, OptimizerError>>()?))
        };
        let slots = params.iter().into_iter().map(zeros).collect::<Result<_, OptimizerError>>()?;
        Ok(Self { config: config.clone(), steps: 0, slots })
    }

    /// Changes every parameter by one step down its gradient, in name order.
    ///
    /// An error, with nothing changed, if a parameter has no gradient, or one that is not finite.
    pub fn step(
        &mut self,
        params: &Params,
        grads: &GradStore,
        learning_rate: f64,
    ) -> Result<(), OptimizerError> {
        config::check("learning_rate", learning_rate, config::NOT_NEGATIVE)?;
        let params = params.iter();
        let mut tensors = Vec::with_capacity(params.len());
        for (name, var) in &params {
            let Some(slots) = self.slots.get(name) else {
                return Err(OptimizerError::Unknown { name: name.clone() });
            };
            let gradient = gradient(grads, name, var)?;
            if gradient.dims() != var.dims() {
                let (got, expected) = (gradient.dims(), var.dims());
                let text = format!("the gradient of `{name}` has shape {got:?}, not {expected:?}");
                return Err(candle_core::Error::Msg(text).into());
            }
            tensors.push((var, slots.as_slice(), gradient));
        }
        let gradients: Vec<&Tensor> = tensors.iter().map(|(_, _, gradient)| *gradient).collect();
        if let Some(i) = first_not_finite(&gradients)? {
            return Err(OptimizerError::NotFinite { name: params[i].0.clone() });
        }
        self.steps += 1;
        Ok(self.config.update(&tensors, learning_rate, self.steps)?)
    }
}

/// The gradient of the parameter `name`.
pub(super) fn gradient<'a>(
    grads: &'a GradStore,
    name: &str,
    var: &Var,
) -> Result<&'a Tensor, OptimizerError> {
    grads.get(var.as_tensor()).ok_or_else(|| OptimizerError::NoGradient { name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::super::check::{all_kinds, grads, numbers, params};
    use super::*;

    #[test]
    fn a_bad_gradient_is_named_and_changes_nothing() -> Result<(), OptimizerError> {
        for config in all_kinds() {
            let params = params(DType::F32);
            let mut optimizer = Optimizer::new(&config, &params)?;
            let before = numbers(&params);
            let b = params.get("b").unwrap();
            let mut store = grads(&params, 1);
            store.insert(&b, Tensor::new(&[f32::NAN], &Device::Cpu)?);
            let error = optimizer.step(&params, &store, 0.1).unwrap_err();
            assert!(matches!(&error, OptimizerError::NotFinite { name } if name == "b"), "{error}");
            store.insert(&b, Tensor::new(&[1f32, 2.], &Device::Cpu)?);
            let error = optimizer.step(&params, &store, 0.1).unwrap_err();
            assert!(error.to_string().contains("`b` has shape [2], not [1]"), "{error}");
            store.remove(&b);
            let error = optimizer.step(&params, &store, 0.1).unwrap_err();
            assert!(
                matches!(&error, OptimizerError::NoGradient { name } if name == "b"),
                "{error}"
            );
            assert!(optimizer.step(&params, &grads(&params, 1), f64::NAN).is_err());
            params.var_builder().get(1, "late")?;
            let error = optimizer.step(&params, &grads(&params, 1), 0.1).unwrap_err();
            assert!(
                matches!(&error, OptimizerError::Unknown { name } if name == "late"),
                "{error}"
            );
            assert_eq!((optimizer.steps, &numbers(&params)[..4]), (0, &before[..]));
        }
        Ok(())
    }
}
