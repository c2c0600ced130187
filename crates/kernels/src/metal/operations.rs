//! Each operation: its kernels, their arguments, its gradient.
use candle_core::{DType, MetalDevice, Result, Shape, Tensor, bail};

use super::launch::{device, launch, room, value};
use super::{Fill, Rows};
use crate::Forward;
use crate::gpu::{Value, node};
use crate::key::{Key, Noise};

/// Threads that share a row, at most.
const LANES: usize = 32;

/// Whether the kernels take this tensor.
pub(crate) fn takes(x: &Tensor) -> bool {
    x.device().is_metal() && x.dtype() == DType::F32
}

/// The first numbers of a stream, as the CPU makes them; `None` for noise that needs double precision.
pub(crate) fn fill(
    device: &MetalDevice,
    key: Key,
    noise: Noise,
    shape: &Shape,
) -> Result<Option<Tensor>> {
    if matches!(noise, Noise::Normal) {
        return Ok(None);
    }
    let n = shape.elem_count();
    let out = room(device, n)?;
    let fill = Fill { n: n as u64, noise: noise as u32, unused: 0, stream: key.words() };
    launch(device, "fill", &[], &out, &fill, n.div_ceil(4))?;
    Ok(Some(value(device, out, shape).tensor()))
}

/// Rows and numbers of a row of a shape, and how many threads share a row.
fn rows(shape: &Shape) -> Result<(usize, usize, usize)> {
    match shape.dims().last() {
        Some(k) if *k > 0 => {
            let lanes = k.div_ceil(4).next_power_of_two().min(LANES);
            let n = shape.elem_count() / k;
            // A thread is named by 32 bits.
            if n * lanes > u32::MAX as usize {
                bail!(
                    "{n} rows are more than a kernel takes; use fewer than {}",
                    u32::MAX as usize / lanes
                )
            }
            Ok((n, *k, lanes))
        }
        _ => bail!("expected rows of at least one number, got shape {shape:?}"),
    }
}

pub(crate) fn gumbel_softmax(
    logits: &Tensor,
    shape: Vec<usize>,
    temperature: f64,
    forward: Forward,
    key: Key,
) -> Result<Tensor> {
    let (inverse, shape) = ((1. / temperature) as f32, Shape::from(shape));
    let y = perturbed(logits, &shape, inverse, forward, key)?;
    node("gumbel_softmax", [logits], y, move |[logits], y, g| {
        let soft = match forward {
            Forward::Soft => y.clone(),
            Forward::Hard => perturbed(logits, &shape, inverse, Forward::Soft, key)?.tensor(),
        };
        let (device, (inputs, k, lanes)) = (device(logits)?, rows(logits.shape())?);
        let d = room(&device, inputs * k)?;
        let others = (shape.elem_count() / k / inputs.max(1)) as u64;
        let arguments = Rows {
            rows: inputs as u64,
            others,
            k: k as u32,
            lanes: lanes as u32,
            inverse,
            hard: 0,
            stream: key.words(),
        };
        let (soft, g) = (soft.contiguous()?, g.contiguous()?);
        launch(&device, "softmax_slopes", &[&soft, &g], &d, &arguments, inputs * lanes)?;
        Ok([Some(value(&device, d, logits.shape()).tensor())])
    })
}

fn perturbed(
    logits: &Tensor,
    shape: &Shape,
    inverse: f32,
    forward: Forward,
    key: Key,
) -> Result<Value> {
    let (device, (inputs, ..), (n, k, lanes)) =
        (device(logits)?, rows(logits.shape())?, rows(shape)?);
    let y = room(&device, n * k)?;
    let arguments = Rows {
        rows: n as u64,
        others: inputs as u64,
        k: k as u32,
        lanes: lanes as u32,
        inverse,
        hard: u32::from(forward == Forward::Hard),
        stream: key.words(),
    };
    launch(&device, "gumbel_softmax", &[&logits.contiguous()?], &y, &arguments, n * lanes)?;
    Ok(value(&device, y, shape))
}
