//! The estimator of deep autoregressive networks.
use candle_core::{Result, Tensor};
use gumbel_kernels::Key;

use super::jacobian::outer_jacobian;
use super::{Draw, Measure, Pathwise, Sampler, Site};
use crate::distributions::{Discrete, Support, zero_masked};

/// DARN: a score function whose signal is a first-order estimate of `f(z) - f(z̄)`, with `z̄` in the middle.
///
/// The baseline of a variable is the expansion of `f` around the draw, taken at `z̄ = 1/2` for bits and `1/K` for
/// one-hot vectors of `K` possible categories, so that its signal is `∂f/∂z · (z - z̄)` and needs no value of `f`. A discrete sample `z ~ q`
/// forward; backward, with `p` the probabilities of `q`:
///
/// ```math
/// (z - p) (z - \bar z)^\top
/// ```
///
/// **Biased**, because this baseline depends on the draw and the correction for that is left out; exact for bits if `f`
/// is quadratic in each of them.
///
/// Source: Gregor, Danihelka, Mnih, Blundell, Wierstra (2014); Jang et al. (2017), section 3.2. Both
/// treat bits; the form for categories is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Darn {
    /// Number of samples `S`.
    pub samples: usize,
}

impl Sampler for Darn {
    fn draw(&mut self, _: &Site, q: &Discrete, key: Key) -> Result<Draw> {
        let value = q.sample(self.samples, key)?;
        let score = value.broadcast_sub(&q.probs()?)?;
        let step = from_the_middle(q, &value)?;
        let gradient = outer_jacobian(q, &score, &step)?;
        Ok(Draw { value: (value + gradient)?, measure: Measure::Discrete })
    }
}

/// `z - z̄`; 0 for categories that are impossible, in which the draw and the middle agree.
fn from_the_middle(q: &Discrete, value: &Tensor) -> Result<Tensor> {
    if let Discrete::Categorical(q) = q
        && let Some(support) = Support::of(q.logits())?
    {
        let middle = support.of_counts(value, |count| 1. / count as f64)?;
        return zero_masked(&value.broadcast_sub(&middle)?, &support.mask);
    }
    value - 1. / q.categories() as f64
}

impl Pathwise for Darn {
    const BIBTEX: &'static str = include_str!("bibtex/darn.bib");
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::distributions::Categorical;
    use crate::estimators::{Divergence, Estimator, Objective, Program, Trace};
    use crate::objectives::Elbo;

    /// The mean of many estimates of the slope of `(s · z)²` in the logits, of a law over the categories of `scores`.
    fn slope(logits: &[f64], scores: &[f64], mask: &[u8]) -> Result<Vec<f64>> {
        let k = logits.len();
        let cpu = &Device::Cpu;
        let logits = Var::from_tensor(&Tensor::from_slice(logits, (1, 1, 1, k), cpu)?)?;
        let scores = Tensor::from_slice(scores, (1, 1, 1, k), cpu)?;
        let mask = Tensor::from_slice(mask, (1, 1, 1, k), cpu)?;
        let program = |trace: &mut Trace<'_>| {
            let q = Categorical::from_logits(&logits)?.masked(&mask)?;
            let p = Categorical::from_logits(&logits.detach().zeros_like()?)?;
            trace.sample("z", &q, &p)?.broadcast_mul(&scores)?.sum(3)?.sqr()?.sum(2)
        };
        // The prior allows what the posterior does not.
        let objective = Elbo { divergence: Divergence::Sampled, beta: 1. };
        let pair = (&program as &Program<'_>, &objective as &dyn Objective);
        let surrogate = Darn { samples: 20_000 }.surrogate(pair.0, pair.1, Key::from_seed(1))?;
        let grads = surrogate.loss.backward()?;
        let grad = grads.get(logits.as_tensor()).unwrap();
        (grad.to_dtype(DType::F64)?.neg()?).flatten_all()?.to_vec1()
    }

    #[test]
    fn impossible_categories_change_nothing() -> Result<()> {
        let short = slope(&[0.4, 0.], &[1., -0.5], &[1, 1])?;
        let masked = slope(&[0.4, 0., 1., -1., 0.3], &[1., -0.5, 2., 3., 1.], &[1, 1, 0, 0, 0])?;
        for (a, b) in short.iter().zip(&masked) {
            assert!((a - b).abs() < 0.03, "{short:?} {masked:?}");
        }
        assert!(short[0].abs() > 0.05, "{short:?}");
        assert_eq!(masked[2..], [0.; 3]);
        Ok(())
    }
}
