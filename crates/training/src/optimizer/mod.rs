//! Optimisers whose whole state can be saved.
use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use gumbel_kernels::optimizer::first_not_finite;

use crate::Params;
use crate::params::{Mismatch, strict};

mod adam;
mod clip;
mod config;
mod radam;

pub use clip::clip_global_norm;
pub use config::OptimizerConfig;

/// Name of the number of steps in the state of every optimiser.
const STEP: &str = "optimizer.step";

/// What can go wrong in an update.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptimizerError {
    /// A setting outside its range.
    #[error("{name} must be {range}, got {value}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// Its range, in words.
        range: &'static str,
        /// The value.
        value: f64,
    },
    /// A parameter that the loss does not depend on.
    #[error(
        "parameter `{name}` has no gradient: the loss does not depend on it; leave it out of the model"
    )]
    NoGradient {
        /// The first such parameter in name order.
        name: String,
    },
    /// A gradient with a NaN or an infinity in it.
    #[error("the gradient of `{name}` is not finite")]
    NotFinite {
        /// The first such parameter in name order.
        name: String,
    },
    /// A parameter that was defined after the optimiser.
    #[error("parameter `{name}` is unknown to the optimiser; build the whole model before it")]
    Unknown {
        /// The parameter.
        name: String,
    },
    /// The tensors to load are not a state of this optimiser.
    #[error("this is not a state of this optimiser: {0}")]
    Mismatch(#[from] Mismatch),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl From<OptimizerError> for crate::Error {
    /// Exit codes: 2 for a setting, 65 for a state that does not fit, 77 for a gradient that is not finite.
    fn from(error: OptimizerError) -> Self {
        let code = match &error {
            OptimizerError::Setting { .. } => 2,
            OptimizerError::Mismatch(_) => 65,
            OptimizerError::NotFinite { .. } => 77,
            _ => 70,
        };
        Self::caller(code, error)
    }
}

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
    config: OptimizerConfig,
    steps: u64,
    /// State tensors of each parameter, in the order of [`OptimizerConfig::slots`].
    slots: BTreeMap<String, Vec<Var>>,
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

    /// How many steps were taken, those before a resume included.
    #[must_use]
    pub fn steps_taken(&self) -> u64 {
        self.steps
    }

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

    fn named_slots(&self) -> Vec<(String, Var)> {
        let mut named = Vec::new();
        for (name, slots) in &self.slots {
            for (kind, slot) in self.config.slots().iter().zip(slots) {
                named.push((format!("{kind}.{name}"), slot.clone()));
            }
        }
        named
    }
}

