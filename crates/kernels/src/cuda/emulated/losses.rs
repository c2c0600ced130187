use candle_core::{DType, Device, Result, Tensor};

use super::{Grid, LANES, STRIDES, close, kernels, numbers, ours, room};
use crate::check::irregular;
use crate::{bernoulli_log_prob, categorical_kl, cross_entropy};

/// Rows of one side that the other side repeats.
fn shape(rows: usize, width: usize) -> Vec<usize> {
    if rows == 6 { vec![3, 2, width] } else { vec![rows, width] }
}

#[test]
fn bernoulli_and_its_gradients_are_those_of_the_cpu() -> Result<()> {
    let Some(kernels) = kernels() else { return Ok(()) };
    for (lanes, (of_l, of_x, d)) in LANES.into_iter().zip([(6, 2, 19), (2, 6, 7), (3, 3, 784)]) {
        let l = (irregular(&shape(of_l, d), 1, DType::F32)? * 3.)?;
        let x = irregular(&shape(of_x, d), 2, DType::F32)?;
        let ours = ours(&[&l, &x], |i| bernoulli_log_prob(&i[0], &i[1]))?;
        let (n, logits, data) = (of_l.max(of_x), numbers(&l)?, numbers(&x)?);
        let (logits, data, g) = (logits.as_ptr(), data.as_ptr(), ours.cotangent.as_ptr());
        let (rows, l_rows, x_rows, width) = (n as u64, of_l as u64, of_x as u64, d as u32);
        let (mut y, mut of_logits, mut of_data) = (room(n), room(of_l * d), room(of_x * d));
        let arguments = (logits, data, y.as_mut_ptr(), rows, l_rows, x_rows, width, lanes);
        kernels.run("bernoulli_log_prob", Grid::rows(n, lanes), arguments);
        let arguments = (logits, data, g, of_logits.as_mut_ptr(), rows, l_rows, x_rows, width);
        kernels.run("bernoulli_slopes_of_logits", STRIDES, arguments);
        let arguments = (logits, g, of_data.as_mut_ptr(), rows, l_rows, x_rows, width);
        kernels.run("bernoulli_slopes_of_data", STRIDES, arguments);
        close(&y, &ours.value, 1e-5);
        close(&of_logits, &ours.gradients[0], 1e-5);
        close(&of_data, &ours.gradients[1], 1e-5);
    }
    Ok(())
}

#[test]
fn the_divergence_and_its_gradients_are_those_of_the_cpu() -> Result<()> {
    let Some(kernels) = kernels() else { return Ok(()) };
    for (lanes, (of_q, of_p, k)) in LANES.into_iter().zip([(6, 2, 10), (2, 6, 3), (3, 3, 900)]) {
        let q = (irregular(&shape(of_q, k), 1, DType::F32)? * 3.)?;
        let p = irregular(&shape(of_p, k), 2, DType::F32)?;
        let ours = ours(&[&q, &p], |i| categorical_kl(&i[0], &i[1]))?;
        let (n, to, from) = (of_q.max(of_p), numbers(&q)?, numbers(&p)?);
        let (to, from, g) = (to.as_ptr(), from.as_ptr(), ours.cotangent.as_ptr());
        let (rows, q_rows, p_rows, width) = (n as u64, of_q as u64, of_p as u64, k as u32);
        let (mut y, mut d_q, mut d_p) = (room(n), room(of_q * k), room(of_p * k));
        let arguments = (to, from, y.as_mut_ptr(), rows, q_rows, p_rows, width, lanes);
        kernels.run("categorical_kl", Grid::rows(n, lanes), arguments);
        let out = d_q.as_mut_ptr();
        let arguments = (to, from, y.as_ptr(), g, out, rows, q_rows, p_rows, width, lanes);
        kernels.run("categorical_kl_slopes_of_q", Grid::rows(of_q, lanes), arguments);
        let arguments = (to, from, g, d_p.as_mut_ptr(), rows, q_rows, p_rows, width, lanes);
        kernels.run("categorical_kl_slopes_of_p", Grid::rows(of_p, lanes), arguments);
        close(&y, &ours.value, 1e-5);
        close(&d_q, &ours.gradients[0], 1e-5);
        close(&d_p, &ours.gradients[1], 1e-5);
    }
    Ok(())
}

#[test]
fn cross_entropy_and_its_gradient_are_those_of_the_cpu() -> Result<()> {
    let Some(kernels) = kernels() else { return Ok(()) };
    for (lanes, (n, k)) in LANES.into_iter().zip([(11usize, 10usize), (11, 10), (3, 3000)]) {
        let mut from = numbers(&(irregular(&[n, k], 1, DType::F32)? * 4.)?)?;
        from[1] = f32::NEG_INFINITY;
        let logits = Tensor::from_vec(from.clone(), (n, k), &Device::Cpu)?;
        let ids: Vec<u32> = (0..n as u32).map(|i| (7 * i + 3) % k as u32).collect();
        let targets = Tensor::new(ids.as_slice(), &Device::Cpu)?;
        let ours = ours(&[&logits], |x| cross_entropy(&x[0], &targets))?;
        let (mut y, mut sums, mut d) = (room(n), room(2 * n), room(n * k));
        let (x, ids, rows, width) = (from.as_ptr(), ids.as_ptr(), n as u64, k as u32);
        let arguments = (x, ids, y.as_mut_ptr(), sums.as_mut_ptr(), rows, width, lanes);
        kernels.run("cross_entropy", Grid::rows(n, lanes), arguments);
        let (sums, g) = (sums.as_ptr(), ours.cotangent.as_ptr());
        kernels.run(
            "cross_entropy_slopes",
            STRIDES,
            (x, ids, sums, g, d.as_mut_ptr(), rows, width),
        );
        close(&y, &ours.value, 1e-5);
        close(&d, &ours.gradients[0], 1e-5);
    }
    Ok(())
}
