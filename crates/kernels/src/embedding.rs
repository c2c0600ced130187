//! Vectors of symbols.
use candle_core::{DType, Result, Tensor};

use crate::graph::{compute, fusible, node};
use crate::rows::make_rows;
use crate::vectorised::vectorised;
use crate::{Real, in_single};

/// The rows of a table that `ids` name.
///
/// `table: [V, D]`, `ids: [..]` of `u32` → `[.., D]`. Differentiable in the table; its gradient is dense, `[V, D]`,
/// zeros where no id points.
///
/// # Errors
/// If an id is not below `V`, or `ids` are not of `u32`.
pub fn embedding(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let (vocabulary, width) = table.dims2()?;
    let shape = [ids.dims(), &[width]].concat();
    #[cfg(feature = "cuda")]
    if crate::cuda::takes([table]) && ids.device().same_device(table.device()) {
        let checked = Indices::below(ids, vocabulary, "embedding: id")?;
        return crate::cuda::embedding(table, ids, checked);
    }
    if !fusible([table, ids]) {
        return reference(table, ids);
    }
    let ids = Indices::below(ids, vocabulary, "embedding: id")?;
    in_single([table], |[table]| {
        let y = compute!("embedding", shape, T, |table| {
            make_rows(ids.0.len(), width, width, |first, y: &mut [T]| {
                for (y, id) in y.chunks_exact_mut(width).zip(&ids.0[first..]) {
                    y.copy_from_slice(&table[*id as usize * width..][..width]);
                }
                Ok(())
            })?
        });
        node("embedding", [table], y, move |[table], _, g| {
            let order = ids.by_value();
            let d = compute!("embedding", table.shape(), T, |g| {
                make_rows(vocabulary, width, width, |first, d: &mut [T]| {
                    add_rows_of(&order, g, width, first as u32, d);
                    Ok(())
                })?
            });
            Ok([Some(d.tensor())])
        })
    })
}

/// The twin of [`embedding`] from plain candle operations.
pub fn reference(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let shape = [ids.dims(), &[table.dim(1)?]].concat();
    table.index_select(&ids.flatten_all()?, 0)?.reshape(shape)
}

/// Indices into an axis, all of them inside it.
pub(crate) struct Indices(pub(crate) Vec<u32>);

impl Indices {
    /// The numbers of a tensor of any shape; an error that starts with `what` if one is not below `bound`.
    pub(crate) fn below(indices: &Tensor, bound: usize, what: &str) -> Result<Self> {
        if indices.dtype() != DType::U32 {
            candle_core::bail!("{what}: expected a tensor of u32, got {:?}", indices.dtype())
        }
        let indices: Vec<u32> = indices.flatten_all()?.to_vec1()?;
        match indices.iter().position(|i| *i as usize >= bound) {
            Some(place) => candle_core::bail!(
                "{what} {} at place {place} is not below {bound}, the number of categories",
                indices[place]
            ),
            None => Ok(Self(indices)),
        }
    }

    /// The places of each index that occurs, one index after the other.
    #[cfg(any(test, feature = "cuda"))]
    pub(crate) fn segments(&self) -> Segments {
        let mut segments = Segments::default();
        for (value, place) in self.by_value() {
            if segments.used.last() != Some(&value) {
                segments.used.push(value);
                segments.starts.push(segments.places.len() as u32);
            }
            segments.places.push(place as u32);
        }
        segments.starts.push(segments.places.len() as u32);
        segments
    }

    /// Pairs of value and place, in ascending order.
    fn by_value(&self) -> Vec<(u32, usize)> {
        let mut order: Vec<_> = self.0.iter().copied().zip(0..).collect();
        order.sort_unstable();
        order
    }
}

/// Indices that occur, in ascending order, and where: index `used[s]` at `places[starts[s]..starts[s + 1]]`.
#[cfg(any(test, feature = "cuda"))]
#[derive(Default)]
pub(crate) struct Segments {
    pub(crate) used: Vec<u32>,
    pub(crate) starts: Vec<u32>,
    pub(crate) places: Vec<u32>,
}

vectorised! {
    /// Adds to the rows `first..` of a table, in `d`, the rows of `g` at the places of each.
    fn add_rows_of<T: Real>(
        order: &[(u32, usize)],
        g: &[T],
        width: usize,
        first: u32,
        d: &mut [T],
    ) {
        let start = order.partition_point(|(id, _)| *id < first);
        for (id, place) in &order[start..] {
            let row = (id - first) as usize * width;
            let Some(d) = d.get_mut(row..row + width) else { break };
            for (d, g) in d.iter_mut().zip(&g[place * width..][..width]) {
                *d += *g;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::check::{finite_differences, irregular, twins};

    /// Some ids more than once, some never.
    fn ids(shape: &[usize], vocabulary: u32) -> Result<Tensor> {
        let n = shape.iter().product::<usize>() as u32;
        let ids: Vec<u32> = (0..n).map(|i| (i * i + 3 * i) % vocabulary).collect();
        Tensor::from_vec(ids, shape, &Device::Cpu)
    }

    #[test]
    fn fused_equals_reference_in_value_and_gradient() -> Result<()> {
        for (table, shape, dtype, tolerance) in [
            ([9, 5], vec![4, 3], DType::F64, 1e-12),
            ([1000, 70], vec![2, 3, 301], DType::F32, 1e-5),
            ([3, 2], vec![], DType::F64, 0.),
            ([3, 2], vec![0], DType::F64, 0.),
        ] {
            let ids = ids(&shape, table[0] as u32)?;
            let table = irregular(&table, 1, dtype)?;
            twins(&[table], tolerance, |t| embedding(&t[0], &ids), |t| reference(&t[0], &ids))?;
        }
        let ids = ids(&[6], 4)?;
        finite_differences(&[irregular(&[4, 3], 2, DType::F64)?], |t| embedding(&t[0], &ids))
    }

    #[test]
    fn an_id_that_is_not_in_the_table_is_named() -> Result<()> {
        let table = irregular(&[4, 3], 1, DType::F32)?;
        let error = embedding(&table, &Tensor::new(&[[1u32, 3], [4, 0]], &Device::Cpu)?);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("id 4 at place 2 is not below 4"), "{error}");
        let error = embedding(&table, &Tensor::new(&[1f32], &Device::Cpu)?).unwrap_err();
        assert!(error.to_string().contains("F32"), "{error}");
        assert!(embedding(&table.flatten_all()?, &ids(&[2], 4)?).is_err());
        Ok(())
    }
}
