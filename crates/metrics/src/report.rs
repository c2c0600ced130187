//! The named numbers of one step.
use candle_core::{DType, Device, Result, Tensor, bail};

/// The named numbers of one step or of one evaluation, in the order in which they were added.
///
/// A mean of a tensor stays on the tensor's device until [`Report::scalars`] is called, so that a step
/// whose report is never written waits for nothing. A name added twice keeps its first place and its
/// last value.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use gumbel_metrics::Report;
/// let bound = Tensor::new(&[-103f32, -101.], &Device::Cpu)?;
/// let report = Report::new().mean("elbo", &bound).number("temperature", 0.5);
/// assert_eq!(report.scalars()?, [("elbo", -102.0), ("temperature", 0.5)]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Report {
    entries: Vec<(&'static str, Value)>,
}

#[derive(Clone, Debug)]
enum Value {
    Number(f64),
    OnDevice(Tensor),
    Failed(String),
}

impl Report {
    /// A report with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the mean over all elements of `value` (any shape), cut off from its graph.
    ///
    /// Taken at once, because parameters change in place. An error, such as a tensor without elements,
    /// is kept and returned by [`Report::scalars`].
    #[must_use]
    pub fn mean(self, name: &'static str, value: &Tensor) -> Self {
        let value = match mean_of(value) {
            Ok(mean) => Value::OnDevice(mean),
            Err(error) => Value::Failed(error.to_string()),
        };
        self.with(name, value)
    }

    /// Adds a number that the host knows.
    #[must_use]
    pub fn number(self, name: &'static str, value: f64) -> Self {
        self.with(name, Value::Number(value))
    }

    /// All names with their numbers, in the order in which they were added; waits for the device.
    pub fn scalars(&self) -> Result<Vec<(&'static str, f64)>> {
        self.entries.iter().map(|(name, value)| Ok((*name, value.get(name)?))).collect()
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn with(mut self, name: &'static str, value: Value) -> Self {
        match self.entries.iter_mut().find(|(other, _)| *other == name) {
            Some((_, old)) => *old = value,
            None => self.entries.push((name, value)),
        }
        self
    }
}

impl Value {
    fn get(&self, name: &str) -> Result<f64> {
        match self {
            Self::Number(x) => Ok(*x),
            Self::OnDevice(mean) => {
                mean.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_scalar::<f64>()
            }
            Self::Failed(error) => bail!("no mean of `{name}`: {error}"),
        }
    }
}

fn mean_of(value: &Tensor) -> Result<Tensor> {
    if value.elem_count() == 0 {
        bail!("the tensor has no elements, shape {:?}", value.shape());
    }
    // Double precision where it is cheap; some accelerators have none.
    let dtype = if value.device().is_cpu() { DType::F64 } else { DType::F32 };
    value.detach().to_dtype(dtype)?.mean_all()
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;

    #[test]
    fn order_is_that_of_insertion_and_a_repeated_name_keeps_its_place() -> Result<()> {
        let x = Tensor::new(&[[1f32, 2.], [3., 6.]], &Device::Cpu)?;
        let report = Report::new().number("z", 1.).mean("a", &x).number("m", 2.).number("z", 7.);
        assert_eq!(report.scalars()?, [("z", 7.), ("a", 3.), ("m", 2.)]);
        assert!(!report.is_empty() && Report::new().is_empty());
        Ok(())
    }

    #[test]
    fn a_mean_holds_no_graph_and_does_not_follow_the_parameter() -> Result<()> {
        let parameter = Var::new(&[1f32, 3.], &Device::Cpu)?;
        let report =
            Report::new().mean("parameter", &parameter).mean("twice", &(&*parameter * 2.)?);
        for (_, value) in &report.entries {
            assert!(matches!(value, Value::OnDevice(mean) if !mean.track_op()));
        }
        parameter.set(&Tensor::new(&[100f32, 100.], &Device::Cpu)?)?;
        assert_eq!(report.scalars()?, [("parameter", 2.), ("twice", 4.)]);
        Ok(())
    }

    #[test]
    fn single_precision_values_are_averaged_in_double() -> Result<()> {
        let x = Tensor::full(16_777_217f64, 3, &Device::Cpu)?;
        let ones = Tensor::full(1f32 + f32::EPSILON, 1 << 20, &Device::Cpu)?;
        let scalars = Report::new().mean("x", &x).mean("ones", &ones).scalars()?;
        assert_eq!(scalars, [("x", 16_777_217.), ("ones", 1. + f64::from(f32::EPSILON))]);
        Ok(())
    }

    #[test]
    fn integers_have_means_and_an_empty_tensor_is_an_error_with_its_name() -> Result<()> {
        let bits = Tensor::new(&[0u8, 1, 1, 1], &Device::Cpu)?;
        assert_eq!(Report::new().mean("accuracy", &bits).scalars()?, [("accuracy", 0.75)]);
        let empty = Tensor::zeros((0, 3), DType::F32, &Device::Cpu)?;
        let error = Report::new().mean("elbo", &empty).scalars().unwrap_err().to_string();
        assert!(error.contains("`elbo`") && error.contains("no elements"), "{error}");
        Ok(())
    }
}
