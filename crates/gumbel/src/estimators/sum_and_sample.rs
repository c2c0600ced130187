//! Exact sums over the most probable classes, and a sample of the rest.
use candle_core::{D, DType, Result, Tensor};
use gumbel_kernels::{Forward, Key, gumbel_softmax, log_softmax};

use super::{Draw, Estimator, Measure, Objective, Program, Sampler, Site, Surrogate, Trace};
use crate::distributions::Discrete;
use crate::distributions::MOST_JOINT_VALUES as LIMIT;

/// Sum-and-sample: sums over the `classes` most probable values of each variable, and samples one of the others.
///
/// For one variable, with `t` drawn from `q` restricted to the classes that are not summed over, whose mass is `T`:
///
/// ```math
/// \sum_{c \in \mathrm{top}} q_c f(c) + T f(t)
/// ```
///
/// The gradient of the last term is that of a score function, `T f(t) ∇ log q(t)`. **Unbiased**, with
/// the variance of the tail alone; exact if `classes` is `K` or more. Several variables and dependent sites
/// multiply: `(classes + 1)^N` branches of the model, at most 65,536.
///
/// For bounds of one sample. Source: Liu, Regier, Tripuraneni, Jordan, McAuliffe (2019), section 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SumAndSample {
    /// Values of each variable that are summed over.
    pub classes: usize,
}

/// Hands out all branches along the sample axis: the choice of variable `i` is digit `i` of the branch.
struct Branches {
    classes: usize,
    total: usize,
    /// Product of the numbers of choices of the variables before.
    stride: usize,
    /// `[branches, B]` for each site: its value is the probability of the choices, its gradient theirs.
    weights: Vec<Tensor>,
}

/// Multiplies the numbers of choices of all variables.
struct Count {
    classes: usize,
    total: Option<usize>,
}

/// Choices of one variable: the top classes, and the tail if there is one.
fn choices(classes: usize, q: &Discrete) -> usize {
    classes.saturating_add(1).min(q.categories())
}

impl Sampler for Count {
    fn draw(&mut self, _: &Site, q: &Discrete, _: Key) -> Result<Draw> {
        let branches = u32::try_from(q.variables()).ok();
        let branches = branches.and_then(|n| choices(self.classes, q).checked_pow(n));
        self.total = self.total.zip(branches).and_then(|(a, b)| a.checked_mul(b));
        Ok(Draw { value: q.mode()?, measure: Measure::Discrete })
    }
}

impl Sampler for Branches {
    fn draw(&mut self, _: &Site, q: &Discrete, key: Key) -> Result<Draw> {
        let logits = match q {
            Discrete::Categorical(q) => q.logits().clone(),
            // The two logits 0 and l.
            Discrete::Bernoulli(q) => {
                Tensor::stack(&[&q.logits().zeros_like()?, q.logits()], D::Minus1)?
            }
        };
        let n = logits.dim(2)?;
        let (total, width) = (self.total, choices(self.classes, q));
        // Branches that share a law share its options, the draw of the tail included.
        let (values, weights) = options(&logits.contiguous()?, width, key)?;
        // Which option each variable takes in each branch.
        let digit = |m: usize, v: usize| m / self.stride / width.pow(v as u32) % width;
        let digits: Vec<u32> = (0..total)
            .flat_map(|m| (0..n).map(move |v| (m, v)))
            .map(|(m, v)| digit(m, v) as u32)
            .collect();
        self.stride *= width.pow(n as u32);
        let device = logits.device();
        let digits = Tensor::from_vec(digits, (total, 1, n, 1), device)?;
        let range = Tensor::arange(0u32, width as u32, device)?;
        let taken = digits.broadcast_eq(&range)?.to_dtype(logits.dtype())?; // [M, 1, N, choices]
        let weight = weights.broadcast_mul(&taken)?.sum(D::Minus1)?; // [M, B, N]
        self.weights.push(product(&weight)?);
        let value = values.broadcast_mul(&taken.unsqueeze(D::Minus1)?)?.sum(3)?; // [M, B, N, K]
        let value = match q {
            Discrete::Categorical(_) => value,
            Discrete::Bernoulli(_) => value.narrow(3, 1, 1)?.squeeze(3)?,
        };
        Ok(Draw { value: value.contiguous()?, measure: Measure::Discrete })
    }
}

/// One-hot options `[M, B, N, choices, K]`, and their probabilities `[M, B, N, choices]` with gradients.
fn options(logits: &Tensor, width: usize, key: Key) -> Result<(Tensor, Tensor)> {
    let (_, _, _, k) = logits.dims4()?;
    let log_probs = log_softmax(logits)?;
    let order = log_probs.detach().arg_sort_last_dim(false)?;
    let top = if width == k { k } else { width - 1 };
    let range = Tensor::arange(0u32, k as u32, logits.device())?;
    let leading = order.narrow(D::Minus1, 0, top)?.contiguous()?;
    let mut values =
        vec![leading.unsqueeze(D::Minus1)?.broadcast_eq(&range)?.to_dtype(logits.dtype())?];
    let mut weights = vec![log_probs.gather(&leading, D::Minus1)?.exp()?];
    if top < k {
        let in_top = values[0].sum(3)?; // [M, B, N, K]
        let rest = (log_probs.detach() + (in_top * -1e30)?)?;
        let tail = gumbel_softmax(&rest.unsqueeze(0)?, 1, 1., Forward::Hard, key)?.squeeze(0)?;
        let mass = rest.exp()?.sum_keepdim(D::Minus1)?;
        // Its value is the mass of the tail, its gradient that mass times the score of the draw.
        let log_q = (&tail * log_probs.maximum(-1e30)?)?.sum_keepdim(D::Minus1)?;
        weights.push((mass * ((&log_q - log_q.detach())? + 1.)?)?);
        values.push(tail.unsqueeze(3)?);
    }
    Ok((Tensor::cat(&values, 3)?, Tensor::cat(&weights, D::Minus1)?))
}

