//! Each operation: its kernels, their arguments, its gradient.
#![expect(unsafe_code, reason = "kernels are launched")]
use candle_core::cuda_backend::CudaDevice;
use candle_core::{Result, Shape, Tensor};

use super::launch::{
    Stream, device, launch, room, rows, rows_of, rows_of_draws, strides, with_numbers,
};
use crate::gpu::{Value, node};
use crate::key::{Key, Noise};
use crate::{AttentionMask, Forward};

/// The first numbers of a stream, as the CPU makes them.
pub(crate) fn fill(device: &CudaDevice, key: Key, noise: Noise, shape: Shape) -> Result<Tensor> {
    let n = shape.elem_count();
    let mut out = room(device, n)?;
    launch!(
        device,
        "fill",
        strides(n.div_ceil(4)),
        &mut out,
        &(n as u64),
        &(noise as u32),
        &Stream::from(key)
    );
    Ok(Value::new(device, out, shape).tensor())
}

pub(crate) fn softmax(x: &Tensor) -> Result<Tensor> {
    let y = normalised(x, false)?;
    node("softmax", [x], y, |_, y, g| {
        let (n, k) = rows(y.shape())?;
        Ok([Some(slopes(SOFTMAX, y, g, Repeated { rows: n, repeats: 1, k }, 1., y.shape())?)])
    })
}

pub(crate) fn log_softmax(x: &Tensor) -> Result<Tensor> {
    let y = normalised(x, true)?;
    node("log_softmax", [x], y, |_, y, g| {
        let (n, k) = rows(y.shape())?;
        Ok([Some(slopes(LOG_SOFTMAX, y, g, Repeated { rows: n, repeats: 1, k }, 1., y.shape())?)])
    })
}

fn normalised(x: &Tensor, logarithm: bool) -> Result<Value> {
    let ((n, k), device) = (rows(x.shape())?, device(x)?);
    let (config, lanes) = rows_of(n, k)?;
    let mut y = room(&device, n * k)?;
    with_numbers!(|x| launch!(
        device,
        "softmax",
        config,
        &x,
        &mut y,
        &(n as u64),
        &(k as u32),
        &lanes,
        &u32::from(logarithm)
    ));
    Ok(Value::new(&device, y, x.shape()))
}

/// Rows of `k` numbers, each of which serves `repeats` rows.
#[derive(Clone, Copy)]
pub(super) struct Repeated {
    pub(super) rows: usize,
    pub(super) repeats: usize,
    pub(super) k: usize,
}

impl Repeated {
    /// Of logits `[inputs, .., K]`, and of what was made of them.
    pub(super) fn of(logits: &Shape, all: &Shape) -> Result<Self> {
        let ((inputs, k), (n, _)) = (rows(logits)?, rows(all)?);
        Ok(Self { rows: inputs, repeats: n / inputs.max(1), k })
    }
}

/// Probabilities of scores `[.., T, T]` times `scale`, each row over the places that its own sees.
pub(crate) fn attention_softmax(x: &Tensor, scale: f64, mask: AttentionMask) -> Result<Tensor> {
    let ((n, k), device) = (rows(x.shape())?, device(x)?);
    let (config, lanes) = rows_of(n, k)?;
    let window = match mask {
        AttentionMask::Full => 0,
        AttentionMask::Causal => k,
        AttentionMask::SlidingWindow(width) => width,
    };
    let (scale, mut y) = (scale as f32, room(&device, n * k)?);
    with_numbers!(|x| launch!(
        device,
        "attention_softmax",
        config,
        &x,
        &mut y,
        &(n as u64),
        &(k as u32),
        &lanes,
        &(window.min(k) as u32),
        &scale
    ));
    node("attention_softmax", [x], Value::new(&device, y, x.shape()), move |[x], y, g| {
        let (n, k) = rows(y.shape())?;
        Ok([Some(slopes(SOFTMAX, y, g, Repeated { rows: n, repeats: 1, k }, scale, x.shape())?)])
    })
}

/// The kernel for the gradient of a softmax, and that of its logarithm.
const SOFTMAX: &str = "softmax_slopes";
pub(super) const LOG_SOFTMAX: &str = "log_softmax_slopes";

