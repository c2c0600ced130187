//! Densities of the relaxed distributions and their gradients.
use candle_core::{Result as TensorResult, Tensor, Var};
use gumbel::distributions::{BinConcrete, ExpConcrete, Temperature};

use crate::case::{Array, Case, Fallible, cancellation};

type Density = fn(&Tensor, Temperature, &Tensor) -> TensorResult<Tensor>;

/// How a family's density is evaluated, and how many axes (of categories) its logits have.
fn family(name: &str) -> Fallible<(Density, usize)> {
    Ok(match name {
        "ExpConcrete" => (|l, t, y| ExpConcrete::new(l, t)?.log_density(y), 1),
        "Concrete" => (|l, t, x| ExpConcrete::new(l, t)?.log_density_simplex(x), 1),
        "ConcreteFromLog" => (|l, t, y| ExpConcrete::new(l, t)?.log_density_simplex_from_log(y), 1),
        "LogitRelaxedBernoulli" => (|l, t, v| BinConcrete::new(l, t)?.log_density(v), 0),
        "RelaxedBernoulli" => (|l, t, x| BinConcrete::new(l, t)?.log_density_unit(x), 0),
        "RelaxedBernoulliFromLogit" => {
            (|l, t, v| BinConcrete::new(l, t)?.log_density_unit_from_logit(v), 0)
        }
        other => return Err(format!("no check for the family `{other}`").into()),
    })
}

/// `x` with its leading axes (all but the last `trailing`) as `[S, B]`, and one variable after them.
///
/// Up to two leading axes are left for the library to broadcast; more are broadcast and folded here.
fn axes(x: &Tensor, trailing: usize, common: &[usize]) -> TensorResult<Tensor> {
    let split = x.rank() - trailing;
    let (leading, categories) = (&x.dims()[..split], &x.dims()[split..]);
    if common.len() > 2 {
        let all = [common, categories].concat();
        let folded = [&[1, common.iter().product(), 1], categories].concat();
        return x.broadcast_as(all)?.reshape(folded);
    }
    let ones = vec![1; 2 - leading.len()];
    x.reshape([&ones, leading, &[1], categories].concat())
}

/// The shape that arrays broadcast to without their last `trailing` axes.
fn common_shape(arrays: &[(&Array, usize)]) -> TensorResult<Vec<usize>> {
    arrays.iter().try_fold(Vec::new(), |shape, (array, trailing)| {
        let leading = &array.shape[..array.shape.len().saturating_sub(*trailing)];
        let shape = candle_core::Shape::from(shape);
        let other = candle_core::Shape::from(leading);
        Ok(shape.broadcast_shape_binary_op(&other, "common_shape")?.into_dims())
    })
}

/// What double precision leaves of `log_prob` and of its gradients in logits, temperature and value.
///
/// All of them are made of `t = logits - τ y`, which is rounded at the size of its two terms. The error
/// enters the gradient in `τ` times `y`, and that in a point of the simplex divided by it.
fn floors(name: &str, logits: &[f64], temperature: &[f64], value: &[f64]) -> [f64; 4] {
    let largest = |x: &mut dyn Iterator<Item = f64>| x.fold(1., |max: f64, x| max.max(x.abs()));
    let logit = |x: f64| x.ln() - (-x).ln_1p();
    let (y, slope): (Vec<f64>, f64) = match name {
        "Concrete" => {
            (value.iter().map(|x| x.ln()).collect(), largest(&mut value.iter().map(|x| x.recip())))
        }
        "RelaxedBernoulli" => (
            value.iter().map(|x| logit(*x)).collect(),
            largest(&mut value.iter().map(|x| (x * (1. - x)).recip())),
        ),
        _ => (value.to_vec(), largest(&mut temperature.iter().copied())),
    };
    let y = largest(&mut y.into_iter());
    let t = y * largest(&mut temperature.iter().copied());
    let t = cancellation(&[t, largest(&mut logits.iter().copied())]);
    [t.max(cancellation(&[y])), t, t * y, t * slope]
}

/// `log_prob` and its gradients, of any family; a temperature always carries a gradient.
pub(crate) fn check(case: &mut Case<'_>) -> Fallible<()> {
    let name = case.text("family")?;
    density(case, name, true)
}

/// Temperatures and values that broadcast against the logits without their category axis.
pub(crate) fn check_batched(case: &mut Case<'_>) -> Fallible<()> {
    let name = if case.has("family") { case.text("family")? } else { "ExpConcrete" };
    density(case, name, false)
}

fn density(case: &mut Case<'_>, name: &str, gradients: bool) -> Fallible<()> {
    let (log_density, trailing) = family(name)?;
    let [logits, temperature, value] =
        ["logits", "temperature", "value"].map(|field| case.array(field));
    let (logits, temperature, value) = (logits?, temperature?, value?);
    if logits.shape.len() < trailing || value.shape.len() < trailing {
        return Err("logits and value need a category axis".into());
    }
    let common = common_shape(&[(&logits, trailing), (&temperature, 0), (&value, trailing)])?;
    let vars: Vec<Var> =
        [&logits, &temperature, &value].into_iter().map(Array::var).collect::<TensorResult<_>>()?;
    let [logits_var, temperature_var, value_var] = vars.as_slice() else {
        return Err("three arrays make three variables".into());
    };
    let tensors = (axes(logits_var, trailing, &common)?, axes(value_var, trailing, &common)?);

    // A scalar goes in as it is, so that the library's own broadcasting of scalars is used.
    let scalar = temperature.shape.is_empty();
    let learned = if scalar {
        temperature_var.as_tensor().clone()
    } else {
        axes(temperature_var, 0, &common)?
    };
    let result = log_density(&tensors.0, Temperature::Tensor(learned), &tensors.1)?;
    let [floor, gradient_floors @ ..] =
        floors(name, &logits.values, &temperature.values, &value.values);
    case.expect_tensor("log_prob", &result, floor)?;
    if let (true, [number]) = (scalar, temperature.values.as_slice()) {
        let fixed = log_density(&tensors.0, Temperature::Fixed(*number), &tensors.1)?;
        case.expect_tensor("log_prob", &fixed, floor)?;
    }

    let grads = result.sum_all()?.backward()?;
    let fields = ["grad_logits", "grad_temperature", "grad_value"];
    for ((field, var), floor) in fields.into_iter().zip(&vars).zip(gradient_floors) {
        if gradients || case.has(field) {
            let gradient = grads.get(var.as_tensor()).ok_or("the density has no such gradient")?;
            case.expect_tensor(field, gradient, floor)?;
        }
    }
    Ok(())
}
