use candle_core::{DType, Device, Result, Tensor};

use super::{Grid, STRIDES, Stream, close, kernels, numbers, room};
use crate::{Key, Real};

/// Functions of one number, which no kernel has for itself.
pub(super) const FUNCTIONS: &str = "
extern \"C\" void functions(const float* x, float* y, u64 n) {
    for (u64 i = 0; i < n; i++) {
        y[i * 4] = exponential(x[i]), y[i * 4 + 1] = ln_1p(absolute(x[i]));
        y[i * 4 + 2] = sigmoid(x[i]), y[i * 4 + 3] = softplus(x[i]);
    }
}
";

#[test]
fn noise_has_the_bits_of_the_cpu() -> Result<()> {
    let Some(kernels) = kernels() else { return Ok(()) };
    type Draw = fn(Key, usize, DType, &Device) -> Result<Tensor>;
    let draws = [Key::uniform as Draw, Key::gumbel, Key::logistic, Key::normal];
    for (noise, draw) in draws.into_iter().enumerate() {
        for n in [1, 4, 100_007] {
            let key = Key::from_seed(n as u64).named("noise");
            let mut out = room(n);
            let arguments = (out.as_mut_ptr(), n as u64, noise as u32, Stream(key.words()));
            kernels.run("fill", STRIDES, arguments);
            let ours = numbers(&draw(key, n, DType::F32, &Device::Cpu)?)?;
            // The normal deviates are those of the system's library of mathematics.
            if noise == 3 { close(&out, &ours, 1e-6) } else { assert_eq!(out, ours, "{noise}") }
        }
    }
    Ok(())
}

#[test]
fn functions_have_the_bits_of_the_cpu() {
    let Some(kernels) = kernels() else { return };
    let x: Vec<f32> = (-4000..4000).map(|i| i as f32 * 0.03).collect();
    let mut y = room(4 * x.len());
    let one = Grid { blocks: 1, threads: 1, tensors: 1 };
    kernels.run("functions", one, (x.as_ptr(), y.as_mut_ptr(), x.len() as u64));
    for (x, y) in x.iter().zip(y.chunks(4)) {
        let ours = [Real::exp(*x), Real::ln_1p(x.abs()), Real::sigmoid(*x), Real::softplus(*x)];
        assert_eq!(y, ours, "{x}");
    }
}
