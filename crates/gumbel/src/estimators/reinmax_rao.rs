//! ReinMax with the averaging of Gumbel–Rao.
use candle_core::{Result, Tensor};
use gumbel_kernels::{Key, log_softmax, softplus};

use super::gumbel_rao::{at_least_one, averaged_jacobian};
use super::jacobian::softmax_jacobian;
use super::{Draw, Measure, Pathwise, Sampler, Site};
use crate::distributions::{Discrete, positive};

/// ReinMax-Rao: ReinMax whose half-way Jacobian is averaged over noise that leads to the sample.
///
/// A discrete sample `z ~ q` forward; backward, with `p` the probabilities of `q`, logits `θ` half-way between law and
/// sample, and `draws` vectors of Gumbel noise, *given* that `z` is the largest of `θ + G_k`:
///
/// ```math
/// \frac{2}{\mathrm{draws}} \sum_{k=1}^{\mathrm{draws}}
/// \frac{1}{\tau}\, J\Bigl(\operatorname{softmax}\Bigl(\frac{\theta + G_k}{\tau}\Bigr)\Bigr) - \frac{1}{2}\, J(p),
/// \qquad \theta = \log \frac{p + z}{2}
/// ```
///
/// **Biased**, also where the objective is quadratic; at moderate temperatures
/// less variance than [`ReinMax`](super::ReinMax), at low ones more, as a share `1 / draws` of it grows like `1 / τ`.
///
/// Source: Wang, Bui (2026), "Beyond ReinMax: low-variance gradient estimators for discrete latent variables".
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReinMaxRao {
    /// Number of samples `S`.
    pub samples: usize,
    /// Temperature of the backward pass.
    pub temperature: f64,
    /// Draws of conditional noise that are averaged.
    pub draws: usize,
}

impl Sampler for ReinMaxRao {
    fn draw(&mut self, _: &Site, q: &Discrete, key: Key) -> Result<Draw> {
        let temperature = positive("temperature", self.temperature)?;
        at_least_one("ReinMax-Rao", self.draws)?;
        let (value, probs) = (q.sample(self.samples, key)?, q.probs()?.detach());
        let law = q.with_logits(&halfway(q, &probs, &value)?)?;
        let average = averaged_jacobian(q, law, &value, (temperature, self.draws), key)?;
        let first = (softmax_jacobian(q, &probs)? * 0.5)?;
        let gradient = (average * 2.)?.broadcast_sub(&first)?;
        Ok(Draw { value: (value + gradient)?, measure: Measure::Discrete })
    }
}

/// Logits of `(p + z) / 2`, of categories up to a constant, finite where those of `q` are. No gradient.
fn halfway(q: &Discrete, probs: &Tensor, value: &Tensor) -> Result<Tensor> {
    let logits = q.logits().detach();
    let taken = (probs + 1.)?.log()?; // log(1 + p)
    let (taken, other) = match q {
        Discrete::Categorical(_) => (taken, log_softmax(&logits)?),
        Discrete::Bernoulli(_) => (
            (taken + softplus(&logits)?)?,
            (softplus(&logits.neg()?)? + (2. - probs)?.log()?)?.neg()?,
        ),
    };
    let on = value.ne(0.)?;
    let shape = value.shape();
    on.where_cond(&taken.broadcast_as(shape)?, &other.broadcast_as(shape)?)
}

impl Pathwise for ReinMaxRao {
    const BIBTEX: &'static str = include_str!("bibtex/reinmax-rao.bib");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributions::{Bernoulli, Categorical};
    use candle_core::{Device, Var};

    /// The slope of one bit against the integral over the noise, and of two categories against that of the bit.
    #[test]
    fn the_average_is_the_integral_over_the_noise() -> Result<()> {
        let (logit, temperature) = (0.7f64, 0.8);
        let sigmoid = |x: f64| 1. / (1. + (-x).exp());
        let p = sigmoid(logit);
        let estimator = ReinMaxRao { samples: 2000, temperature, draws: 50 };
        let site = Site::from("z");
        let bit = Var::new(&[[[logit]]], &Device::Cpu)?;
        let q = Discrete::from(&Bernoulli::from_logits(&bit)?);
        let drawn = estimator.clone().draw(&site, &q, Key::from_seed(3))?.value;
        let pair = Var::new(&[[[[0., logit]]]], &Device::Cpu)?;
        let q = Discrete::from(&Categorical::from_logits(&pair)?);
        let classes = estimator.clone().draw(&site, &q, Key::from_seed(4))?.value;
        let one = classes.narrow(3, 1, 1)?.squeeze(3)?;
        for z in [0., 1.] {
            // Of those whose value is z: d value / d logit.
            let slope = |value: &Tensor, var: &Var, at: usize| -> Result<f64> {
                let of_z = value.detach().eq(z)?.to_dtype(candle_core::DType::F64)?;
                let count = of_z.sum_all()?.to_scalar::<f64>()?;
                let grads = (value * &of_z)?.sum_all()?.backward()?;
                let gradient = grads.get(var.as_tensor()).map(Tensor::flatten_all).transpose()?;
                Ok(gradient.map_or(Ok(vec![]), |g| g.to_vec1::<f64>())?[at] / count)
            };
            let middle = (p + z) / 2.;
            let theta = (middle / (1. - middle)).ln();
            // The logistic noise L with the sign of θ + L that z says, by quantiles.
            let points = 20_000;
            let mean = (0..points)
                .map(|i| {
                    let u = (f64::from(i) + 0.5) / f64::from(points);
                    let u = if z > 0. { 1. - middle + middle * u } else { (1. - middle) * u };
                    let y = sigmoid((theta + (u / (1. - u)).ln()) / temperature);
                    y * (1. - y) / temperature
                })
                .sum::<f64>()
                / f64::from(points);
            let expected = 2. * mean - 0.5 * p * (1. - p);
            let (of_bit, of_pair) = (slope(&drawn, &bit, 0)?, slope(&one, &pair, 1)?);
            assert!((of_bit - expected).abs() < 0.005, "{z}: {of_bit} {expected}");
            assert!((of_pair - expected).abs() < 0.005, "{z}: {of_pair} {expected}");
        }
        for logit in [90f32, -90.] {
            let sure = Var::new(&[[[logit]]], &Device::Cpu)?;
            let q = Discrete::from(&Bernoulli::from_logits(&sure)?);
            let grads = estimator.clone().draw(&site, &q, Key::from_seed(5))?.value.backward()?;
            let slope = grads.get(sure.as_tensor()).map(|g| g.flatten_all()?.to_vec1::<f32>());
            assert!(slope.unwrap()?[0].abs() < 1e-3);
        }
        let mut nothing = ReinMaxRao { draws: 0, ..estimator };
        assert!(nothing.draw(&site, &q, Key::from_seed(4)).is_err());
        Ok(())
    }
}
