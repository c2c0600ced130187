//! A given gradient at the end of a graph.
use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

/// The gradient `∂L/∂y` of an unspecified scalar `L` in a tensor `y` of the same shape.
///
/// Candle differentiates scalars only. A node whose value is 0 and whose gradient is this tensor costs less than
/// the scalar `Σ y g` would.
#[derive(Clone)]
pub(crate) struct Upstream(pub(crate) Tensor);

impl Upstream {
    /// The gradients `∂L/∂v` of all variables `v` that `y` depends on.
    pub(crate) fn backward(&self, y: &Tensor) -> Result<GradStore> {
        gumbel_kernels::backward(&y.apply_op1(self.clone())?)
    }
}

impl CustomOp1 for Upstream {
    fn name(&self) -> &'static str {
        "upstream"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.]), Shape::from(())))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.0.clone()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn the_gradient_is_the_one_of_the_weighted_sum() -> Result<()> {
        let x = Var::new(&[0.5f32, -1., 2.], &Device::Cpu)?;
        let g = Tensor::new(&[3f32, 0., -2.], &Device::Cpu)?;
        let gradient = |of: GradStore| of.get(&x).unwrap().to_vec1::<f32>();
        let ours = gradient(Upstream(g.clone()).backward(&x.sqr()?)?)?;
        assert_eq!(ours, gradient((x.sqr()? * &g)?.sum_all()?.backward()?)?);
        assert_eq!(ours, [3., 0., -8.]);
        Ok(())
    }
}