/// The gradient of logits by one of the two.
pub(super) fn slopes(
    kernel: &'static str,
    y: &Tensor,
    g: &Tensor,
    size: Repeated,
    inverse: f32,
    shape: &Shape,
) -> Result<Tensor> {
    let (Repeated { rows, repeats, k }, device) = (size, device(y)?);
    let (config, lanes) = rows_of(rows, k)?;
    let mut d = room(&device, rows * k)?;
    with_numbers!(|y, g| launch!(
        device,
        kernel,
        config,
        &y,
        &g,
        &mut d,
        &(rows as u64),
        &(repeats as u64),
        &(k as u32),
        &lanes,
        &inverse
    ));
    Ok(Value::new(&device, d, shape).tensor())
}

pub(crate) fn gumbel_softmax(
    logits: &Tensor,
    shape: Vec<usize>,
    temperature: f64,
    forward: Forward,
    key: Key,
) -> Result<Tensor> {
    let inverse = (1. / temperature) as f32;
    let shape = Shape::from(shape);
    let y = perturbed(logits, &shape, inverse, forward, key)?;
    node("gumbel_softmax", [logits], y, move |[logits], y, g| {
        let soft = match forward {
            Forward::Soft => y.clone(),
            Forward::Hard => perturbed(logits, &shape, inverse, Forward::Soft, key)?.tensor(),
        };
        let size = Repeated::of(logits.shape(), &shape)?;
        Ok([Some(slopes(SOFTMAX, &soft, g, size, inverse, logits.shape())?)])
    })
}

fn perturbed(
    logits: &Tensor,
    shape: &Shape,
    inverse: f32,
    forward: Forward,
    key: Key,
) -> Result<Value> {
    let ((inputs, k), (n, _), device) = (rows(logits.shape())?, rows(shape)?, device(logits)?);
    let (config, lanes) = rows_of_draws(n, k)?;
    let mut y = room(&device, n * k)?;
    let hard = u32::from(forward == Forward::Hard);
    with_numbers!(|logits| launch!(
        device,
        "gumbel_softmax",
        config,
        &logits,
        &mut y,
        &(n as u64),
        &(inputs as u64),
        &(k as u32),
        &lanes,
        &inverse,
        &hard,
        &Stream::from(key)
    ));
    Ok(Value::new(&device, y, shape))
}

/// Of logits and data whose rows were aligned, `n` rows of sums.
pub(crate) fn bernoulli_log_prob(l: &Tensor, x: &Tensor) -> Result<Tensor> {
    let ((of_logits, d), (of_data, _), device) = (rows(l.shape())?, rows(x.shape())?, device(l)?);
    let n = if of_logits.min(of_data) == 0 { 0 } else { of_logits.max(of_data) };
    let sizes = (n as u64, of_logits as u64, of_data as u64, d as u32);
    let (config, lanes) = rows_of(n, d)?;
    let mut y = room(&device, n)?;
    with_numbers!(|l, x| launch!(
        device,
        "bernoulli_log_prob",
        config,
        &l,
        &x,
        &mut y,
        &sizes.0,
        &sizes.1,
        &sizes.2,
        &sizes.3,
        &lanes
    ));
    node("bernoulli_log_prob", [l, x], Value::new(&device, y, n), move |[l, x], _, g| {
        let of_logits = || -> Result<Tensor> {
            let count = l.elem_count();
            let mut out = room(&device, count)?;
            with_numbers!(|l, x, g| launch!(
                device,
                "bernoulli_slopes_of_logits",
                strides(count),
                &l,
                &x,
                &g,
                &mut out,
                &sizes.0,
                &sizes.1,
                &sizes.2,
                &sizes.3
            ));
            Ok(Value::new(&device, out, l.shape()).tensor())
        };
        let of_data = || -> Result<Tensor> {
            let count = x.elem_count();
            let mut out = room(&device, count)?;
            with_numbers!(|l, g| launch!(
                device,
                "bernoulli_slopes_of_data",
                strides(count),
                &l,
                &g,
                &mut out,
                &sizes.0,
                &sizes.1,
                &sizes.2,
                &sizes.3
            ));
            Ok(Value::new(&device, out, x.shape()).tensor())
        };
        Ok([l.track_op().then(of_logits).transpose()?, x.track_op().then(of_data).transpose()?])
    })
}
