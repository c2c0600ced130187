//! A number times a tensor.
use candle_core::{Result, Tensor};

/// `weight · x`, with a gradient of 0 where the weight is 0.
///
/// For weights that a schedule lets reach 0: candle leaves what is multiplied by the number 0 out of the graph, and what
/// only it depends on then has no gradient at all.
pub fn scale(x: &Tensor, weight: f64) -> Result<Tensor> {
    if weight == 0. {
        x.broadcast_mul(&Tensor::zeros((), x.dtype(), x.device())?)
    } else {
        x * weight
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::backward;

    #[test]
    fn there_is_a_gradient_for_every_weight() -> Result<()> {
        let x = Var::new(&[1f32, 2.], &Device::Cpu)?;
        for weight in [0., 1., -2.5] {
            let y = scale(&x, weight)?;
            assert_eq!(y.to_vec1::<f32>()?, [weight as f32, 2. * weight as f32]);
            for gradients in [y.sum_all()?.backward()?, backward(&y.sum_all()?)?] {
                let Some(gradient) = gradients.get(&x) else { panic!("no gradient at {weight}") };
                assert_eq!(gradient.to_vec1::<f32>()?, [weight as f32; 2]);
            }
        }
        Ok(())
    }
}
