use candle_core::{DType, Result, Tensor};

use super::{Grid, Kernels, LANES, Ours, STRIDES, Stream, close, kernels, numbers, ours, room};
use crate::check::irregular;
use crate::exp_concrete_density::variable_constant;
use crate::{
    Forward, Key, bin_concrete_log_density, bin_concrete_with_log_density, exp_concrete,
    exp_concrete_log_density, exp_concrete_with_log_density, gumbel_sigmoid,
};

const TEMPERATURE: f64 = 0.7;
const INVERSE: f32 = 1. / 0.7;

fn key() -> Key {
    Key::from_seed(6).named("concrete")
}

fn repeats(kernels: &Kernels, x: &[f32], n: usize, scale: f32) -> Vec<f32> {
    let mut sums = room(n);
    let arguments = (x.as_ptr(), sums.as_mut_ptr(), n as u64, x.len() as u64, scale);
    kernels.run("sum_of_repeats", STRIDES, arguments);
    sums
}

#[test]
fn bits_and_their_gradients_are_those_of_the_cpu() -> Result<()> {
    let Some(kernels) = kernels() else { return Ok(()) };
    let stream = Stream(key().words());
    for (lanes, (inputs, samples, k)) in LANES.into_iter().zip([(4, 3, 10), (3, 2, 7), (1, 2, 300)])
    {
        let logits = irregular(&[1, inputs, k], 1, DType::F32)?;
        let (from, rows) = (numbers(&logits)?, samples * inputs);
        let constant = (TEMPERATURE.ln() * k as f64) as f32;
        let (all, numbers_of_logits) = ((rows * k) as u64, (inputs * k) as u64);
        let sample = |form: u32| {
            let mut y = room(rows * k);
            let (from, to) = (from.as_ptr(), y.as_mut_ptr());
            kernels.run("bits", STRIDES, (from, to, all, numbers_of_logits, INVERSE, form, stream));
            y
        };
        let (mut v, mut density) = (room(rows * k), room(rows));
        let (logit, to, beside) = (from.as_ptr(), v.as_mut_ptr(), density.as_mut_ptr());
        let (n, width) = (rows as u64, k as u32);
        let arguments =
            (logit, to, beside, n, numbers_of_logits, width, lanes, INVERSE, constant, stream);
        kernels.run("bin_concrete", Grid::rows(rows, lanes), arguments);
        let value = ours(&[&logits], |x| {
            Ok(bin_concrete_with_log_density(&x[0], samples, TEMPERATURE, key())?.0)
        })?;
        let densities = bin_concrete_with_log_density(&logits, samples, TEMPERATURE, key())?.1;
        assert_eq!(v, value.value);
        assert_eq!(sample(0), value.value);
        close(&density, &numbers(&densities)?, 1e-5);
        close(&repeats(&kernels, &value.cotangent, inputs * k, INVERSE), &value.gradients[0], 1e-5);
        for (again, forward) in [(0u32, Forward::Soft), (1, Forward::Hard)] {
            let bits =
                ours(&[&logits], |x| gumbel_sigmoid(&x[0], samples, TEMPERATURE, forward, key()))?;
            let y = sample(1 + again);
            close(&y, &bits.value, 1e-6);
            let (given, mut d) = (if again == 1 { &from } else { &y }, room(inputs * k));
            let (given, g, to) = (given.as_ptr(), bits.cotangent.as_ptr(), d.as_mut_ptr());
            let arguments = (given, g, to, numbers_of_logits, all, INVERSE, again, stream);
            kernels.run("gumbel_sigmoid_slopes", STRIDES, arguments);
            close(&d, &bits.gradients[0], 1e-5);
        }
    }
    Ok(())
}

