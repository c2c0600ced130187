//! Each operation: its kernels, their arguments, its gradient.
#![expect(unsafe_code, reason = "kernels are launched")]
use std::cell::Cell;

use candle_core::cuda_backend::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::{CudaViewMut, DeviceRepr};
use candle_core::{CpuStorage, CudaStorage, InplaceOp1, Layout, Result, Shape, Tensor, Var, bail};

use super::launch::{Stream, Value, device, launch, room, rows, rows_of, strides, with_numbers};
use super::node::node;
use crate::Forward;
use crate::key::{Key, Noise};
use crate::optimizer::AdamStep;

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
        &stream(key)
    );
    Ok(Value::new(device, out, shape).tensor())
}

fn stream(key: Key) -> Stream {
    Stream(key.words())
}

pub(crate) fn softmax(x: &Tensor) -> Result<Tensor> {
    let y = normalised(x, false)?;
    node("softmax", [x], y, |_, y, g| {
        let (n, k) = rows(y.shape())?;
        Ok([Some(softmax_slopes(y, g, Repeated { rows: n, repeats: 1, k }, 1., y.shape())?)])
    })
}

pub(crate) fn log_softmax(x: &Tensor) -> Result<Tensor> {
    let y = normalised(x, true)?;
    node("log_softmax", [x], y, |_, y, g| {
        let ((n, k), device) = (rows(y.shape())?, device(y)?);
        let (config, lanes) = rows_of(n, k)?;
        let mut d = room(&device, n * k)?;
        with_numbers!(|y, g| launch!(
            device,
            "log_softmax_slopes",
            config,
            &y,
            &g,
            &mut d,
            &(n as u64),
            &(k as u32),
            &lanes
        ));
        Ok([Some(Value::new(&device, d, y.shape()).tensor())])
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
struct Repeated {
    rows: usize,
    repeats: usize,
    k: usize,
}

fn softmax_slopes(
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
        "softmax_slopes",
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
        let ((inputs, k), (n, _)) = (rows(logits.shape())?, rows(&shape)?);
        let size = Repeated { rows: inputs, repeats: n / inputs.max(1), k };
        Ok([Some(softmax_slopes(&soft, g, size, inverse, logits.shape())?)])
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
    let (config, lanes) = rows_of(n, k)?;
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
        &stream(key)
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

/// The coefficients of a step, as the kernel has them.
#[derive(Clone, Copy)]
#[repr(C)]
struct Step([f32; 8]);

// SAFETY: plain numbers, laid out as `struct AdamStep` of `kernels.cu`.
unsafe impl DeviceRepr for Step {}

/// One step of Adam, of numbers that do not overlap.
pub(crate) fn adam(p: &Var, m: &Var, v: &Var, g: &Tensor, step: &AdamStep) -> Result<()> {
    let AdamStep { beta1, beta2, shrink, rate, scale, epsilon } = *step;
    let step = Step(
        [beta1, 1. - beta1, beta2, 1. - beta2, shrink, rate, scale, epsilon].map(|x| x as f32),
    );
    let (n, device) = (p.elem_count(), device(p)?);
    let update = |p: Numbers<'_>, m: Numbers<'_>, v: Numbers<'_>| -> Result<()> {
        with_numbers!(|g| launch!(device, "adam", strides(n), p, m, v, &g, &(n as u64), &step));
        Ok(())
    };
    change(p, |p| change(m, |m| change(v, |v| update(p, m, v))))
}

type Numbers<'a> = &'a mut CudaViewMut<'a, f32>;

/// Calls `f` on the numbers of a contiguous tensor, which stays locked meanwhile.
fn change(x: &Var, f: impl FnOnce(Numbers<'_>) -> Result<()>) -> Result<()> {
    x.inplace_op1(&Change(Cell::new(Some(f))))
}

struct Change<F>(Cell<Option<F>>);

impl<F: FnOnce(Numbers<'_>) -> Result<()>> InplaceOp1 for Change<F> {
    fn name(&self) -> &'static str {
        "update"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> Result<()> {
        bail!("expected a parameter on a CUDA device")
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, layout: &Layout) -> Result<()> {
        match (layout.contiguous_offsets(), self.0.take()) {
            (Some((start, end)), Some(f)) => {
                f(&mut storage.as_cuda_slice_mut::<f32>()?.slice_mut(start..end))
            }
            _ => bail!("an update needs a contiguous parameter, got {layout:?}"),
        }
    }
}
