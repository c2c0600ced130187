//! Densities of Concrete variables.
#![expect(unsafe_code, reason = "kernels are launched")]
use candle_core::{Result, Tensor};

use super::concrete::sum_of_repeats;
use super::launch::{device, launch, room, rows, rows_of, strides, with_numbers};
use crate::exp_concrete_density::variable_constant;
use crate::gpu::{Value, node};
use crate::rows::numbers_of_both;

/// Of logits and values whose rows were aligned, a number a row.
pub(crate) fn bin_concrete_log_density(l: &Tensor, v: &Tensor, temperature: f64) -> Result<Tensor> {
    let ((of_l, k), (of_v, _), device) = (rows(l.shape())?, rows(v.shape())?, device(l)?);
    let numbers = numbers_of_both(l, v);
    let n = numbers / k;
    let (count, l_rows, v_rows, width) = (n as u64, of_l as u64, of_v as u64, k as u32);
    let constant = (k as f64 * temperature.ln()) as f32;
    let (config, lanes) = rows_of(n, k)?;
    let mut y = room(&device, n)?;
    with_numbers!(|l, v| launch!(
        device,
        "bin_concrete_log_density",
        config,
        &l,
        &v,
        &mut y,
        &count,
        &l_rows,
        &v_rows,
        &width,
        &lanes,
        &(temperature as f32),
        &constant
    ));
    node("bin_concrete_log_density", [l, v], Value::new(&device, y, n), move |[l, v], _, g| {
        let mut d = room(&device, numbers)?;
        with_numbers!(|l, v, g| launch!(
            device,
            "bin_concrete_density_slopes",
            strides(numbers),
            &l,
            &v,
            &g,
            &mut d,
            &count,
            &l_rows,
            &v_rows,
            &width,
            &(temperature as f32)
        ));
        shares([l, v], &Value::new(&device, d, numbers).tensor(), temperature)
    })
}

/// Of logits and values whose rows were aligned, the sum over the variables of each of some examples.
pub(crate) fn exp_concrete_log_density(
    l: &Tensor,
    y: &Tensor,
    temperature: f64,
    (examples, variables): (usize, usize),
) -> Result<Tensor> {
    let ((of_l, k), (of_y, _), device) = (rows(l.shape())?, rows(y.shape())?, device(l)?);
    let numbers = numbers_of_both(l, y);
    let n = numbers / k;
    let (l_rows, y_rows, each, width) = (of_l as u64, of_y as u64, variables as u32, k as u32);
    let constant = (variable_constant(k, temperature) * variables as f64) as f32;
    let (config, lanes) = rows_of(examples, k)?;
    let mut out = room(&device, examples)?;
    with_numbers!(|l, y| launch!(
        device,
        "exp_concrete_log_density",
        config,
        &l,
        &y,
        &mut out,
        &(examples as u64),
        &l_rows,
        &y_rows,
        &each,
        &width,
        &lanes,
        &(temperature as f32),
        &constant
    ));
    let value = Value::new(&device, out, examples);
    node("exp_concrete_log_density", [l, y], value, move |[l, y], _, g| {
        let ((config, lanes), mut d) = (rows_of(n, k)?, room(&device, numbers)?);
        with_numbers!(|l, y, g| launch!(
            device,
            "exp_concrete_density_slopes",
            config,
            &l,
            &y,
            &g,
            &mut d,
            &(n as u64),
            &l_rows,
            &y_rows,
            &each,
            &width,
            &lanes,
            &(temperature as f32)
        ));
        shares([l, y], &Value::new(&device, d, numbers).tensor(), temperature)
    })
}

/// The gradients of logits and value, where `slopes` holds that of the value at each use of one.
fn shares(
    [logits, value]: [&Tensor; 2],
    slopes: &Tensor,
    temperature: f64,
) -> Result<[Option<Tensor>; 2]> {
    let share = |x: &Tensor, scale: f64| {
        x.track_op().then(|| sum_of_repeats(slopes, x.shape(), scale)).transpose()
    };
    Ok([share(logits, -1. / temperature)?, share(value, 1.)?])
}