#[test]
fn categories_and_their_gradient_are_those_of_the_cpu() -> Result<()> {
    let Some(kernels) = kernels() else { return Ok(()) };
    let stream = Stream(key().words());
    let cases = [(4, 3, 2, 10), (3, 2, 1, 7), (1, 2, 3, 300)];
    for (lanes, (inputs, samples, variables, k)) in LANES.into_iter().zip(cases) {
        let logits = irregular(&[1, inputs, variables, k], 1, DType::F32)?;
        let (from, examples, rows) = (numbers(&logits)?, samples * inputs, inputs * variables);
        let (mut y, mut density) = (room(samples * rows * k), room(examples));
        let constant = (variable_constant(k, TEMPERATURE) * variables as f64) as f32;
        let (from, to, beside) = (from.as_ptr(), y.as_mut_ptr(), density.as_mut_ptr());
        let (n, of_logits, each, width) =
            (examples as u64, rows as u64, variables as u32, k as u32);
        let arguments =
            (from, to, beside, n, of_logits, each, width, lanes, INVERSE, constant, 1u32, stream);
        kernels.run("exp_concrete", Grid::rows(examples, lanes), arguments);
        let value = ours(&[&logits], |x| exp_concrete(&x[0], samples, TEMPERATURE, key()))?;
        let densities = exp_concrete_with_log_density(&logits, samples, TEMPERATURE, key())?.1;
        close(&y, &value.value, 3e-6);
        close(&density, &numbers(&densities)?, 1e-5);
        let (mut d, g) = (room(rows * k), value.cotangent.as_ptr());
        let (y, to, repeats) = (y.as_ptr(), d.as_mut_ptr(), samples as u64);
        let arguments = (y, g, to, of_logits, repeats, width, lanes, INVERSE);
        kernels.run("log_softmax_slopes", Grid::rows(rows, lanes), arguments);
        close(&d, &value.gradients[0], 1e-5);
    }
    Ok(())
}

/// The gradients of both, of that in the value at each use.
fn shares(kernels: &Kernels, slopes: &[f32], inputs: [&Tensor; 2], ours: &Ours, tolerance: f32) {
    let scales = [-INVERSE, 1.];
    for ((x, scale), gradient) in inputs.into_iter().zip(scales).zip(&ours.gradients) {
        close(&repeats(kernels, slopes, x.elem_count(), scale), gradient, tolerance);
    }
}

#[test]
fn densities_and_their_gradients_are_those_of_the_cpu() -> Result<()> {
    let Some(kernels) = kernels() else { return Ok(()) };
    let temperature = TEMPERATURE as f32;
    // Logits and values, of which one repeats the other's examples.
    let cases = [[1, 4, 2, 10], [4, 1, 1, 7], [2, 2, 3, 300]];
    for (lanes, [of_l, of_v, variables, k]) in LANES.into_iter().zip(cases) {
        let l = (irregular(&[of_l, 3, variables, k], 1, DType::F32)? * 3.)?;
        let v = (irregular(&[of_v, 3, variables, k], 2, DType::F32)? * 4.)?;
        let (logits, values) = (numbers(&l)?, numbers(&v)?);
        let examples = (l.elem_count().max(v.elem_count())) / (variables * k);
        let numbers = examples * variables * k;
        let (l_rows, v_rows) = (logits.len() / k, values.len() / k);
        let (from, by, width) = (logits.as_ptr(), values.as_ptr(), k as u32);

        let bits = ours(&[&l, &v], |x| bin_concrete_log_density(&x[0], &x[1], TEMPERATURE))?;
        let (rows, constant) = (numbers / k, (k as f64 * TEMPERATURE.ln()) as f32);
        let (mut y, mut d) = (room(rows), room(numbers));
        let (n, of_l, of_v) = (rows as u64, l_rows as u64, v_rows as u64);
        let to = y.as_mut_ptr();
        let arguments = (from, by, to, n, of_l, of_v, width, lanes, temperature, constant);
        kernels.run("bin_concrete_log_density", Grid::rows(rows, lanes), arguments);
        close(&y, &bits.value, 1e-5);
        let (g, to) = (bits.cotangent.as_ptr(), d.as_mut_ptr());
        let arguments = (from, by, g, to, n, of_l, of_v, width, temperature);
        kernels.run("bin_concrete_density_slopes", STRIDES, arguments);
        shares(&kernels, &d, [&l, &v], &bits, 1e-5);

        let categories = ours(&[&l, &v], |x| exp_concrete_log_density(&x[0], &x[1], TEMPERATURE))?;
        let constant = (variable_constant(k, TEMPERATURE) * variables as f64) as f32;
        let (mut y, mut d, each) = (room(examples), room(numbers), variables as u32);
        let (to, count) = (y.as_mut_ptr(), examples as u64);
        let arguments =
            (from, by, to, count, of_l, of_v, each, width, lanes, temperature, constant);
        kernels.run("exp_concrete_log_density", Grid::rows(examples, lanes), arguments);
        close(&y, &categories.value, 2e-5);
        let (g, to) = (categories.cotangent.as_ptr(), d.as_mut_ptr());
        let arguments = (from, by, g, to, n, of_l, of_v, each, width, lanes, temperature);
        kernels.run("exp_concrete_density_slopes", Grid::rows(rows, lanes), arguments);
        shares(&kernels, &d, [&l, &v], &categories, 1e-4);
    }
    Ok(())
}
