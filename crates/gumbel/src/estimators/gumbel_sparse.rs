//! Gumbel noise with a sparse map in place of softmax.
use candle_core::{D, Result, Tensor};
use gumbel_kernels::{Key, SparseMap, sparse_map};

use super::{Draw, Measure, Pathwise, Sampler, Site};
use crate::distributions::{Discrete, positive};

/// Gumbel-sparsemax and Gumbel-entmax: Gumbel noise, and a sparse map onto the simplex.
///
/// In the place of each draw stands:
///
/// ```math
/// \operatorname{map}\Bigl(\frac{\mathrm{logits} + G}{\tau}\Bigr)
/// ```
///
/// Unlike a softmax the relaxed value has exact zeros, and is a corner of the simplex with positive probability:
/// the model sees mixtures of few categories. **Biased**, as [`GumbelSoftmax`](super::GumbelSoftmax); and its law
/// is a mixture over faces of the simplex without a density, so that a sampled divergence is refused.
///
/// Source: Martins and Astudillo (2016); Peters, Niculae, Martins (2019); with Gumbel noise, Correia, Niculae,
/// Aziz, Martins (2020).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GumbelSparse {
    /// Number of samples `S`.
    pub samples: usize,
    /// Temperature.
    pub temperature: f64,
    /// The map.
    pub map: SparseMap,
}

impl Sampler for GumbelSparse {
    fn draw(&mut self, _: &Site, q: &Discrete, key: Key) -> Result<Draw> {
        let temperature = positive("temperature", self.temperature)?;
        let value = match q {
            Discrete::Categorical(q) => {
                let mut shape = q.logits().dims().to_vec();
                if let Some(samples) = shape.first_mut() {
                    *samples = self.samples;
                }
                let noise = key.gumbel(shape, q.logits().dtype(), q.logits().device())?;
                sparse_map(&(noise.broadcast_add(q.logits())? / temperature)?, self.map)?
            }
            // The two scores 0 and (l + L) / τ.
            Discrete::Bernoulli(q) => {
                let score = (q.perturbed(self.samples, key)? / temperature)?;
                let pair = Tensor::stack(&[&score.zeros_like()?, &score], D::Minus1)?;
                sparse_map(&pair, self.map)?.narrow(D::Minus1, 1, 1)?.squeeze(D::Minus1)?
            }
        };
        Ok(Draw { value, measure: Measure::Intractable })
    }
}

impl Pathwise for GumbelSparse {
    const BIBTEX: &'static str = include_str!("bibtex/gumbel-sparse.bib");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributions::Categorical;
    use crate::estimators::{BoundOf, Divergence, Estimator, Objective, Trace};
    use crate::objectives::Elbo;
    use candle_core::{DType, Device, Var};

    #[test]
    fn values_have_zeros_and_gradients_and_no_density() -> Result<()> {
        let logits = Var::from_tensor(&Key::from_seed(1).normal(
            (1, 50, 2, 4),
            DType::F64,
            &Device::Cpu,
        )?)?;
        let program = |t: &mut Trace<'_>| {
            let q = Categorical::from_logits(&logits)?;
            t.sample("z", &q, &Categorical::uniform_like(&q)?)?.sqr()?.sum((2, 3))
        };
        for map in [SparseMap::Sparsemax, SparseMap::Entmax15] {
            let estimator = GumbelSparse { samples: 3, temperature: 1., map };
            let elbo = Elbo::default();
            let surrogate = estimator.surrogate(&program, &elbo, Key::from_seed(2))?;
            let values = surrogate.sites[0].draw.value.flatten_all()?.to_vec1::<f64>()?;
            assert!(values.contains(&0.) && values.iter().any(|v| *v > 0. && *v < 1.));
            assert_eq!(elbo.bounds(&surrogate.sites), BoundOf::Nothing);
            assert!(surrogate.loss.backward()?.get(logits.as_tensor()).is_some());
            let sampled = Elbo { divergence: Divergence::Sampled, beta: 1. };
            let error = estimator.surrogate(&program, &sampled, Key::from_seed(2)).unwrap_err();
            assert!(error.to_string().contains("no density"), "{error}");
        }
        Ok(())
    }
}
