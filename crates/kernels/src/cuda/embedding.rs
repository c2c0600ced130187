//! Vectors of symbols.
#![expect(unsafe_code, reason = "kernels are launched")]
use candle_core::{Device, Result, Tensor};

use super::launch::{device, launch, room, strides, with_numbers};
use crate::embedding::{Indices, Segments};
use crate::gpu::{Value, node};

/// Of ids that were checked.
pub(crate) fn embedding(table: &Tensor, ids: &Tensor, checked: Indices) -> Result<Tensor> {
    let (device, (vocabulary, k)) = (device(table)?, table.dims2()?);
    let n = ids.elem_count();
    let mut y = room(&device, n * k)?;
    with_numbers!(|table: f32, ids: u32| launch!(
        device,
        "embedding",
        strides(n * k),
        &table,
        &ids,
        &mut y,
        &(n as u64),
        &(k as u32)
    ));
    let value = Value::new(&device, y, [ids.dims(), &[k]].concat());
    node("embedding", [table], value, move |_, _, g| {
        // The places of each id stand together, so that no two threads add to one row.
        let Segments { used, starts, places } = checked.segments();
        let segments = used.len();
        // Rows that no id names have no gradient.
        let mut d = device.alloc_zeros::<f32>((vocabulary * k).max(1))?;
        if segments > 0 {
            let on = |words: Vec<u32>| Tensor::new(words, &Device::Cuda(device.clone()));
            let (used, starts, places) = (on(used)?, on(starts)?, on(places)?);
            with_numbers!(|g: f32, used: u32, starts: u32, places: u32| launch!(
                device,
                "embedding_slopes",
                strides(segments * k),
                &g,
                &used,
                &starts,
                &places,
                &mut d,
                &(segments as u64),
                &(k as u32)
            ));
        }
        Ok([Some(Value::new(&device, d, (vocabulary, k)).tensor())])
    })
}
