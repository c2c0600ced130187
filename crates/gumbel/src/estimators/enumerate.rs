//! The exact gradient, by summing over every joint value of the latents.
use candle_core::{Result, Tensor};
use gumbel_kernels::Key;

use super::signal::total_log_q;
use super::{
    Draw, Estimator, Measure, Objective, Program, Sampler, Site, SiteDraw, Surrogate, Trace,
};
use crate::distributions::Discrete;
use crate::distributions::MOST_JOINT_VALUES as LIMIT;

/// Exact marginalisation: the expected bound and its gradient as a sum over all joint values of all sites.
///
/// Sites may depend on each other. For `samples = S > 1` the sum runs over all `S`-tuples of joint values,
/// so that the multi-sample bound is exact, too:
///
/// ```math
/// \mathbb{E}_q[\mathrm{bound}] = \sum_{z_1, \dots, z_S} q(z_1) \cdots q(z_S)\,
/// \mathrm{bound}\bigl(\log w(z_1), \dots, \log w(z_S)\bigr)
/// ```
///
/// No noise, no bias, no variance; cost `Π K^N` (to the power `S` for the objective, not for the model).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enumerate {
    /// Number of samples `S` of the bound whose expectation is taken.
    pub samples: usize,
}

/// Counts the values of each site in a first run.
#[derive(Default)]
struct Count(Vec<usize>);

/// Hands out all joint values along the sample axis: site `i` is digit `i` of the sample's number.
struct Every {
    /// Number of joint values; before the sites were counted, that of the first site.
    total: Option<usize>,
    /// Product of the numbers of values of the sites before.
    stride: usize,
}

impl Sampler for Count {
    fn draw(&mut self, site: &Site, posterior: &Discrete, _: Key) -> Result<Draw> {
        self.0.push(values(posterior, site)?);
        Ok(Draw { value: posterior.mode()?, measure: Measure::Discrete })
    }
}

/// `K^N`, if it is within the limit.
fn values(q: &Discrete, site: &Site) -> Result<usize> {
    match q.joint_values() {
        Some(count) if count <= LIMIT => Ok(count),
        _ => candle_core::bail!(
            "site `{}` has {}^{} joint values, more than the {LIMIT} that can be enumerated",
            site.name,
            q.categories(),
            q.variables()
        ),
    }
}

impl Sampler for Every {
    fn draw(&mut self, site: &Site, posterior: &Discrete, _: Key) -> Result<Draw> {
        let here = values(posterior, site)?;
        let total = *self.total.get_or_insert(here);
        let every = posterior.enumerate_support()?;
        let digits: Vec<u32> =
            (0..total).map(|sample| (sample / self.stride % here) as u32).collect();
        let Some(stride) = self.stride.checked_mul(here) else {
            candle_core::bail!("too many joint values to enumerate, up to site `{}`", site.name)
        };
        self.stride = stride;
        let digits = Tensor::from_vec(digits, total, every.device())?;
        let mut shape = every.dims().to_vec();
        (shape[0], shape[1]) = (total, posterior.logits().dim(1)?);
        let value = every.index_select(&digits, 0)?.broadcast_as(shape)?.contiguous()?;
        Ok(Draw { value, measure: Measure::Discrete })
    }
}

/// `log p(x | z): [Π K^N, B]` and the sites, with every joint value of all sites along the sample axis.
///
/// # Errors
/// If the program fails, or has more than 2¹⁶ joint values.
pub(crate) fn run_on_all(program: &Program<'_>, key: Key) -> Result<(Tensor, Vec<SiteDraw>)> {
    // Most programs have one site, and need not be run to count the values of the others.
    let mut every = Every { total: None, stride: 1 };
    let first = Trace::run(program, &mut every, key);
    if let (Ok(run), true) = (first, every.total == Some(every.stride)) {
        return Ok(run);
    }
    let mut count = Count::default();
    Trace::run(program, &mut count, key)?;
    let total = count.0.iter().try_fold(1usize, |product, n| product.checked_mul(*n));
    let Some(total) = total.filter(|n| *n <= LIMIT) else {
        candle_core::bail!(
            "sites of {:?} joint values are more than the {LIMIT} that can be enumerated together",
            count.0
        )
    };
    Trace::run(program, &mut Every { total: Some(total), stride: 1 }, key)
}

