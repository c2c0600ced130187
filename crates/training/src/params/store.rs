//! Learned parts of estimators among the parameters of a run.
use candle_core::{Result, Tensor, Var};
use gumbel::estimators::Store;

use super::Params;

/// What an estimator learns is saved and loaded with the model, under names that start with `estimator.`.
impl Store for Params {
    fn parameter(&mut self, name: &str, initial: &Tensor) -> Result<Tensor> {
        Self::parameter(self, &format!("estimator.{name}"), initial)
    }

    fn statistic(&mut self, name: &str, initial: &Tensor) -> Result<Var> {
        Self::statistic(self, &format!("estimator.{name}"), initial)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use gumbel_kernels::Key;

    use super::*;

    #[test]
    fn statistics_are_saved_and_loaded_but_not_trained() -> Result<()> {
        let new = || {
            let mut params = Params::new(Key::from_seed(1), DType::F32, &Device::Cpu);
            let store: &mut dyn Store = &mut params;
            let zero = Tensor::new(&[0f64], &Device::Cpu)?;
            store.parameter("scale", &zero)?;
            store.statistic("moments", &zero)?;
            assert!(store.parameter("moments", &zero).is_err());
            Ok::<_, candle_core::Error>(params)
        };
        let (old, new) = (new()?, new()?);
        let trained: Vec<String> = old.iter().into_iter().map(|(name, _)| name).collect();
        assert_eq!(trained, ["estimator.scale"]);
        old.set("estimator.moments", &Tensor::new(&[3f64], &Device::Cpu)?).unwrap();
        new.load(&old.tensors().unwrap()).unwrap();
        assert_eq!(new.get("estimator.moments").unwrap().to_vec1::<f64>()?, [3.]);
        assert_eq!(new.count(), 1);
        Ok(())
    }
}
