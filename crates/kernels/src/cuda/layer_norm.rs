//! Layer normalisation.
#![expect(unsafe_code, reason = "kernels are launched")]
use candle_core::{Result, Shape, Tensor};

use super::launch::{device, launch, room, rows, rows_of, strides, with_numbers};
use crate::gpu::{Value, node};

/// Rows of which one thread sums a column, at least.
const CHUNK: usize = 64;

pub(crate) fn layer_norm(
    x: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    epsilon: f64,
) -> Result<Tensor> {
    let ((n, k), device) = (rows(x.shape())?, device(x)?);
    let (count, width) = (n as u64, k as u32);
    let (mut y, mut moments) = (room(&device, n * k)?, room(&device, 2 * n)?);
    let (config, lanes) = rows_of(n, k)?;
    with_numbers!(|x, scale, shift| launch!(
        device,
        "layer_norm",
        config,
        &x,
        &scale,
        &shift,
        &mut y,
        &mut moments,
        &count,
        &width,
        &lanes,
        &(epsilon as f32)
    ));
    let moments = Value::new(&device, moments, Shape::from((n, 2))).tensor();
    let value = Value::new(&device, y, x.shape());
    node("layer_norm", [x, scale, shift], value, move |[x, scale, shift], _, g| {
        let moments = &moments;
        let slopes = || -> Result<Tensor> {
            let ((config, lanes), mut d) = (rows_of(n, k)?, room(&device, n * k)?);
            with_numbers!(|x, scale, moments, g| launch!(
                device,
                "layer_norm_slopes",
                config,
                &x,
                &scale,
                &moments,
                &g,
                &mut d,
                &count,
                &width,
                &lanes
            ));
            Ok(Value::new(&device, d, x.shape()).tensor())
        };
        // Of the two vectors: first over some rows each, so that there is work for many threads, then over those sums.
        let parts = n.div_ceil(CHUNK).max(1);
        let mut sums = room(&device, parts * 2 * k)?;
        with_numbers!(|x, moments, g| launch!(
            device,
            "layer_norm_sums",
            strides(parts * k),
            &x,
            &moments,
            &g,
            &mut sums,
            &count,
            &(parts as u64),
            &(CHUNK as u64),
            &width
        ));
        let sums = Value::new(&device, sums, Shape::from((parts, 2, k))).tensor().sum(0)?;
        Ok([
            x.track_op().then(slopes).transpose()?,
            scale.track_op().then(|| sums.get(0)).transpose()?,
            shift.track_op().then(|| sums.get(1)).transpose()?,
        ])
    })
}