impl Estimator for Enumerate {
    fn surrogate(
        &self,
        program: &Program<'_>,
        objective: &dyn Objective,
        key: Key,
    ) -> Result<Surrogate> {
        let (log_px, sites) = run_on_all(program, key)?;
        let total = log_px.dim(0)?;
        let tuples = u32::try_from(self.samples).ok().and_then(|s| total.checked_pow(s));
        let Some(tuples) = tuples.filter(|n| *n <= LIMIT && self.samples > 0) else {
            candle_core::bail!(
                "{total} joint values in tuples of {} are more than the {LIMIT} that can be enumerated",
                self.samples
            )
        };
        let log_w = objective.log_weights(&log_px, &sites)?;
        let log_q = total_log_q(&sites)?;
        let (_, b) = log_w.dims2()?;

        // Row s of the tuples [S, M^S]: which joint value sample s takes.
        let mut rows = Vec::with_capacity(self.samples);
        let mut log_prob = Tensor::zeros((tuples, b), log_q.dtype(), log_q.device())?;
        for s in 0..self.samples as u32 {
            let index: Vec<u32> = (0..tuples).map(|t| (t / total.pow(s) % total) as u32).collect();
            let index = Tensor::from_vec(index, tuples, log_w.device())?;
            rows.push(log_w.index_select(&index, 0)?.reshape((1, tuples * b))?);
            log_prob = (log_prob
                + log_q.broadcast_as((total, b))?.contiguous()?.index_select(&index, 0)?)?;
        }
        let bounds = objective.bound(&Tensor::cat(&rows, 0)?)?.reshape((tuples, b))?;
        let bound = (log_prob.exp()? * bounds)?.sum(0)?;
        Surrogate::new(&bound, &bound, &log_px, sites)
    }

    fn is_unbiased(&self) -> bool {
        true
    }

    fn bibtex(&self) -> &'static str {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributions::{Bernoulli, Categorical};
    use crate::objectives::{Elbo, Iwae};
    use candle_core::{DType, Device};

    /// `E_q[p(x, z) / q(z)] = p(x)`: the exact multi-sample bound rises towards it with S.
    #[test]
    fn the_multi_sample_bound_rises_to_the_marginal_likelihood() -> Result<()> {
        let cpu = &Device::Cpu;
        let q =
            Categorical::from_logits(&Key::from_seed(1).normal((1, 2, 1, 3), DType::F64, cpu)?)?;
        let p =
            Categorical::from_logits(&Key::from_seed(2).normal((1, 1, 1, 3), DType::F64, cpu)?)?;
        let table = Key::from_seed(3).normal(3, DType::F64, cpu)?;
        let program = |t: &mut Trace<'_>| t.sample("z", &q, &p)?.broadcast_mul(&table)?.sum((2, 3));
        let exact =
            (p.probs()?.flatten_all()? * table.exp()?)?.sum_all()?.log()?.to_scalar::<f64>()?;
        let bound = |samples, objective: &dyn Objective| {
            Enumerate { samples }
                .surrogate(&program, objective, Key::from_seed(0))?
                .bound
                .get(0)?
                .to_scalar::<f64>()
        };
        let bounds = [1, 2, 4, 8].map(|s| bound(s, &Iwae).unwrap());
        assert!(bounds.is_sorted() && bounds[3] < exact, "{bounds:?} {exact}");
        assert!((bounds[3] - exact).abs() < 0.25 * (bounds[0] - exact).abs(), "{bounds:?} {exact}");
        assert!((bound(1, &Elbo::default())? - bounds[0]).abs() < 1e-12);
        Ok(())
    }

    #[test]
    fn probabilities_of_dependent_sites_sum_to_one() -> Result<()> {
        let logits = Key::from_seed(1).normal((1, 4, 3), DType::F64, &Device::Cpu)?;
        let program = |t: &mut Trace<'_>| {
            let q = Bernoulli::from_logits(&logits)?;
            let bits = t.sample("bits", &q, &q)?;
            let q = Categorical::from_logits(&(bits.narrow(2, 0, 2)?.unsqueeze(2)? * 3.)?)?;
            t.sample("class", &q, &q)?.sum((2, 3))?.affine(0., 1.)
        };
        let elbo = Elbo { beta: 0., ..Elbo::default() };
        let s = Enumerate { samples: 1 }.surrogate(&program, &elbo, Key::from_seed(0))?;
        assert_eq!(s.log_px.dims(), [16, 4]);
        assert!(s.bound.to_vec1::<f64>()?.iter().all(|b| (b - 1.).abs() < 1e-12));
        Ok(())
    }

    #[test]
    fn too_many_values_are_refused_with_their_number() -> Result<()> {
        let q = Bernoulli::from_logits(&Tensor::zeros((1, 1, 40), DType::F64, &Device::Cpu)?)?;
        let program = |t: &mut Trace<'_>| t.sample("z", &q, &q)?.sum(2);
        let error =
            Enumerate { samples: 1 }.surrogate(&program, &Iwae, Key::from_seed(0)).unwrap_err();
        assert!(error.to_string().contains("2^40"), "{error}");
        let q = Bernoulli::from_logits(&Tensor::zeros((1, 1, 9), DType::F64, &Device::Cpu)?)?;
        let program = |t: &mut Trace<'_>| t.sample("z", &q, &q)?.sum(2);
        assert!(Enumerate { samples: 3 }.surrogate(&program, &Iwae, Key::from_seed(0)).is_err());
        assert!(Enumerate { samples: 0 }.surrogate(&program, &Iwae, Key::from_seed(0)).is_err());
        Ok(())
    }
}
