//! The partition function and the marginals as operations with a gradient.
use candle_core::{CpuStorage, CustomOp1, CustomOp2, D, Layout, Result, Shape, Tensor};

use super::polynomial::{log_partition, marginals};

#[derive(Clone, Copy, Debug)]
pub(super) struct LogPartition(pub(super) usize);
#[derive(Clone, Copy, Debug)]
pub(super) struct Marginals(pub(super) usize);
#[derive(Clone, Copy, Debug)]
struct MarginalsBackward(usize);

fn rows<'a>(s: &'a CpuStorage, l: &Layout) -> Result<(&'a [f64], usize)> {
    match (l.contiguous_offsets(), l.dims().last()) {
        (Some((from, to)), Some(k)) => Ok((&s.as_slice::<f64>()?[from..to], (*k).max(1))),
        _ => candle_core::bail!("expected contiguous rows, got {l:?}"),
    }
}

impl CustomOp1 for LogPartition {
    fn name(&self) -> &'static str {
        "subset_log_partition"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, k) = rows(s, l)?;
        let y = x.chunks(k).map(|row| log_partition(row, self.0)).collect::<Result<_>>()?;
        Ok((CpuStorage::F64(y), Shape::from(&l.dims()[..l.dims().len() - 1])))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let marginals = x.apply_op1_no_bwd(&Marginals(self.0))?;
        Ok(Some(marginals.broadcast_mul(&g.unsqueeze(D::Minus1)?)?))
    }
}

impl CustomOp1 for Marginals {
    fn name(&self) -> &'static str {
        "subset_marginals"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, k) = rows(s, l)?;
        let rows =
            x.chunks(k).map(|row| marginals(row, self.0, &[])).collect::<Result<Vec<_>>>()?;
        let y = rows.into_iter().flatten().map(|dual| dual.value).collect();
        Ok((CpuStorage::F64(y), l.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(x.apply_op2_no_bwd(&g.contiguous()?, &MarginalsBackward(self.0))?))
    }
}

impl CustomOp2 for MarginalsBackward {
    fn name(&self) -> &'static str {
        "subset_marginals_backward"
    }

    /// The Jacobian is a covariance, so symmetric: its product with `g` is the derivative along `g`.
    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        g: &CpuStorage,
        lg: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((x, k), (g, _)) = (rows(x, lx)?, rows(g, lg)?);
        let along = x.chunks(k).zip(g.chunks(k)).map(|(row, g)| marginals(row, self.0, g));
        let rows = along.collect::<Result<Vec<_>>>()?;
        let d = rows.into_iter().flatten().map(|dual| dual.slope).collect();
        Ok((CpuStorage::F64(d), lx.shape().clone()))
    }
}
