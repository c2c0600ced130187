//! The trainable parameters of a model, by name.
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use gumbel_kernels::Key;

use super::ParamsError;
use super::backend::{Frozen, Trainable};
use super::shared::{Entry, Shared};
use super::strict::{self, Kind};

/// The trainable parameters of a model: created by name, kept in name order, all on one device.
///
/// The initial value of a parameter depends on the key and on the parameter's full name, and on nothing
/// else: not on the order in which layers are built, not on other parameters, not on the device. A clone
/// is a second handle on the same parameters.
///
/// ```
/// use candle_core::{DType, Device};
/// use gumbel_kernels::Key;
/// use gumbel_training::Params;
/// let params = Params::new(Key::from_seed(1), DType::F32, &Device::Cpu);
/// let layer = candle_nn::linear(784, 200, params.var_builder().pp("encoder"))?;
/// assert_eq!(params.count(), 784 * 200 + 200);
/// // The same layer for evaluation: no graph, follows training.
/// let layer = candle_nn::linear(784, 200, params.frozen().pp("encoder"))?;
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Params {
    shared: Arc<Shared>,
}

impl Params {
    /// No parameters yet. Use a key of their own, such as `key.named("init")`.
    #[must_use]
    pub fn new(key: Key, dtype: DType, device: &Device) -> Self {
        let entries = Mutex::new(BTreeMap::new());
        Self { shared: Arc::new(Shared { key, dtype, device: device.clone(), entries }) }
    }

    /// Builds a model to train: each name creates its parameter from the layer's initialisation.
    ///
    /// A name that exists already is an error, so that two layers never share a parameter by accident.
    #[must_use]
    pub fn var_builder(&self) -> VarBuilder<'static> {
        self.builder(Box::new(Trainable(self.shared.clone())))
    }

    /// Builds the same model for evaluation: each name gives the existing parameter as a detached tensor
    /// that shares its storage, so that the model records no graph and follows training.
    ///
    /// A name that does not exist, or another shape or dtype, is an error.
    #[must_use]
    pub fn frozen(&self) -> VarBuilder<'static> {
        self.builder(Box::new(Frozen(self.shared.clone())))
    }

    fn builder(
        &self,
        backend: Box<dyn candle_nn::var_builder::SimpleBackend>,
    ) -> VarBuilder<'static> {
        VarBuilder::from_backend(backend, self.shared.dtype, self.shared.device.clone())
    }

    /// All parameters in name order; running statistics are not among them.
    #[must_use]
    pub fn iter(&self) -> Vec<(String, Var)> {
        let entries = self.shared.entries();
        let trained = entries.iter().filter(|(_, entry)| entry.trained);
        trained.map(|(name, entry)| (name.clone(), entry.var.clone())).collect()
    }

    /// A parameter that starts at a given value.
    ///
    /// # Errors
    /// If the name is taken.
    pub fn parameter(&self, name: &str, initial: &Tensor) -> candle_core::Result<Tensor> {
        let var = self.shared.create(name, true, || Var::from_tensor(&initial.detach()))?;
        Ok(var.as_tensor().clone())
    }

    /// A running statistic that starts at a given value: saved and loaded with the parameters, and moved
    /// by whoever owns it, not by the optimiser.
    ///
    /// # Errors
    /// If the name is taken.
    pub fn statistic(&self, name: &str, initial: &Tensor) -> candle_core::Result<Var> {
        self.shared.create(name, false, || Var::from_tensor(&initial.detach()))
    }

    /// All running statistics in name order.
    #[must_use]
    pub fn statistics(&self) -> Vec<Var> {
        let entries = self.shared.entries();
        entries.values().filter(|entry| !entry.trained).map(|entry| entry.var.clone()).collect()
    }

    /// The same with their names.
    pub(crate) fn named_statistics(&self) -> Vec<(String, Var)> {
        let entries = self.shared.entries();
        let kept = entries.iter().filter(|(_, entry)| !entry.trained);
        kept.map(|(name, entry)| (name.clone(), entry.var.clone())).collect()
    }

    /// The parameter or running statistic of that full name, such as `encoder.weight`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Var> {
        self.shared.var(name)
    }

    /// How many numbers there are to train, over all parameters.
    #[must_use]
    pub fn count(&self) -> usize {
        self.iter().iter().map(|(_, var)| var.elem_count()).sum()
    }

    /// Copies of all parameters and running statistics, by name: what a checkpoint holds.
    pub fn tensors(&self) -> Result<BTreeMap<String, Tensor>, ParamsError> {
        let copy =
            |(name, entry): (&String, &Entry)| Ok((name.clone(), entry.var.detach().copy()?));
        self.shared.entries().iter().map(copy).collect()
    }

    /// Overwrites every parameter and running statistic, in place.
    ///
    /// Names, shapes and dtypes must be exactly those of the model; the error lists what is missing, what
    /// is too much and what differs, and nothing is overwritten then.
    pub fn load(&self, tensors: &BTreeMap<String, Tensor>) -> Result<(), ParamsError> {
        let entries = self.shared.entries();
        strict::compare(
            entries.iter().map(|(name, entry)| (name.as_str(), Kind::of(&entry.var))),
            tensors.iter().map(|(name, tensor)| (name.as_str(), Kind::of(tensor))),
        )?;
        for (entry, tensor) in entries.values().zip(tensors.values()) {
            overwrite(&entry.var, tensor)?;
        }
        Ok(())
    }

    /// Overwrites one parameter, in place; the value (same shape, any number type) is converted.
    ///
    /// For initial values that come from the data, such as the log-odds of each pixel's base rate as
    /// the bias of a decoder.
    pub fn set(&self, name: &str, value: &Tensor) -> Result<(), ParamsError> {
        let Some(var) = self.shared.var(name) else {
            let known = self.shared.entries().keys().cloned().collect();
            return Err(ParamsError::Unknown { name: name.to_owned(), known });
        };
        if var.dims() != value.dims() {
            let (expected, got) = (var.dims().to_vec(), value.dims().to_vec());
            return Err(ParamsError::Shape { name: name.to_owned(), expected, got });
        }
        Ok(overwrite(&var, value)?)
    }
}

