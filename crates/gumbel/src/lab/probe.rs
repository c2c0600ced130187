//! Gradient statistics in the middle of training.
use candle_core::{DType, Result, Tensor, Var};
use gumbel_kernels::Key;

use crate::estimators::{Estimator, Objective, Program, dot};

/// Estimates the gradient of one batch again and again, and says how noisy and how biased it is.
///
/// Nothing is moved: neither parameters, nor running statistics of the estimator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Independent estimates, at least 2.
    pub replicates: usize,
}

/// What a [`Probe`] found, over all parameters together.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Reading {
    /// `‖E ĝ‖`, less what noise adds.
    pub norm: f64,
    /// `tr Cov ĝ`.
    pub variance: f64,
    /// Signal to noise: above 1 a single estimate points the right way. Not finite where there is no noise.
    ///
    /// For an estimate `ĝ` it is:
    ///
    /// ```math
    /// \frac{\lVert \mathbb{E}\, \hat g \rVert^2}{\operatorname{tr} \operatorname{Cov} \hat g}
    /// ```
    pub signal_to_noise: f64,
    /// Against the reference, if there is one.
    pub bias: Option<Bias>,
}

/// Distance from an unbiased reference.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Bias {
    /// `‖E ĝ - g‖`, less what the noise of both adds; 0 where that leaves nothing.
    pub norm: f64,
    /// What noise alone would show as `‖E ĝ - g‖`: a bias below it is not seen.
    pub resolution: f64,
    /// Cosine between the two means.
    pub cosine: f64,
}

/// Sums of gradients and of their squares.
struct Sums {
    means: Vec<Tensor>,
    /// `tr Cov` of one estimate.
    variance: f64,
    count: f64,
}

impl Probe {
    /// Measures `estimator` on the batch behind `program`, with the gradient in `variables`. `reference` is an
    /// unbiased estimator of the same bound (with many samples), where the bias is to be seen.
    ///
    /// Costs `replicates` backward passes of each.
    ///
    /// # Errors
    /// If there are fewer than 2 replicates, or a run fails.
    pub fn measure(
        &self,
        estimator: &dyn Estimator,
        reference: Option<&dyn Estimator>,
        program: &Program<'_>,
        objective: &dyn Objective,
        variables: &[Var],
        key: Key,
    ) -> Result<Reading> {
        let own = self.sums(estimator, program, objective, variables, key.named("estimator"))?;
        let norm = debiased(dot(&own.means, &own.means)?, own.variance / own.count);
        let bias = reference
            .map(|reference| {
                let key = key.named("reference");
                let other = self.sums(reference, program, objective, variables, key)?;
                compare(&own, &other)
            })
            .transpose()?;
        let signal_to_noise = norm * norm / own.variance;
        Ok(Reading { norm, variance: own.variance, signal_to_noise, bias })
    }

    fn sums(
        &self,
        estimator: &dyn Estimator,
        program: &Program<'_>,
        objective: &dyn Objective,
        variables: &[Var],
        key: Key,
    ) -> Result<Sums> {
        if self.replicates < 2 {
            candle_core::bail!("a variance needs at least 2 replicates, got {}", self.replicates)
        }
        let n = self.replicates as f64;
        let zeros = variables.iter().map(|var| var.as_detached_tensor().zeros_like());
        let mut means = zeros.collect::<Result<Vec<_>>>()?;
        let mut squares = 0.;
        for replicate in 0..self.replicates as u64 {
            let surrogate = estimator.surrogate(program, objective, key.fold_in(replicate))?;
            let grads = surrogate.loss.backward()?;
            for (mean, var) in means.iter_mut().zip(variables) {
                if let Some(gradient) = grads.get(var.as_tensor()) {
                    *mean = (&*mean + (gradient.detach() / n)?)?;
                    squares += square(gradient)?;
                }
            }
        }
        let variance = (squares - n * dot(&means, &means)?).max(0.) / (n - 1.);
        Ok(Sums { means, variance, count: n })
    }
}

fn square(x: &Tensor) -> Result<f64> {
    x.detach().to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar()
}

fn debiased(square: f64, noise: f64) -> f64 {
    (square - noise).max(0.).sqrt()
}

fn compare(own: &Sums, other: &Sums) -> Result<Bias> {
    let (aa, bb) = (dot(&own.means, &own.means)?, dot(&other.means, &other.means)?);
    let ab = dot(&own.means, &other.means)?;
    let noise = own.variance / own.count + other.variance / other.count;
    Ok(Bias {
        norm: debiased(aa - 2. * ab + bb, noise),
        resolution: noise.sqrt(),
        cosine: ab / (aa * bb).sqrt(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributions::Bernoulli;
    use crate::estimators::{Enumerate, LeaveOneOut, StraightThrough, Trace};
    use crate::objectives::Elbo;
    use candle_core::Device;

    #[test]
    fn the_bias_of_straight_through_is_seen_and_that_of_leave_one_out_is_not() -> Result<()> {
        let logits = Var::new(&[[[0.5f64, -0.3], [1., 0.]]], &Device::Cpu)?;
        let program = |t: &mut Trace<'_>| {
            let q = Bernoulli::from_logits(&logits)?;
            t.sample("z", &q, &Bernoulli::uniform_like(&q)?)?.sum(2)?.powf(3.)
        };
        let variables = [logits.clone()];
        let read = |estimator: &dyn Estimator| {
            let probe = Probe { replicates: 400 };
            let exact = Enumerate { samples: 1 };
            let key = Key::from_seed(3);
            probe.measure(estimator, Some(&exact), &program, &Elbo::default(), &variables, key)
        };
        let straight = read(&StraightThrough { samples: 1 })?.bias.unwrap();
        assert!(straight.norm > 3. * straight.resolution, "{straight:?}");
        let reading = read(&LeaveOneOut { samples: 4 })?;
        let bias = reading.bias.unwrap();
        assert!(bias.norm < 3. * bias.resolution && bias.cosine > 0.9, "{bias:?}");
        assert!(reading.signal_to_noise > 0. && reading.variance > 0.);
        assert!(
            Probe { replicates: 1 }
                .measure(
                    &StraightThrough { samples: 1 },
                    None,
                    &program,
                    &Elbo::default(),
                    &variables,
                    Key::from_seed(1),
                )
                .is_err()
        );
        Ok(())
    }
}
