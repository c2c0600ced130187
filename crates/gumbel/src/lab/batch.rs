//! Estimators on a batch of a model of any size.
use std::time::Instant;

use candle_core::backprop::GradStore;
use candle_core::{DType, Result, Var};
use gumbel_kernels::Key;

use super::Measurement;
use super::measurement::Accumulator;
use crate::estimators::{Estimator, Objective, Program};

/// Some parameters of a model, and the exact gradient in them.
#[derive(Clone, Debug)]
pub struct Exact {
    variables: Vec<Var>,
    gradient: Vec<f64>,
}

impl Exact {
    /// The gradient in `variables` that `grads` has of the exact loss, minus the mean of the expected bound over the
    /// batch.
    ///
    /// # Errors
    /// If a variable has none.
    pub fn new(variables: Vec<Var>, grads: &GradStore) -> Result<Self> {
        let mut gradient = Vec::new();
        append(&mut gradient, &variables, grads)?;
        Ok(Self { variables, gradient })
    }
}

/// In how many parts the replicates are drawn: standard errors come from the spread of the parts.
const PARTS: usize = 20;

/// Measures an estimator with `replicates` independent estimates of the gradient of the loss on the batch behind `program`,
/// in each group of parameters by itself.
///
/// Under one key all estimators get the same noise: common random numbers. The variance is that of the batch: noise of
/// different examples is independent, so that of `B` examples like these is the share `len / B` of it. Nothing is moved:
/// neither parameters, nor running statistics of the estimator.
///
/// # Errors
/// If there are fewer than 40 replicates, or the estimator does not apply to the program.
pub fn measure(
    estimator: &dyn Estimator,
    (program, objective): (&Program<'_>, &dyn Objective),
    groups: &[Exact],
    replicates: usize,
    key: Key,
) -> Result<Vec<Measurement>> {
    let rows = replicates / PARTS;
    if rows < 2 {
        candle_core::bail!(
            "a measurement needs at least {} replicates, got {replicates}",
            2 * PARTS
        )
    }
    let mut accumulators: Vec<Accumulator<'_>> =
        groups.iter().map(|group| Accumulator::new(&group.gradient)).collect();
    for part in 0..PARTS {
        let mut gradients = vec![Vec::new(); groups.len()];
        let start = Instant::now();
        for replicate in part * rows..(part + 1) * rows {
            let surrogate =
                estimator.surrogate(program, objective, key.fold_in(replicate as u64))?;
            let grads = surrogate.loss.backward()?;
            for (gradients, group) in gradients.iter_mut().zip(groups) {
                append(gradients, &group.variables, &grads)?;
            }
        }
        let elapsed = start.elapsed();
        for (accumulator, gradients) in accumulators.iter_mut().zip(&gradients) {
            accumulator.add(gradients, elapsed);
        }
    }
    Ok(accumulators.into_iter().map(Accumulator::finish).collect())
}

/// Appends the gradients in `variables`, one after another.
fn append(row: &mut Vec<f64>, variables: &[Var], grads: &GradStore) -> Result<()> {
    for var in variables {
        let Some(gradient) = grads.get(var.as_tensor()) else {
            candle_core::bail!("a parameter of shape {:?} has no gradient", var.shape())
        };
        row.extend(gradient.detach().to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributions::Bernoulli;
    use crate::estimators::{Enumerate, LeaveOneOut, StraightThrough, Trace};
    use crate::objectives::Elbo;
    use candle_core::{Device, Tensor};

    /// Two examples whose logits share a weight, and a likelihood with a parameter of its own.
    #[test]
    fn groups_of_parameters_are_measured_by_themselves() -> Result<()> {
        let weight = Var::new(&[[0.5f64, -0.3]], &Device::Cpu)?;
        let scale = Var::new(0.7f64, &Device::Cpu)?;
        let x = Tensor::new(&[[1f64], [-2.]], &Device::Cpu)?;
        let program = |t: &mut Trace<'_>| {
            let q = Bernoulli::from_logits(&x.matmul(&weight)?.unsqueeze(0)?)?;
            let z = t.sample("z", &q, &Bernoulli::uniform_like(&q)?)?;
            z.sum(2)?.powf(3.)?.broadcast_mul(&scale)
        };
        let objective = Elbo::default();
        let key = Key::from_seed(3);
        let exact = Enumerate { samples: 1 }.surrogate(&program, &objective, key)?;
        let grads = exact.loss.backward()?;
        let groups =
            [Exact::new(vec![weight.clone()], &grads)?, Exact::new(vec![scale.clone()], &grads)?];
        let read = |estimator: &dyn Estimator, replicates| {
            measure(estimator, (&program, &objective), &groups, replicates, key)
        };
        let exact = read(&Enumerate { samples: 1 }, 40)?;
        assert!(exact.iter().all(|m| m.bias.value < 1e-9 && m.variance.value < 1e-20));
        let unbiased = read(&LeaveOneOut { samples: 2 }, 4000)?;
        assert!(unbiased.iter().all(|m| m.check_unbiased(4.5).is_ok()), "{unbiased:?}");
        // The value of a draw is right, and what flows back through it is not.
        let straight = read(&StraightThrough { samples: 1 }, 4000)?;
        assert!(
            straight[0].check_unbiased(4.5).is_err() && straight[1].check_unbiased(4.5).is_ok()
        );
        let m = &straight[0];
        let square = m.mean.iter().map(|x| x * x).sum::<f64>();
        assert!((m.norm.value.powi(2) - square).abs() < 0.05 * square, "{m:?}");
        assert!((m.signal_to_noise() * m.variance.value / square - 1.).abs() < 0.05);
        assert!(read(&StraightThrough { samples: 1 }, 39).is_err());
        let alone = Var::new(0f64, &Device::Cpu)?;
        assert!(Exact::new(vec![alone], &grads).is_err());
        Ok(())
    }
}