fn overwrite(var: &Var, value: &Tensor) -> candle_core::Result<()> {
    var.set(&value.detach().to_device(var.device())?.to_dtype(var.dtype())?)
}

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shapes = self.iter().into_iter().map(|(name, var)| (name, var.dims().to_vec()));
        f.debug_map().entries(shapes).finish()
    }
}

#[cfg(test)]
mod tests {
    use candle_nn::Module;

    use super::*;

    fn params() -> Params {
        Params::new(Key::from_seed(1), DType::F32, &Device::Cpu)
    }

    fn numbers(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn parameters_are_in_name_order_whatever_the_order_of_creation() -> candle_core::Result<()> {
        let (forwards, backwards) = (params(), params());
        let layer = |p: &Params, name| candle_nn::linear(3, 2, p.var_builder().pp(name));
        layer(&forwards, "a")?;
        layer(&forwards, "b")?;
        layer(&backwards, "b")?;
        layer(&backwards, "a")?;
        let names: Vec<String> = forwards.iter().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a.bias", "a.weight", "b.bias", "b.weight"]);
        for ((name, x), (other, y)) in forwards.iter().iter().zip(backwards.iter()) {
            assert_eq!((name, numbers(x)), (&other, numbers(&y)));
        }
        assert_ne!(
            numbers(&forwards.get("a.bias").unwrap()),
            numbers(&forwards.get("b.bias").unwrap())
        );
        assert_eq!(forwards.count(), 2 * (3 * 2 + 2));
        Ok(())
    }

    #[test]
    fn a_name_defined_twice_is_an_error() -> candle_core::Result<()> {
        let params = params();
        params.var_builder().get((2, 3), "x")?;
        for shape in [(2, 3), (3, 2)] {
            let error = params.var_builder().get(shape, "x").unwrap_err().to_string();
            assert!(error.contains("parameter `x` is defined twice"), "{error}");
        }
        assert_eq!(params.count(), 6);
        Ok(())
    }

    #[test]
    fn a_frozen_model_follows_training_and_records_no_graph() -> candle_core::Result<()> {
        let params = params();
        let trained = candle_nn::linear(3, 2, params.var_builder().pp("layer"))?;
        let frozen = candle_nn::linear(3, 2, params.frozen().pp("layer"))?;
        let x = Tensor::new(&[[1f32, -2., 3.]], &Device::Cpu)?;
        assert!(trained.forward(&x)?.track_op() && !frozen.forward(&x)?.track_op());
        let before = numbers(&frozen.forward(&x)?);
        let weight = params.get("layer.weight").unwrap();
        weight.set(&weight.detach().affine(2., 1.)?)?;
        assert_eq!(numbers(&frozen.forward(&x)?), numbers(&trained.forward(&x)?));
        assert_ne!(numbers(&frozen.forward(&x)?), before);
        Ok(())
    }

    #[test]
    fn frozen_refuses_what_does_not_exist() -> candle_core::Result<()> {
        let params = params();
        params.var_builder().get((2, 3), "x")?;
        let frozen = params.frozen();
        assert!(frozen.contains_tensor("x") && !frozen.contains_tensor("y"));
        let errors = [
            frozen.get((2, 3), "y").unwrap_err(),
            frozen.get((3, 2), "x").unwrap_err(),
            frozen.to_dtype(DType::F64).get((2, 3), "x").unwrap_err(),
        ];
        for (error, part) in errors.iter().zip(["no parameter `y`", "shape", "F64"]) {
            assert!(error.to_string().contains(part), "{error}");
        }
        Ok(())
    }

    #[test]
    fn what_was_saved_loads_in_place() -> Result<(), ParamsError> {
        let (a, b) = (params(), Params::new(Key::from_seed(2), DType::F32, &Device::Cpu));
        for p in [&a, &b] {
            candle_nn::linear(3, 2, p.var_builder())?;
        }
        let saved = a.tensors()?;
        assert!(saved.values().all(|tensor| !tensor.track_op()));
        let frozen = b.frozen().get((2, 3), "weight")?;
        b.load(&saved)?;
        assert_eq!(numbers(&frozen), numbers(&a.get("weight").unwrap()));
        // Copies: training goes on without changing them.
        a.set("weight", &Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?)?;
        assert_eq!(numbers(&frozen), numbers(&saved["weight"]));
        Ok(())
    }

    #[test]
    fn loading_is_strict_and_changes_nothing_on_error() -> Result<(), ParamsError> {
        let params = params();
        candle_nn::linear(3, 2, params.var_builder())?;
        params.var_builder().get(4, "scale")?;
        let before = params.tensors()?;
        let mut wrong = before.clone();
        wrong.remove("bias");
        wrong.insert("extra".into(), before["bias"].clone());
        wrong.insert("weight".into(), before["weight"].t()?);
        wrong.insert("scale".into(), before["scale"].to_dtype(DType::F64)?);
        let error = params.load(&wrong).unwrap_err().to_string();
        for part in ["`bias`", "`extra`", "`weight`", "[2, 3]", "[3, 2]", "`scale`", "F64"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        for (name, var) in params.iter() {
            assert_eq!(numbers(&var), numbers(&before[&name]));
        }
        Ok(())
    }

    #[test]
    fn one_parameter_is_set_with_its_shape_checked() -> Result<(), ParamsError> {
        let params = params();
        candle_nn::linear(3, 2, params.var_builder())?;
        let value = Tensor::new(&[0.5f64, -1.], &Device::Cpu)?;
        params.set("bias", &value)?;
        assert_eq!(numbers(&params.get("bias").unwrap()), [0.5, -1.]);
        let shape = params.set("weight", &value).unwrap_err().to_string();
        assert!(shape.contains("`weight`") && shape.contains("[2, 3]"), "{shape}");
        let unknown = params.set("biass", &value).unwrap_err().to_string();
        assert!(unknown.contains("`biass`") && unknown.contains("`bias`, `weight`"), "{unknown}");
        Ok(())
    }
}
