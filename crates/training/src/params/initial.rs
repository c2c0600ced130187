//! Initial values of parameters.
use candle_core::{DType, Device, Result, Shape, Tensor, Var, bail};
use candle_nn::Init;
use candle_nn::init::NormalOrUniform;
use gumbel_kernels::Key;
use gumbel_kernels::allocator::attempt;

/// The initial value of a parameter: drawn on the host from the key of its name, then moved.
///
/// The same formulas as candle's, whose own generator cannot be seeded on the CPU.
pub(super) fn value(
    key: Key,
    name: &str,
    shape: Shape,
    init: Init,
    dtype: DType,
    device: &Device,
) -> Result<Var> {
    check_size(name, &shape)?;
    // Half precision is drawn in single precision and rounded once, at the end.
    let draw = match dtype {
        DType::F64 => DType::F64,
        DType::F32 | DType::F16 | DType::BF16 => DType::F32,
        other => bail!("parameter `{name}` must be of a float type, got {other:?}"),
    };
    let key = key.named(name);
    let normal = |shape, mean, stdev| key.normal(shape, draw, &Device::Cpu)?.affine(stdev, mean);
    let uniform = |shape, lo, up| key.uniform(shape, draw, &Device::Cpu)?.affine(up - lo, lo);
    let tensor = match init {
        Init::Const(value) => Tensor::full(value, shape, &Device::Cpu)?,
        Init::Randn { mean, stdev } => normal(shape, mean, stdev)?,
        Init::Uniform { lo, up } => uniform(shape, lo, up)?,
        // He et al. (2015): standard deviation gain / √fan, for either distribution.
        Init::Kaiming { dist, fan, non_linearity } => {
            let stdev = non_linearity.gain() / (fan.for_shape(&shape) as f64).sqrt();
            let bound = 3f64.sqrt() * stdev;
            match dist {
                NormalOrUniform::Normal => normal(shape, 0., stdev)?,
                NormalOrUniform::Uniform => uniform(shape, -bound, bound)?,
            }
        }
    };
    Var::from_tensor(&tensor.to_dtype(dtype)?.to_device(device)?)
}

/// A shape may come from a configuration file: a size that cannot be had is an error, not an abort.
fn check_size(name: &str, shape: &Shape) -> Result<()> {
    let product = shape.dims().iter().try_fold(1usize, |n, dim| n.checked_mul(*dim));
    let room = |n| attempt(|| Vec::<f64>::new().try_reserve_exact(n).is_ok());
    if !product.is_some_and(room) {
        bail!("parameter `{name}` of shape {shape:?} does not fit into memory");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_nn::init::{FanInOut, NonLinearity};

    use super::*;

    fn draw(shape: impl Into<Shape>, init: Init, dtype: DType) -> Result<Tensor> {
        let var = value(Key::from_seed(3), "w", shape.into(), init, dtype, &Device::Cpu)?;
        Ok(var.into_inner())
    }

    fn numbers(x: &Tensor) -> Result<Vec<f64>> {
        x.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
    }

    /// (mean, standard deviation, largest magnitude)
    fn moments(shape: impl Into<Shape>, init: Init) -> Result<[f64; 3]> {
        let x = numbers(&draw(shape, init, DType::F32)?)?;
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        Ok([mean, variance.sqrt(), x.iter().fold(0., |m: f64, x| m.max(x.abs()))])
    }

    #[test]
    fn constants_are_constant() -> Result<()> {
        for value in [0., 1., -2.5] {
            assert_eq!(numbers(&draw((2, 2), Init::Const(value), DType::F32)?)?, [value; 4]);
        }
        assert_eq!(draw((), Init::Const(3.), DType::F64)?.to_scalar::<f64>()?, 3.);
        Ok(())
    }

    #[test]
    fn normal_and_uniform_have_their_moments() -> Result<()> {
        // 40000 draws: standard error of the mean 0.005 σ, of the deviation 0.0035 σ.
        let [mean, stdev, _] = moments((200, 200), Init::Randn { mean: 5., stdev: 2. })?;
        assert!((mean - 5.).abs() < 0.04 && (stdev - 2.).abs() < 0.03, "{mean} {stdev}");
        let [mean, stdev, largest] = moments((200, 200), Init::Uniform { lo: -1., up: 3. })?;
        assert!((mean - 1.).abs() < 0.03 && (stdev - 4. / 12f64.sqrt()).abs() < 0.02);
        assert!(largest <= 3. && largest > 2.99);
        Ok(())
    }

    #[test]
    fn kaiming_deviations_follow_fan_and_gain() -> Result<()> {
        let gains = [
            (NonLinearity::ReLU, 2f64.sqrt()),
            (NonLinearity::Tanh, 5. / 3.),
            (NonLinearity::Sigmoid, 1.),
            (NonLinearity::Linear, 1.),
            (NonLinearity::SELU, 0.75),
            (NonLinearity::ExplicitGain(7.), 7.),
        ];
        for (non_linearity, gain) in gains {
            // A convolution kernel: 50 outputs, 20 inputs, receptive field 4 x 5.
            for (fan, size) in [(FanInOut::FanIn, 400.), (FanInOut::FanOut, 1000.)] {
                for dist in [NormalOrUniform::Normal, NormalOrUniform::Uniform] {
                    let init = Init::Kaiming { dist, fan, non_linearity };
                    let expected = gain / f64::sqrt(size);
                    let [mean, stdev, largest] = moments((50, 20, 4, 5), init)?;
                    assert!(mean.abs() < 0.03 * expected, "{init:?}: mean {mean}");
                    assert!((stdev / expected - 1.).abs() < 0.02, "{init:?}: deviation {stdev}");
                    let bounded = largest <= 3f64.sqrt() * expected * (1. + 1e-6);
                    assert_eq!(bounded, matches!(dist, NormalOrUniform::Uniform), "{init:?}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn the_name_decides_the_numbers_and_precision_only_rounds_them() -> Result<()> {
        let init = Init::Randn { mean: 0., stdev: 1. };
        let double = numbers(&draw(100, init, DType::F64)?)?;
        for (dtype, tolerance) in [(DType::F32, 1e-6), (DType::F16, 1e-3), (DType::BF16, 8e-3)] {
            for (a, b) in numbers(&draw(100, init, dtype)?)?.iter().zip(&double) {
                assert!((a - b).abs() <= tolerance * b.abs().max(1.), "{dtype:?}: {a} {b}");
            }
        }
        let shape = Shape::from(100);
        let other = value(Key::from_seed(3), "v", shape, init, DType::F64, &Device::Cpu)?;
        assert_ne!(numbers(&other)?, double);
        Ok(())
    }

    #[test]
    fn impossible_parameters_are_errors_with_their_name() {
        let init = Init::Const(0.);
        for shape in [vec![usize::MAX, 2], vec![1 << 60, 1], vec![1 << 30, 1 << 30]] {
            let error = draw(shape, init, DType::F32).unwrap_err().to_string();
            assert!(error.contains("`w`") && error.contains("memory"), "{error}");
        }
        let error = draw(3, init, DType::U8).unwrap_err().to_string();
        assert!(error.contains("`w`") && error.contains("U8"), "{error}");
    }
}
