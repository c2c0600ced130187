//! Steps of all parameters by the rule of a configuration.
use candle_core::{Tensor, Var};
use gumbel_kernels::optimizer::{AdamTensors, adam_update_all, sgd_update};

use super::{adam, radam};
use crate::OptimizerConfig;

impl OptimizerConfig {
    /// Names of the state tensors of one parameter.
    pub(crate) fn slots(&self) -> &'static [&'static str] {
        match self {
            Self::Adam(_) => &["adam.m", "adam.v"],
            Self::Radam(_) => &["radam.m", "radam.v"],
            Self::Sgd { .. } => &["sgd.momentum"],
        }
    }

    /// Step number `t` (from 1) of all parameters, in place: each with its state and its gradient.
    pub(crate) fn update(
        &self,
        tensors: &[(&Var, &[Var], &Tensor)],
        learning_rate: f64,
        t: u64,
    ) -> candle_core::Result<()> {
        let step = match *self {
            Self::Adam(config) => adam::step(config, learning_rate, t),
            Self::Radam(config) => radam::step(config, learning_rate, t),
            Self::Sgd { momentum, nesterov } => {
                return tensors.iter().try_for_each(|(parameter, slots, gradient)| {
                    let [m] = self.state_of(slots)?;
                    sgd_update(parameter, m, gradient, learning_rate, momentum, nesterov)
                });
            }
        };
        let mut of_adam = Vec::with_capacity(tensors.len());
        for (parameter, slots, gradient) in tensors {
            let [m, v] = self.state_of(slots)?;
            of_adam.push(AdamTensors { parameter, m, v, gradient });
        }
        adam_update_all(&of_adam, &step)
    }

    fn state_of<'a, const N: usize>(&self, slots: &'a [Var]) -> candle_core::Result<&'a [Var; N]> {
        match slots.try_into() {
            Ok(slots) => Ok(slots),
            Err(_) => candle_core::bail!("{:?} has {} state tensors", self.slots(), slots.len()),
        }
    }
}
