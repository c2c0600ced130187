//! Where estimators keep what they learn.
use std::collections::BTreeMap;

use candle_core::{Result, Tensor, Var};

/// Holds the parameters and running statistics of an estimator: a training run, so that they are saved with
/// the model, or [`Variables`].
pub trait Store {
    /// A parameter that starts at `initial`. The optimizer moves it along the gradient of
    /// [`Surrogate::loss`](super::Surrogate::loss), with the parameters of the model.
    ///
    /// # Errors
    /// If the name is taken.
    fn parameter(&mut self, name: &str, initial: &Tensor) -> Result<Tensor>;

    /// A running statistic that starts at `initial`. It has no gradient;
    /// [`Surrogate::update_statistics`](super::Surrogate::update_statistics) moves it.
    ///
    /// # Errors
    /// If the name is taken.
    fn statistic(&mut self, name: &str, initial: &Tensor) -> Result<Var>;
}

/// A [`Store`] in memory, for those who write their own training loop.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    /// What an optimizer has to move, by name.
    pub parameters: BTreeMap<String, Var>,
    /// What the estimator moves itself, by name.
    pub statistics: BTreeMap<String, Var>,
}

impl Variables {
    fn create(&self, name: &str, initial: &Tensor) -> Result<Var> {
        if self.parameters.contains_key(name) || self.statistics.contains_key(name) {
            candle_core::bail!("`{name}` is defined twice; give each estimator a store of its own")
        }
        Var::from_tensor(initial)
    }
}

impl Store for Variables {
    fn parameter(&mut self, name: &str, initial: &Tensor) -> Result<Tensor> {
        let var = self.create(name, initial)?;
        let tensor = var.as_tensor().clone();
        self.parameters.insert(name.to_owned(), var);
        Ok(tensor)
    }

    fn statistic(&mut self, name: &str, initial: &Tensor) -> Result<Var> {
        let var = self.create(name, initial)?;
        self.statistics.insert(name.to_owned(), var.clone());
        Ok(var)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn a_name_is_given_once() -> Result<()> {
        let zero = Tensor::new(0f32, &Device::Cpu)?;
        let mut store = Variables::default();
        store.parameter("scale", &zero)?;
        assert!(store.statistic("scale", &zero).unwrap_err().to_string().contains("`scale`"));
        let mean = store.statistic("mean", &zero)?;
        mean.set(&Tensor::new(2f32, &Device::Cpu)?)?;
        assert_eq!(store.statistics["mean"].to_scalar::<f32>()?, 2.);
        Ok(())
    }
}