/// The product over the last axis.
fn product(x: &Tensor) -> Result<Tensor> {
    let n = x.dim(D::Minus1)?;
    let mut product = x.narrow(D::Minus1, 0, 1)?;
    for i in 1..n {
        product = (product * x.narrow(D::Minus1, i, 1)?)?;
    }
    product.squeeze(D::Minus1)
}

impl Estimator for SumAndSample {
    fn surrogate(
        &self,
        program: &Program<'_>,
        objective: &dyn Objective,
        key: Key,
    ) -> Result<Surrogate> {
        let mut count = Count { classes: self.classes, total: Some(1) };
        Trace::run(program, &mut count, key)?;
        let Some(total) = count.total.filter(|total| *total <= LIMIT && self.classes > 0) else {
            candle_core::bail!(
                "sums over {} classes of each variable make {} branches, and 1 to {LIMIT} are possible",
                self.classes,
                count.total.map_or_else(|| "too many".to_owned(), |total| total.to_string())
            )
        };
        let mut branches =
            Branches { classes: self.classes, total, stride: 1, weights: Vec::new() };
        let (log_px, sites) = Trace::run(program, &mut branches, key)?;
        let log_w = objective.log_weights(&log_px, &sites)?;
        let (_, b) = log_w.dims2()?;
        // Each branch is a sample of its own.
        let bounds = objective.bound(&log_w.reshape((1, total * b))?)?.reshape((total, b))?;
        let mut weight = Tensor::ones((total, b), DType::F32, log_w.device())?;
        weight = weight.to_dtype(log_w.dtype())?;
        for site in &branches.weights {
            weight = weight.broadcast_mul(site)?;
        }
        let bound = (weight * bounds)?.sum(0)?;
        Surrogate::new(&bound, &bound, &log_px, sites)
    }

    fn is_unbiased(&self) -> bool {
        true
    }

    fn bibtex(&self) -> &'static str {
        include_str!("bibtex/sum-and-sample.bib")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributions::{Bernoulli, Categorical};
    use crate::objectives::Elbo;
    use candle_core::Device;

    #[test]
    fn all_classes_make_the_exact_sum() -> Result<()> {
        let cpu = &Device::Cpu;
        let logits = Key::from_seed(1).normal((1, 3, 2, 4), DType::F64, cpu)?;
        let program = |t: &mut Trace<'_>| {
            let q = Categorical::from_logits(&logits)?;
            let z = t.sample("z", &q, &Categorical::uniform_like(&q)?)?;
            let q = Bernoulli::from_logits(&z.sum(2)?.narrow(2, 0, 2)?)?;
            (t.sample("bits", &q, &q)?.sum(2)?.sqr()? + z.narrow(3, 1, 1)?.sum((2, 3))?)?.exp()
        };
        let elbo = Elbo::default();
        let exact = super::super::Enumerate { samples: 1 };
        let exact = exact.surrogate(&program, &elbo, Key::from_seed(0))?.bound.to_vec1::<f64>()?;
        let summed = SumAndSample { classes: 4 }.surrogate(&program, &elbo, Key::from_seed(0))?;
        for (a, b) in summed.bound.to_vec1::<f64>()?.iter().zip(&exact) {
            assert!((a - b).abs() < 1e-12 * b.abs(), "{a} {b}");
        }
        Ok(())
    }

    #[test]
    fn one_variable_of_many_classes_costs_a_few_branches() -> Result<()> {
        let logits = (Key::from_seed(1).normal((1, 2, 1, 10_000), DType::F32, &Device::Cpu)? * 3.)?;
        let program = |t: &mut Trace<'_>| {
            let q = Categorical::from_logits(&logits)?;
            t.sample("z", &q, &q)?.sum((2, 3))
        };
        let elbo = Elbo { beta: 0., ..Elbo::default() };
        let surrogate =
            SumAndSample { classes: 5 }.surrogate(&program, &elbo, Key::from_seed(3))?;
        assert_eq!(surrogate.log_px.dims(), [6, 2]);
        assert!(surrogate.bound.to_vec1::<f32>()?.iter().all(|b| (b - 1.).abs() < 1e-4));
        Ok(())
    }

    #[test]
    fn too_many_branches_are_refused_with_their_number() -> Result<()> {
        let q = Bernoulli::from_logits(&Tensor::zeros((1, 1, 20), DType::F64, &Device::Cpu)?)?;
        let program = |t: &mut Trace<'_>| t.sample("z", &q, &q)?.sum(2);
        let run = |classes| {
            SumAndSample { classes }.surrogate(&program, &Elbo::default(), Key::from_seed(0))
        };
        assert!(run(1).unwrap_err().to_string().contains("1048576"));
        assert!(run(0).is_err());
        Ok(())
    }
}
