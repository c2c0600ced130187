//! Samples of Concrete variables.
#![expect(unsafe_code, reason = "kernels are launched")]
use candle_core::{Result, Shape, Tensor};

use super::launch::{Stream, device, launch, room, rows, rows_of_draws, strides, with_numbers};
use super::operations::{LOG_SOFTMAX, Repeated, slopes};
use crate::exp_concrete_density::variable_constant;
use crate::gpu::{Value, node};
use crate::{Forward, Key};

/// What is made of a score of a bit, as the kernel knows it.
#[derive(Clone, Copy)]
enum Form {
    Logit,
    Soft,
    Hard,
}

/// Scores of bits: how to make them of logits.
#[derive(Clone, Copy)]
struct Bits {
    temperature: f64,
    key: Key,
}

impl Bits {
    fn inverse(self) -> f32 {
        (1. / self.temperature) as f32
    }

    /// The sample in a form.
    fn sample(self, logits: &Tensor, shape: &Shape, form: Form) -> Result<Value> {
        let (n, numbers, device) = (shape.elem_count(), logits.elem_count(), device(logits)?);
        let mut y = room(&device, n)?;
        with_numbers!(|logits| launch!(
            device,
            "bits",
            strides(n.div_ceil(4)),
            &logits,
            &mut y,
            &(n as u64),
            &(numbers as u64),
            &self.inverse(),
            &(form as u32),
            &Stream::from(self.key)
        ));
        Ok(Value::new(&device, y, shape))
    }

    /// The sample as logits, and the density of each row.
    fn sample_with_density(self, logits: &Tensor, shape: &Shape) -> Result<(Value, Value)> {
        let ((n, k), device) = (rows(shape)?, device(logits)?);
        let (config, lanes) = rows_of_draws(n, k)?;
        let constant = (self.temperature.ln() * k as f64) as f32;
        let numbers = logits.elem_count() as u64;
        let (mut v, mut density) = (room(&device, n * k)?, room(&device, n)?);
        with_numbers!(|logits| launch!(
            device,
            "bin_concrete",
            config,
            &logits,
            &mut v,
            &mut density,
            &(n as u64),
            &numbers,
            &(k as u32),
            &lanes,
            &self.inverse(),
            &constant,
            &Stream::from(self.key)
        ));
        let leading = &shape.dims()[..shape.rank() - 1];
        Ok((Value::new(&device, v, shape), Value::new(&device, density, leading)))
    }

    fn node(self, logits: &Tensor, v: Value) -> Result<Tensor> {
        node("bin_concrete", [logits], v, move |[logits], _, g| {
            Ok([Some(sum_of_repeats(g, logits.shape(), 1. / self.temperature)?)])
        })
    }
}

pub(crate) fn bin_concrete(
    logits: &Tensor,
    shape: Vec<usize>,
    temperature: f64,
    key: Key,
) -> Result<Tensor> {
    let bits = Bits { temperature, key };
    let v = bits.sample(logits, &shape.into(), Form::Logit)?;
    bits.node(logits, v)
}

pub(crate) fn bin_concrete_with_log_density(
    logits: &Tensor,
    shape: Vec<usize>,
    temperature: f64,
    key: Key,
) -> Result<(Tensor, Tensor)> {
    let bits = Bits { temperature, key };
    let (v, density) = bits.sample_with_density(logits, &shape.into())?;
    Ok((bits.node(logits, v)?, density.tensor()))
}

pub(crate) fn gumbel_sigmoid(
    logits: &Tensor,
    shape: Vec<usize>,
    temperature: f64,
    forward: Forward,
    key: Key,
) -> Result<Tensor> {
    let (bits, again) = (Bits { temperature, key }, forward == Forward::Hard);
    let form = if again { Form::Hard } else { Form::Soft };
    let y = bits.sample(logits, &shape.into(), form)?;
    node("gumbel_sigmoid", [logits], y, move |[logits], y, g| {
        let (device, numbers, n) = (device(logits)?, logits.elem_count(), y.elem_count());
        let given = if again { logits } else { y };
        let mut d = room(&device, numbers)?;
        with_numbers!(|given, g| launch!(
            device,
            "gumbel_sigmoid_slopes",
            strides(numbers),
            &given,
            &g,
            &mut d,
            &(numbers as u64),
            &(n as u64),
            &bits.inverse(),
            &u32::from(again),
            &Stream::from(key)
        ));
        Ok([Some(Value::new(&device, d, logits.shape()).tensor())])
    })
}

/// The gradient of numbers of a shape, each of which served every use at its place in `x` modulo how many there are.
pub(super) fn sum_of_repeats(x: &Tensor, shape: &Shape, scale: f64) -> Result<Tensor> {
    let (device, numbers, n) = (device(x)?, shape.elem_count(), x.elem_count());
    let mut out = room(&device, numbers)?;
    with_numbers!(|x| launch!(
        device,
        "sum_of_repeats",
        strides(numbers),
        &x,
        &mut out,
        &(numbers as u64),
        &(n as u64),
        &(scale as f32)
    ));
    Ok(Value::new(&device, out, shape).tensor())
}

pub(crate) fn exp_concrete(
    logits: &Tensor,
    shape: Vec<usize>,
    temperature: f64,
    key: Key,
) -> Result<Tensor> {
    let (y, _) = categories(logits, &shape.into(), temperature, false, key)?;
    category_node(logits, y, temperature)
}

pub(crate) fn exp_concrete_with_log_density(
    logits: &Tensor,
    shape: Vec<usize>,
    temperature: f64,
    key: Key,
) -> Result<(Tensor, Tensor)> {
    let (y, density) = categories(logits, &shape.into(), temperature, true, key)?;
    Ok((category_node(logits, y, temperature)?, density.tensor()))
}

/// The sample, and the density of each example where it is asked for.
fn categories(
    logits: &Tensor,
    shape: &Shape,
    temperature: f64,
    with_density: bool,
    key: Key,
) -> Result<(Value, Value)> {
    let ((inputs, _), (n, k), device) = (rows(logits.shape())?, rows(shape)?, device(logits)?);
    let leading = &shape.dims()[..shape.rank().saturating_sub(2)];
    let examples = if with_density { leading.iter().product() } else { n };
    let variables = if with_density { n / examples.max(1) } else { 1 };
    let constant = (variable_constant(k, temperature) * variables as f64) as f32;
    let (config, lanes) = rows_of_draws(examples, k)?;
    let (mut y, mut density) = (room(&device, n * k)?, room(&device, examples)?);
    with_numbers!(|logits| launch!(
        device,
        "exp_concrete",
        config,
        &logits,
        &mut y,
        &mut density,
        &(examples as u64),
        &(inputs as u64),
        &(variables as u32),
        &(k as u32),
        &lanes,
        &((1. / temperature) as f32),
        &constant,
        &u32::from(with_density),
        &Stream::from(key)
    ));
    Ok((Value::new(&device, y, shape), Value::new(&device, density, leading)))
}

fn category_node(logits: &Tensor, y: Value, temperature: f64) -> Result<Tensor> {
    node("exp_concrete", [logits], y, move |[logits], y, g| {
        let size = Repeated::of(logits.shape(), y.shape())?;
        let inverse = (1. / temperature) as f32;
        Ok([Some(slopes(LOG_SOFTMAX, y, g, size, inverse, logits.shape())?)])
    })
}
