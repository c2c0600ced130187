//! A differentiable operation from a function of one row that knows its gradient.
use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor};

/// Value and gradient of a function of one row.
type RowFunction = dyn Fn(&[f64]) -> (f64, Vec<f64>) + Send + Sync;

/// `f` of every row of `x: [.., W]`: `[..]`, in the dtype of `x`, computed in double precision on the host.
///
/// For the one-dimensional integrals behind closed forms; their gradient is an integral, too.
pub(crate) fn map_rows(
    x: &Tensor,
    f: impl Fn(&[f64]) -> (f64, Vec<f64>) + Send + Sync + 'static,
) -> Result<Tensor> {
    let double = x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.contiguous()?;
    let y = double.apply_op1(Rows(Box::new(f)))?;
    y.to_dtype(x.dtype())?.to_device(x.device())
}

struct Rows(Box<RowFunction>);

impl CustomOp1 for Rows {
    fn name(&self) -> &'static str {
        "map_rows"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (Some((from, to)), [leading @ .., width]) = (l.contiguous_offsets(), l.dims()) else {
            candle_core::bail!("expected contiguous rows, got {l:?}")
        };
        let x = &s.as_slice::<f64>()?[from..to];
        let y = x.chunks((*width).max(1)).map(|row| (self.0)(row).0).collect();
        Ok((CpuStorage::F64(y), Shape::from(leading)))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let width = x.dims().last().copied().unwrap_or(1);
        let values = x.flatten_all()?.to_vec1::<f64>()?;
        let g = g.flatten_all()?.to_vec1::<f64>()?;
        let d: Vec<f64> = values
            .chunks(width.max(1))
            .zip(g)
            .flat_map(|(row, g)| (self.0)(row).1.into_iter().map(move |d| d * g))
            .collect();
        Ok(Some(Tensor::from_vec(d, x.shape(), x.device())?))
    }
}
