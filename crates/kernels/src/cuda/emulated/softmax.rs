use candle_core::{DType, Device, Result, Tensor};

use super::{Grid, LANES, Stream, close, kernels, numbers, ours, room};
use crate::check::irregular;
use crate::{Forward, Key, gumbel_softmax, log_softmax, softmax};

#[test]
fn softmax_and_its_gradients_are_those_of_the_cpu() -> Result<()> {
    let Some(kernels) = kernels() else { return Ok(()) };
    for lanes in LANES {
        for (rows, k) in [(1usize, 1usize), (11, 10), (3, 2000)] {
            let (x, grid) =
                ((irregular(&[rows, k], 1, DType::F32)? * 5.)?, Grid::rows(rows, lanes));
            let (from, n, width) = (numbers(&x)?, rows as u64, k as u32);
            type Operation = fn(&Tensor) -> Result<Tensor>;
            for (logarithm, operation) in [(0u32, softmax as Operation), (1, log_softmax)] {
                let ours = ours(&[&x], |x| operation(&x[0]))?;
                let (mut y, mut d) = (room(rows * k), room(rows * k));
                let forward = (from.as_ptr(), y.as_mut_ptr(), n, width, lanes, logarithm);
                kernels.run("softmax", grid, forward);
                close(&y, &ours.value, 1e-5);
                let slopes = ["softmax_slopes", "log_softmax_slopes"][logarithm as usize];
                let (y, g) = (y.as_ptr(), ours.cotangent.as_ptr());
                kernels.run(slopes, grid, (y, g, d.as_mut_ptr(), n, 1u64, width, lanes, 1f32));
                close(&d, &ours.gradients[0], 1e-5);
            }
        }
    }
    Ok(())
}

#[test]
fn the_weights_of_attention_are_those_of_the_twin() -> Result<()> {
    let Some(kernels) = kernels() else { return Ok(()) };
    for (lanes, t) in LANES.into_iter().zip([5usize, 9, 70]) {
        let x = (irregular(&[2, t, t], 1, DType::F32)? * 5.)?;
        let from = numbers(&x)?;
        for window in [0, 1, 3, t] {
            let mut y = room(2 * t * t);
            let (from, to, n) = (from.as_ptr(), y.as_mut_ptr(), 2 * t as u64);
            let arguments = (from, to, n, t as u32, lanes, window as u32, 0.5f32);
            kernels.run("attention_softmax", Grid::rows(2 * t, lanes), arguments);
            let sees = |i: usize, j: usize| window == 0 || (j <= i && j + window > i);
            let hidden = |at: usize| if sees(at / t, at % t) { 0. } else { f32::NEG_INFINITY };
            let mask: Vec<f32> = (0..t * t).map(hidden).collect();
            let mask = Tensor::from_vec(mask, (t, t), &Device::Cpu)?;
            close(&y, &numbers(&softmax(&(&x * 0.5)?.broadcast_add(&mask)?)?)?, 1e-6);
        }
    }
    Ok(())
}

/// A masked category has no gradient, and gives none.
#[test]
fn masked_categories_take_no_part() -> Result<()> {
    let Some(kernels) = kernels() else { return Ok(()) };
    let x = Tensor::new(&[[1f32, f32::NEG_INFINITY, 0.5]], &Device::Cpu)?;
    let (y, g) = (numbers(&log_softmax(&x)?)?, [0.3f32, f32::NAN, -2.]);
    let open = log_softmax(&Tensor::new(&[1f32, 0.5], &Device::Cpu)?)?.exp()?.to_vec1::<f32>()?;
    for lanes in LANES {
        let mut d = room(3);
        let arguments = (y.as_ptr(), g.as_ptr(), d.as_mut_ptr(), 1u64, 1u64, 3u32, lanes, 1f32);
        kernels.run("log_softmax_slopes", Grid::rows(1, lanes), arguments);
        close(&d, &[0.3 + 1.7 * open[0], 0., -2. + 1.7 * open[1]], 1e-6);
    }
    Ok(())
}

#[test]
fn gumbel_softmax_and_its_gradient_are_those_of_the_cpu() -> Result<()> {
    let Some(kernels) = kernels() else { return Ok(()) };
    let key = Key::from_seed(5).named("gumbel_softmax");
    let (stream, inverse) = (Stream(key.words()), 1f32 / 0.7);
    for lanes in LANES {
        for (inputs, samples, k) in [(4usize, 3usize, 10usize), (3, 2, 7), (1, 2, 3000)] {
            let logits = irregular(&[1, inputs, k], 1, DType::F32)?;
            let (from, rows) = (numbers(&logits)?, samples * inputs);
            let (width, of_logits) = (k as u32, inputs as u64);
            let mut soft = Vec::new();
            for (hard, forward) in [(0u32, Forward::Soft), (1, Forward::Hard)] {
                let ours = ours(&[&logits], |x| gumbel_softmax(&x[0], samples, 0.7, forward, key))?;
                let (mut y, mut d) = (room(rows * k), room(inputs * k));
                let (from, out, n) = (from.as_ptr(), y.as_mut_ptr(), rows as u64);
                let arguments = (from, out, n, of_logits, width, lanes, inverse, hard, stream);
                kernels.run("gumbel_softmax", Grid::rows(rows, lanes), arguments);
                close(&y, &ours.value, 3e-6);
                if hard == 0 {
                    soft = y;
                }
                let (y, g, out) = (soft.as_ptr(), ours.cotangent.as_ptr(), d.as_mut_ptr());
                let arguments = (y, g, out, of_logits, samples as u64, width, lanes, inverse);
                kernels.run("softmax_slopes", Grid::rows(inputs, lanes), arguments);
                close(&d, &ours.gradients[0], 1e-5);
            }
        }
        // Where no category is left.
        let masked = [f32::NEG_INFINITY; 3];
        for hard in [0u32, 1] {
            let mut y = [0f32; 3];
            let (from, out) = (masked.as_ptr(), y.as_mut_ptr());
            let arguments = (from, out, 1u64, 1u64, 3u32, lanes, 1f32, hard, stream);
            kernels.run("gumbel_softmax", Grid::rows(1, lanes), arguments);
            assert!(y.iter().all(|y| y.is_nan()), "{y:?}");
        }
    }
    Ok(())
}
