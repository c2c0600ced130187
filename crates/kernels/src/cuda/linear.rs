//! Affine maps, by the products of CUDA's library.
#![expect(unsafe_code, reason = "kernels are launched")]
use candle_core::{D, DType, Result, Tensor};

use super::launch::{device, launch, room, strides, with_numbers};
use crate::Activation;
use crate::autocast::product_dtype;
use crate::gpu::{Value, node};

/// Of sizes that were checked.
pub(crate) fn linear(x: &Tensor, w: &Tensor, b: &Tensor, activation: Activation) -> Result<Tensor> {
    let (device, outputs) = (device(x)?, w.dim(0)?);
    let half = product_dtype(x.dtype()).unwrap_or(x.dtype());
    // Rows of factors, in the type of the products.
    let factor = move |t: &Tensor| {
        let width = t.dim(D::Minus1)?;
        t.detach().contiguous()?.reshape(((), width))?.to_dtype(half)
    };
    let y = factor(x)?.matmul(&factor(w)?.t()?)?.to_dtype(DType::F32)?;
    let (n, mut out) = (y.elem_count(), room(&device, y.elem_count())?);
    let y = &y;
    with_numbers!(|y, b| launch!(
        device,
        "activate",
        strides(n),
        &y,
        &b,
        &mut out,
        &(n as u64),
        &(outputs as u32),
        &(activation as u32)
    ));
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = outputs;
    }
    let value = Value::new(&device, out, shape);
    node("linear", [x, w, b], value, move |[x, w, b], y, g| {
        let d = match activation {
            Activation::Identity => g.reshape(((), outputs))?,
            _ => {
                let mut d = room(&device, n)?;
                with_numbers!(|y, g| launch!(
                    device,
                    "activation_slopes",
                    strides(n),
                    &y,
                    &g,
                    &mut d,
                    &(n as u64),
                    &(activation as u32)
                ));
                Value::new(&device, d, (n / outputs, outputs)).tensor()
            }
        };
        let slopes = factor(&d)?;
        let of_x = || slopes.matmul(&factor(w)?)?.to_dtype(DType::F32)?.reshape(x.shape());
        let of_w = || slopes.t()?.matmul(&factor(x)?)?.to_dtype(DType::F32);
        // Sums over rows, as a product: many threads at work on each column.
        let of_b = || -> Result<Tensor> {
            let ones = Tensor::ones((1, d.dim(0)?), DType::F32, d.device())?;
            ones.matmul(&d)?.flatten_all()
        };
        Ok([
            x.track_op().then(of_x).transpose()?,
            w.track_op().then(of_w).transpose()?,
            b.track_op().then(of_b).transpose()?,
        ])
    })
}