fn gradient<'a>(grads: &'a GradStore, name: &str, var: &Var) -> Result<&'a Tensor, OptimizerError> {
    grads.get(var.as_tensor()).ok_or_else(|| OptimizerError::NoGradient { name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use candle_core::DType;
    use gumbel_kernels::Key;

    use super::*;

    const STEPS: u64 = 20;
    const SIZES: [(&str, usize); 2] = [("a", 3), ("b", 1)];

    fn params(dtype: DType) -> Params {
        let params = Params::new(Key::from_seed(1), dtype, &Device::Cpu);
        let init = candle_nn::Init::Randn { mean: 1., stdev: 1. };
        for (name, size) in SIZES {
            params.var_builder().get_with_hints(size, name, init).unwrap();
        }
        params
    }

    /// Gradient of number `i` of all parameters at step `t`: any fixed function will do.
    fn slope(i: usize, t: u64) -> f64 {
        (1. + i as f64) * (0.7 * t as f64 + i as f64).cos() + 0.3
    }

    fn learning_rate(t: u64) -> f64 {
        0.1 / (t as f64).sqrt()
    }

    fn grads(params: &Params, t: u64) -> GradStore {
        let mut grads = GradStore::default();
        let mut first = 0;
        for (_, var) in params.iter() {
            let n = var.elem_count();
            let values: Vec<f64> = (first..first + n).map(|i| slope(i, t)).collect();
            let gradient =
                Tensor::new(values, &Device::Cpu).unwrap().to_dtype(var.dtype()).unwrap();
            grads.insert(&var, gradient);
            first += n;
        }
        grads
    }

    fn numbers(params: &Params) -> Vec<f64> {
        let of_one = |(_, var): (String, Var)| {
            var.detach().to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap()
        };
        params.iter().into_iter().flat_map(of_one).collect()
    }

    fn run(config: &OptimizerConfig, dtype: DType) -> Vec<f64> {
        let params = params(dtype);
        let mut optimizer = Optimizer::new(config, &params).unwrap();
        for t in 1..=STEPS {
            optimizer.step(&params, &grads(&params, t), learning_rate(t)).unwrap();
        }
        assert_eq!(optimizer.steps_taken(), STEPS);
        numbers(&params)
    }

    /// Compares with `rule(θ, state, g, lr, t)` on one number, in both precisions.
    fn follows(config: &OptimizerConfig, rule: impl Fn(&mut f64, &mut [f64; 2], f64, f64, i32)) {
        for (dtype, tolerance) in [(DType::F64, 1e-13), (DType::F32, 3e-6)] {
            let mut expected = numbers(&params(dtype));
            for (i, x) in expected.iter_mut().enumerate() {
                let mut state = [0.; 2];
                for t in 1..=STEPS {
                    rule(x, &mut state, slope(i, t), learning_rate(t), t as i32);
                }
            }
            for (got, expected) in run(config, dtype).iter().zip(expected) {
                assert!((got - expected).abs() < tolerance, "{dtype:?}: {got} {expected}");
            }
        }
    }

    #[test]
    fn adam_is_algorithm_1_of_kingma_and_ba() {
        for decay in [0., 0.2] {
            let config = OptimizerConfig::Adam {
                beta1: 0.8,
                beta2: 0.95,
                epsilon: 1e-3,
                weight_decay: decay,
            };
            follows(&config, |x, [m, v], g, lr, t| {
                *x -= lr * decay * *x;
                *m = 0.8 * *m + 0.2 * g;
                *v = 0.95 * *v + 0.05 * g * g;
                let m_hat = *m / (1. - 0.8f64.powi(t));
                let v_hat = *v / (1. - 0.95f64.powi(t));
                *x -= lr * m_hat / (v_hat.sqrt() + 1e-3);
            });
        }
    }

    #[test]
    fn radam_starts_without_adaptation_and_then_rectifies() {
        let config =
            OptimizerConfig::Radam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.1 };
        let adapted = std::cell::Cell::new([0, 0]);
        follows(&config, |x, [m, v], g, lr, t| {
            *x *= 1. - lr * 0.1;
            *m = 0.9 * *m + 0.1 * g;
            *v = 0.999 * *v + 0.001 * g * g;
            let m_hat = *m / (1. - 0.9f64.powi(t));
            let bias = 1. - 0.999f64.powi(t);
            let rho_inf = 1999.;
            let rho = rho_inf - 2. * f64::from(t) * 0.999f64.powi(t) / bias;
            let [plain, rectified] = adapted.get();
            if rho > 5. {
                let r2 = (rho - 4.) * (rho - 2.) * rho_inf;
                let r = (r2 / ((rho_inf - 4.) * (rho_inf - 2.) * rho)).sqrt();
                *x -= lr * m_hat * r * bias.sqrt() / (v.sqrt() + 1e-8);
                adapted.set([plain, rectified + 1]);
            } else {
                *x -= lr * m_hat;
                adapted.set([plain + 1, rectified]);
            }
        });
        // Two precisions, four numbers: five plain steps, the rest rectified.
        assert_eq!(adapted.get(), [8 * 5, 8 * (STEPS as i32 - 5)]);
    }

    #[test]
    fn sgd_accumulates_gradients_with_and_without_nesterov() {
        for (mu, nesterov) in [(0.9, false), (0.9, true), (0., false)] {
            follows(&OptimizerConfig::Sgd { momentum: mu, nesterov }, |x, [m, _], g, lr, t| {
                *m = if t == 1 { g } else { mu * *m + g };
                *x -= lr * if nesterov { g + mu * *m } else { *m };
            });
        }
    }

    fn all_kinds() -> [OptimizerConfig; 3] {
        let radam =
            OptimizerConfig::Radam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };
        let sgd = OptimizerConfig::Sgd { momentum: 0.9, nesterov: true };
        [OptimizerConfig::default(), radam, sgd]
    }

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
            assert_eq!(second.steps_taken(), 7);
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
            assert_eq!((optimizer.steps_taken(), &numbers(&params)[..4]), (0, &before[..]));
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
        assert_eq!(optimizer.steps_taken(), 1);
        let mut sgd =
            Optimizer::new(&OptimizerConfig::Sgd { momentum: 0.9, nesterov: false }, &params)?;
        assert!(sgd.load_state(&state).is_err());
        Ok(())
    }
}
