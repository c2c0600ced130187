//! Small networks on the coordinates of one site: learned baselines and control variates.
use candle_core::{Result, Tensor};
use gumbel_kernels::Key;

use super::site::of_site;
use super::{Site, SiteDraw, Store};

/// A function of the coordinates of a site, `v · tanh(W x + b) + c`, and its gradient in them.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    site: Site,
    /// `[D, H]`
    weight: Tensor,
    /// `[H]`
    bias: Tensor,
    /// `[H]`
    output: Tensor,
    /// Scalar.
    constant: Tensor,
}

impl Network {
    /// Weights uniform by Glorot and Bengio (2010); the output starts at 0, and so the function does.
    pub(crate) fn new(
        site: &SiteDraw,
        hidden: usize,
        store: &mut dyn Store,
        key: Key,
    ) -> Result<Self> {
        if hidden == 0 {
            candle_core::bail!("a network needs hidden units, got 0; use at least 1")
        }
        let logits = site.posterior.logits();
        let (dtype, device) = (logits.dtype(), logits.device());
        let inputs: usize = logits.dims().iter().skip(2).product();
        let reach = (6. / (inputs + hidden) as f64).sqrt();
        let key = site.site.key(key.named("network"));
        let weight = key.uniform((inputs, hidden), dtype, device)?.affine(2. * reach, -reach)?;
        let zeros = Tensor::zeros(hidden, dtype, device)?;
        let mut parameter = |part: &str, initial: &Tensor| {
            store.parameter(&format!("{}.{part}", site.site.path()), initial)
        };
        Ok(Self {
            site: site.site.clone(),
            weight: parameter("weight", &weight)?,
            bias: parameter("bias", &zeros)?,
            output: parameter("output", &zeros)?,
            constant: parameter("constant", &Tensor::zeros((), dtype, device)?)?,
        })
    }

    /// The network of `site`.
    ///
    /// # Errors
    /// If the site was not there when the estimator was made.
    pub(crate) fn of<'a>(networks: &'a [Self], site: &SiteDraw) -> Result<&'a Self> {
        of_site(networks, |network| &network.site, site)
    }

    /// `tanh(W x + b)`: `[S, B, H]` of detached coordinates `x: [S, B, ..]`.
    fn hidden(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.detach().flatten_from(2)?.maximum(-FLOOR)?; // [S, B, D]; a mask is a number to it
        let (s, b, d) = x.dims3()?;
        let activation = x.reshape((s * b, d))?.matmul(&self.weight)?.broadcast_add(&self.bias)?;
        activation.tanh()?.reshape((s, b, ()))
    }

    /// The value `[S, B]` at coordinates `x: [S, B, ..]`.
    pub(crate) fn value(&self, x: &Tensor) -> Result<Tensor> {
        let sum = self.hidden(x)?.broadcast_mul(&self.output)?.sum(2)?;
        sum.broadcast_add(&self.constant)
    }

    /// Value `[S, B]` and its gradient in the coordinates, in the shape of `x`. Both can be differentiated
    /// in the parameters, which is why the gradient is written out.
    pub(crate) fn value_and_gradient(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let hidden = self.hidden(x)?;
        let value = hidden.broadcast_mul(&self.output)?.sum(2)?.broadcast_add(&self.constant)?;
        let slope = (1. - hidden.sqr()?)?.broadcast_mul(&self.output)?; // v (1 - tanh²)
        let (s, b, h) = slope.dims3()?;
        let gradient = slope.reshape((s * b, h))?.matmul(&self.weight.t()?)?;
        Ok((value, gradient.reshape(x.shape())?))
    }
}

/// What a masked coordinate is to a network.
const FLOOR: f64 = 50.;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributions::Bernoulli;
    use crate::estimators::{Independent, Trace, Variables};
    use candle_core::{DType, Device, Var};

    #[test]
    fn the_gradient_is_that_of_the_value() -> Result<()> {
        let logits = Key::from_seed(1).normal((1, 3, 4), DType::F64, &Device::Cpu)?;
        let program = |t: &mut Trace<'_>| {
            let q = Bernoulli::from_logits(&logits)?;
            t.sample("z", &q, &q)?.sum(2)
        };
        let (_, sites) = Trace::run(&program, &mut Independent { samples: 1 }, Key::from_seed(2))?;
        let mut store = Variables::default();
        let network = Network::new(&sites[0], 5, &mut store, Key::from_seed(3))?;
        assert_eq!(store.parameters.keys().collect::<Vec<_>>().len(), 4);
        let output = &store.parameters["z.0.output"];
        output.set(&Key::from_seed(4).normal(5, DType::F64, &Device::Cpu)?)?;
        let x = Key::from_seed(5).normal((2, 3, 4), DType::F64, &Device::Cpu)?;
        let (_, gradient) = network.value_and_gradient(&x)?;
        let h = 1e-6;
        for i in 0..4 {
            let mut e = [0.; 4];
            e[i] = h;
            let e = Tensor::new(&e, &Device::Cpu)?;
            let up = network.value(&x.broadcast_add(&e)?)?;
            let down = network.value(&x.broadcast_sub(&e)?)?;
            let numeric = ((up - down)? / (2. * h))?;
            let gap = (numeric - gradient.narrow(2, i, 1)?.squeeze(2)?)?.abs()?.max_all()?;
            assert!(gap.to_scalar::<f64>()? < 1e-8);
        }
        Ok(())
    }

    #[test]
    fn a_new_site_is_an_error_with_its_name() -> Result<()> {
        let logits = Var::zeros((1, 1, 1), DType::F64, &Device::Cpu)?;
        let program = |t: &mut Trace<'_>| {
            let q = Bernoulli::from_logits(&logits)?;
            t.sample(("z", 3), &q, &q)?.sum(2)
        };
        let (_, sites) = Trace::run(&program, &mut Independent { samples: 1 }, Key::from_seed(2))?;
        let error = Network::of(&[], &sites[0]).unwrap_err().to_string();
        assert!(error.contains("`z.3`"), "{error}");
        Ok(())
    }
}
