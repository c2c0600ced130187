//! Sums over categories that are differentiable in their logits.
#![expect(unsafe_code, reason = "kernels are launched")]
use candle_core::{Result, Shape, Tensor};

use super::launch::{device, launch, room, rows, rows_of, strides, with_numbers};
use crate::gpu::{Value, node};

/// Of logits whose rows were aligned.
pub(crate) fn categorical_kl(q: &Tensor, p: &Tensor) -> Result<Tensor> {
    let ((of_q, k), (of_p, _), device) = (rows(q.shape())?, rows(p.shape())?, device(q)?);
    let n = if of_q.min(of_p) == 0 { 0 } else { of_q.max(of_p) };
    let (count, q_rows, p_rows, width) = (n as u64, of_q as u64, of_p as u64, k as u32);
    let mut y = room(&device, n)?;
    let (config, lanes) = rows_of(n, k)?;
    with_numbers!(|q, p| launch!(
        device,
        "categorical_kl",
        config,
        &q,
        &p,
        &mut y,
        &count,
        &q_rows,
        &p_rows,
        &width,
        &lanes
    ));
    node("categorical_kl", [q, p], Value::new(&device, y, n), move |[q, p], y, g| {
        let slopes_of_q = || -> Result<Tensor> {
            let ((config, lanes), mut d) = (rows_of(of_q, k)?, room(&device, of_q * k)?);
            with_numbers!(|q, p, y, g| launch!(
                device,
                "categorical_kl_slopes_of_q",
                config,
                &q,
                &p,
                &y,
                &g,
                &mut d,
                &count,
                &q_rows,
                &p_rows,
                &width,
                &lanes
            ));
            Ok(Value::new(&device, d, q.shape()).tensor())
        };
        let slopes_of_p = || -> Result<Tensor> {
            let ((config, lanes), mut d) = (rows_of(of_p, k)?, room(&device, of_p * k)?);
            with_numbers!(|q, p, g| launch!(
                device,
                "categorical_kl_slopes_of_p",
                config,
                &q,
                &p,
                &g,
                &mut d,
                &count,
                &q_rows,
                &p_rows,
                &width,
                &lanes
            ));
            Ok(Value::new(&device, d, p.shape()).tensor())
        };
        Ok([
            q.track_op().then(slopes_of_q).transpose()?,
            p.track_op().then(slopes_of_p).transpose()?,
        ])
    })
}

/// Of targets that were checked.
pub(crate) fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let ((n, k), device) = (rows(logits.shape())?, device(logits)?);
    let (mut y, mut log_sums) = (room(&device, n)?, room(&device, 2 * n)?);
    let (config, lanes) = rows_of(n, k)?;
    with_numbers!(|logits: f32, targets: u32| launch!(
        device,
        "cross_entropy",
        config,
        &logits,
        &targets,
        &mut y,
        &mut log_sums,
        &(n as u64),
        &(k as u32),
        &lanes
    ));
    let log_sums = Value::new(&device, log_sums, Shape::from((n, 2))).tensor();
    let (value, targets) = (Value::new(&device, y, targets.shape()), targets.clone());
    node("cross_entropy", [logits], value, move |[logits], _, g| {
        let mut d = room(&device, n * k)?;
        let targets = &targets;
        let log_sums = &log_sums;
        with_numbers!(|logits: f32, targets: u32, log_sums: f32, g: f32| launch!(
            device,
            "cross_entropy_slopes",
            strides(n * k),
            &logits,
            &targets,
            &log_sums,
            &g,
            &mut d,
            &(n as u64),
            &(k as u32)
        ));
        Ok([Some(Value::new(&device, d, logits.shape()).tensor())])
    })
}
