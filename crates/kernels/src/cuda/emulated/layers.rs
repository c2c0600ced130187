use candle_core::{DType, Device, Result, Tensor};

use super::{Grid, LANES, STRIDES, close, kernels, numbers, ours, room};
use crate::check::irregular;
use crate::embedding::{Indices, Segments};
use crate::{Activation, embedding, layer_norm, linear_with_activation};

#[test]
fn layer_norm_and_its_gradients_are_those_of_the_cpu() -> Result<()> {
    let Some(kernels) = kernels() else { return Ok(()) };
    for (lanes, (n, k, chunk)) in LANES.into_iter().zip([(150, 33, 64), (9, 5, 2), (4, 700, 64)]) {
        let [x, scale, shift] = [(vec![n, k], 1), (vec![k], 2), (vec![k], 3)]
            .map(|(shape, seed)| irregular(&shape, seed, DType::F32));
        let (x, scale, shift) = (x?, scale?, shift?);
        let ours = ours(&[&x, &scale, &shift], |i| layer_norm(&i[0], &i[1], &i[2], 1e-5))?;
        let (from, by, and) = (numbers(&x)?, numbers(&scale)?, numbers(&shift)?);
        let (from, by, and, g) =
            (from.as_ptr(), by.as_ptr(), and.as_ptr(), ours.cotangent.as_ptr());
        let (mut y, mut moments, mut d) = (room(n * k), room(2 * n), room(n * k));
        let (grid, rows, width, beside) =
            (Grid::rows(n, lanes), n as u64, k as u32, moments.as_mut_ptr());
        let arguments = (from, by, and, y.as_mut_ptr(), beside, rows, width, lanes, 1e-5f32);
        kernels.run("layer_norm", grid, arguments);
        let moments = moments.as_ptr();
        let arguments = (from, by, moments, g, d.as_mut_ptr(), rows, width, lanes);
        kernels.run("layer_norm_slopes", grid, arguments);
        let parts = n.div_ceil(chunk);
        let mut sums = room(parts * 2 * k);
        let (out, sizes) = (sums.as_mut_ptr(), (parts as u64, chunk as u64));
        let arguments = (from, moments, g, out, rows, sizes.0, sizes.1, width);
        kernels.run("layer_norm_sums", STRIDES, arguments);
        let total: Vec<f32> =
            (0..2 * k).map(|j| sums.iter().skip(j).step_by(2 * k).sum()).collect();
        close(&y, &ours.value, 1e-5);
        close(&d, &ours.gradients[0], 1e-4);
        close(&total[..k], &ours.gradients[1], 1e-4);
        close(&total[k..], &ours.gradients[2], 1e-4);
    }
    Ok(())
}

#[test]
fn embeddings_and_their_gradient_are_those_of_the_cpu() -> Result<()> {
    let Some(kernels) = kernels() else { return Ok(()) };
    let (vocabulary, k) = (23usize, 7u32);
    let table = irregular(&[vocabulary, 7], 1, DType::F32)?;
    let ids: Vec<u32> = (0..40u32).map(|i| i * i % 19).collect();
    let tensor = Tensor::new(ids.as_slice(), &Device::Cpu)?;
    let ours = ours(&[&table], |x| embedding(&x[0], &tensor))?;
    let (from, mut y) = (numbers(&table)?, room(40 * 7));
    kernels.run("embedding", STRIDES, (from.as_ptr(), ids.as_ptr(), y.as_mut_ptr(), 40u64, k));
    assert_eq!(y, ours.value);
    let Segments { used, starts, places } = Indices::below(&tensor, vocabulary, "id")?.segments();
    assert_eq!((starts.len(), places.len()), (used.len() + 1, 40));
    let (mut d, n, g) = (vec![0f32; vocabulary * 7], used.len() as u64, ours.cotangent.as_ptr());
    let arguments = (g, used.as_ptr(), starts.as_ptr(), places.as_ptr(), d.as_mut_ptr(), n, k);
    kernels.run("embedding_slopes", STRIDES, arguments);
    close(&d, &ours.gradients[0], 1e-6);
    Ok(())
}

/// Bias and nonlinearity; the products are a library's.
#[test]
fn what_is_beside_a_product_is_that_of_the_cpu() -> Result<()> {
    let Some(kernels) = kernels() else { return Ok(()) };
    let (x, bias) = (irregular(&[9, 5], 1, DType::F32)?, irregular(&[5], 2, DType::F32)?);
    let one = Tensor::eye(5, DType::F32, &Device::Cpu)?;
    for activation in [Activation::Identity, Activation::Relu, Activation::Tanh] {
        let ours = ours(&[&x, &bias], |i| linear_with_activation(&i[0], &one, &i[1], activation))?;
        let (from, add, which) = (numbers(&x)?, numbers(&bias)?, activation as u32);
        let (mut y, mut d) = (room(45), room(45));
        let arguments = (from.as_ptr(), add.as_ptr(), y.as_mut_ptr(), 45u64, 5u32, which);
        kernels.run("activate", STRIDES, arguments);
        close(&y, &ours.value, 1e-6);
        let arguments = (y.as_ptr(), ours.cotangent.as_ptr(), d.as_mut_ptr(), 45u64, which);
        kernels.run("activation_slopes", STRIDES, arguments);
        close(&d, &ours.gradients[0], 1e-6);
    }
    Ok(())
}
