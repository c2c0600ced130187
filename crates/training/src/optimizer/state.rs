//! All that an optimiser knows, as tensors.
use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};

use super::{Optimizer, OptimizerError};
use crate::params::strict;

/// Name of the number of steps in the state of every optimiser.
const STEP: &str = "optimizer.step";

impl Optimizer {
    /// A copy of the whole state: `adam.m.<parameter>` and the like, and `optimizer.step`, a scalar.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>, OptimizerError> {
        let mut state = BTreeMap::new();
        for (name, slot) in self.named_slots() {
            state.insert(name, slot.detach().copy()?);
        }
        // Counts beyond 2⁶³ cannot be reached.
        state.insert(STEP.to_owned(), Tensor::new(self.steps as i64, &Device::Cpu)?);
        Ok(state)
    }

    /// Goes on from a state that [`Optimizer::state`] returned.
    ///
    /// Names, shapes and dtypes must be exactly those of this optimiser; nothing is loaded otherwise.
    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<(), OptimizerError> {
        let step = Tensor::new(0i64, &Device::Cpu)?;
        let slots = self.named_slots();
        let expected = slots.iter().map(|(name, slot)| (name.as_str(), strict::Kind::of(slot)));
        strict::compare(
            expected.chain([(STEP, strict::Kind::of(&step))]),
            state.iter().map(|(name, tensor)| (name.as_str(), strict::Kind::of(tensor))),
        )?;
        let steps = state.get(STEP).unwrap_or(&step).to_scalar::<i64>()?;
        let steps = u64::try_from(steps).map_err(|_| OptimizerError::Setting {
            name: STEP,
            range: "a number of steps",
            value: steps as f64,
        })?;
        for (name, slot) in &slots {
            if let Some(tensor) = state.get(name) {
                slot.set(&tensor.detach().to_device(slot.device())?)?;
            }
        }
        self.steps = steps;
        Ok(())
    }

    pub(crate) fn named_slots(&self) -> Vec<(String, Var)> {
        let mut named = Vec::new();
        for (name, slots) in &self.slots {
            for (kind, slot) in self.config.slots().iter().zip(slots) {
                named.push((format!("{kind}.{name}"), slot.clone()));
            }
        }
        named
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;
    use gumbel_kernels::Key;

    use super::super::OptimizerConfig;
    use super::super::check::{
        SIZES, STEPS, all_kinds, grads, learning_rate, numbers, params, run,
    };
    use super::*;
    use crate::Params;

    #[test]
    fn a_resumed_optimiser_goes_on_bit_for_bit() -> Result<(), Box<dyn std::error::Error>> {
        for config in all_kinds() {
            let before = params(DType::F32);
            let mut first = Optimizer::new(&config, &before)?;
            for t in 1..=7 {
                first.step(&before, &grads(&before, t), learning_rate(t))?;
            }
            let (tensors, state) = (before.tensors()?, first.state()?);
            // What goes on here must not reach into the saved state.
            first.step(&before, &grads(&before, 8), 1.)?;

            let after = Params::new(Key::from_seed(2), DType::F32, &Device::Cpu);
            for (name, size) in SIZES {
                after.var_builder().get(size, name)?;
            }
            after.load(&tensors)?;
            let mut second = Optimizer::new(&config, &after)?;
            second.load_state(&state)?;
            assert_eq!(second.steps, 7);
            for t in 8..=STEPS {
                second.step(&after, &grads(&after, t), learning_rate(t))?;
            }
            let bits =
                |numbers: Vec<f64>| numbers.into_iter().map(f64::to_bits).collect::<Vec<_>>();
            assert_eq!(bits(numbers(&after)), bits(run(&config, DType::F32)), "{config:?}");
        }
        Ok(())
    }

    #[test]
    fn states_are_loaded_strictly() -> Result<(), OptimizerError> {
        let params = params(DType::F32);
        let mut optimizer = Optimizer::new(&OptimizerConfig::default(), &params)?;
        optimizer.step(&params, &grads(&params, 1), 0.1)?;
        let state = optimizer.state()?;
        let names: Vec<&str> = state.keys().map(String::as_str).collect();
        assert_eq!(names, ["adam.m.a", "adam.m.b", "adam.v.a", "adam.v.b", "optimizer.step"]);
        let mut wrong = state.clone();
        wrong.remove("optimizer.step");
        wrong.insert("sgd.momentum.a".into(), state["adam.m.a"].clone());
        wrong.insert("adam.v.b".into(), state["adam.v.a"].clone());
        let error = optimizer.load_state(&wrong).unwrap_err().to_string();
        for part in ["missing `optimizer.step`", "unknown `sgd.momentum.a`", "`adam.v.b`: F32 [1]"]
        {
            assert!(error.contains(part), "{part}: {error}");
        }
        let mut negative = state.clone();
        negative.insert(STEP.into(), Tensor::new(-1i64, &Device::Cpu)?);
        assert!(optimizer.load_state(&negative).is_err());
        assert_eq!(optimizer.steps, 1);
        let mut sgd =
            Optimizer::new(&OptimizerConfig::Sgd { momentum: 0.9, nesterov: false }, &params)?;
        assert!(sgd.load_state(&state).is_err());
        Ok(())
    }
}
