//! The distribution over subsets of a fixed size.
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, D, DType, Device, Layout, Result, Shape, Tensor,
};
use gumbel_kernels::Key;

/// Exactly `k` of `K` items: independent Bernoulli variables, given that `k` of them are 1.
///
/// For `z` with `k` ones, where `Z` is the elementary symmetric polynomial of degree `k` of `exp(logits)`:
///
/// ```math
/// P(z) = \exp\Bigl(\sum_i z_i\, \mathrm{logits}_i - \ln Z\Bigr),
/// \qquad Z = \sum_{|A| = k} \prod_{i \in A} e^{\mathrm{logits}_i}
/// ```
///
/// All quantities are exact, `O(K k)`, in logarithms and in double precision on the host, and differentiable in the
/// logits. A logit of `-∞` excludes an item.
///
/// Source: Chen and Liu (1997), "Statistical applications of the Poisson-binomial and conditional Bernoulli
/// distributions"; Ahmed, Zeng, Niepert, Van den Broeck (2023), "SIMPLE".
#[derive(Clone, Debug)]
pub struct Subset {
    logits: Tensor,
    size: usize,
}

impl Subset {
    /// From `logits: [.., K]` and the size `k ≤ K`.
    ///
    /// # Errors
    /// If there is no last axis, or `k` is larger than it.
    pub fn new(logits: &Tensor, size: usize) -> Result<Self> {
        match logits.dims().last() {
            Some(items) if size <= *items => Ok(Self { logits: logits.clone(), size }),
            _ => candle_core::bail!(
                "expected logits [.., K] with K ≥ {size}, the size of the subset, got {:?}",
                logits.shape()
            ),
        }
    }

    /// `ln Z`, in nats: `[..]`, in single precision for half-precision logits.
    ///
    /// # Errors
    /// If fewer than `k` items are left by masks.
    pub fn log_partition(&self) -> Result<Tensor> {
        let single = if self.logits.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        self.in_double(|logits| logits.apply_op1(LogPartition(self.size)))?.to_dtype(single)
    }

    /// `P(z_i = 1)`: `[.., K]`.
    pub fn marginals(&self) -> Result<Tensor> {
        let marginals = self.in_double(|logits| logits.apply_op1(Marginals(self.size)))?;
        marginals.to_dtype(self.logits.dtype())
    }

    /// `log P(z)` of `z: [.., K]` with `k` ones, in nats: `[..]`.
    ///
    /// # Errors
    /// If a row of `z` does not sum to `k`.
    pub fn log_prob(&self, z: &Tensor) -> Result<Tensor> {
        let sizes = z.to_dtype(DType::F64)?.sum(D::Minus1)?.flatten_all()?.to_vec1::<f64>()?;
        if let Some(bad) = sizes.iter().find(|size| (*size - self.size as f64).abs() > 1e-3) {
            candle_core::bail!("a subset of {} items was expected, got one of {bad}", self.size)
        }
        let log_prob = self.inner(z)?.broadcast_sub(&self.log_partition()?)?;
        // A set with an item that is masked.
        let impossible = Tensor::full(f64::NEG_INFINITY, log_prob.shape(), log_prob.device())?;
        let impossible = impossible.to_dtype(log_prob.dtype())?;
        log_prob.le(-1e29)?.where_cond(&impossible, &log_prob)
    }

    /// Entropy in nats: `[..]`.
    ///
    /// Over all `z` with `k` ones:
    ///
    /// ```math
    /// H = -\sum_z P(z) \log P(z)
    /// ```
    pub fn entropy(&self) -> Result<Tensor> {
        self.log_partition()?
            - self.inner(&self.in_double(|l| l.apply_op1(Marginals(self.size)))?)?
    }

    /// Independent samples `[S, .., K]` with `k` ones each. No gradient.
    pub fn sample(&self, samples: usize, key: Key) -> Result<Tensor> {
        let k = self.logits.dim(D::Minus1)?;
        let logits = self.logits.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        let rows = logits.flatten_all()?.to_vec1::<f64>()?;
        let mut drawn = Vec::with_capacity(samples * rows.len());
        for sample in 0..samples {
            for (i, row) in rows.chunks(k.max(1)).enumerate() {
                let first = ((sample * rows.len()) + i * k) as u64;
                let uniform = |item: usize| key.uniform_at(first + item as u64);
                drawn.extend(draw(row, self.size, uniform)?);
            }
        }
        let shape = [&[samples], self.logits.dims()].concat();
        let drawn = Tensor::from_vec(drawn, shape, &Device::Cpu)?;
        drawn.to_dtype(self.logits.dtype())?.to_device(self.logits.device())
    }

    /// Samples `[S, .., K]` with the gradient of the marginals: the SIMPLE estimator. **Biased**, but of less
    /// variance than a straight-through relaxation, because the backward pass has no noise.
    pub fn rsample_simple(&self, samples: usize, key: Key) -> Result<Tensor> {
        let marginals = self.marginals()?;
        let identity = (&marginals - marginals.detach())?;
        self.sample(samples, key)?.broadcast_add(&identity)
    }

    /// `Σ_i z_i logits_i`, where an item that is left out counts 0 whatever its logit.
    fn inner(&self, z: &Tensor) -> Result<Tensor> {
        let (dtype, z) = (self.logits.dtype(), z.to_dtype(DType::F64)?);
        let logits = self.logits.to_dtype(DType::F64)?.maximum(-1e30)?;
        z.broadcast_mul(&logits)?.sum(D::Minus1)?.to_dtype(if dtype == DType::F64 {
            dtype
        } else {
            DType::F32
        })
    }

    fn in_double(&self, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let logits = self.logits.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.contiguous()?;
        f(&logits)?.to_device(self.logits.device())
    }
}

/// A number and its derivative in one direction.
#[derive(Clone, Copy, Debug)]
struct Dual {
    value: f64,
    slope: f64,
}

impl Dual {
    const LOG_ZERO: Self = Self { value: f64::NEG_INFINITY, slope: 0. };
    const LOG_ONE: Self = Self { value: 0., slope: 0. };

    fn plus(self, other: Self) -> Self {
        Self { value: self.value + other.value, slope: self.slope + other.slope }
    }

    /// `ln(e^a + e^b)`.
    fn log_add(self, other: Self) -> Self {
        let top = self.value.max(other.value);
        if top == f64::NEG_INFINITY {
            return Self::LOG_ZERO;
        }
        let (a, b) = ((self.value - top).exp(), (other.value - top).exp());
        Self { value: top + (a + b).ln(), slope: (a * self.slope + b * other.slope) / (a + b) }
    }
}

/// `table[i][j]`: logarithm of the polynomial of degree `j ≤ size` of the items before `i`.
fn prefixes(row: impl Iterator<Item = Dual>, size: usize) -> Vec<Vec<Dual>> {
    let mut last = vec![Dual::LOG_ZERO; size + 1];
    last[0] = Dual::LOG_ONE;
    let mut table = vec![last.clone()];
    for item in row {
        for j in (1..=size).rev() {
            last[j] = last[j].log_add(last[j - 1].plus(item));
        }
        table.push(last.clone());
    }
    table
}

fn duals<'a>(row: &'a [f64], slope: &'a [f64]) -> impl DoubleEndedIterator<Item = Dual> + 'a {
    let zeros = std::iter::repeat_n(&0., row.len() - slope.len());
    let slopes: Vec<f64> = slope.iter().chain(zeros).copied().collect();
    row.iter()
        .zip(slopes)
        .map(|(value, slope)| Dual { value: *value, slope })
        .collect::<Vec<_>>()
        .into_iter()
}

fn possible(log_partition: f64, size: usize) -> Result<f64> {
    if log_partition == f64::NEG_INFINITY || log_partition.is_nan() {
        candle_core::bail!(
            "fewer than {size} items have a finite logit: there is no subset of that size"
        )
    }
    Ok(log_partition)
}

fn log_partition(row: &[f64], size: usize) -> Result<f64> {
    let table = prefixes(duals(row, &[]), size);
    possible(table[row.len()][size].value, size)
}

/// The marginals, and their derivative along `direction` (none: 0).
fn marginals(row: &[f64], size: usize, direction: &[f64]) -> Result<Vec<Dual>> {
    let before = prefixes(duals(row, direction), size);
    let after = prefixes(duals(row, direction).rev(), size);
    let total = before[row.len()][size];
    possible(total.value, size)?;
    let marginal = |(i, item): (usize, Dual)| {
        // Of the other items, size - 1 are taken: j before this one, the rest after it.
        let (left, right) = (&before[i], &after[row.len() - 1 - i]);
        let others =
            (0..size).fold(Dual::LOG_ZERO, |sum, j| sum.log_add(left[j].plus(right[size - 1 - j])));
        let log = others.plus(item);
        let value = (log.value - total.value).exp();
        let slope = if value == 0. { 0. } else { value * (log.slope - total.slope) };
        Dual { value, slope }
    };
    Ok(duals(row, direction).enumerate().map(marginal).collect())
}

/// One subset as zeros and ones, item by item.
fn draw(row: &[f64], size: usize, uniform: impl Fn(usize) -> f64) -> Result<Vec<f64>> {
    // after[n][j]: the last n items, j of them taken.
    let after = prefixes(duals(row, &[]).rev(), size);
    possible(after[row.len()][size].value, size)?;
    let mut left = size;
    let taken = row.iter().enumerate().map(|(i, item)| {
        let n = row.len() - i;
        if left == 0 {
            return 0.;
        }
        let with = item + after[n - 1][left - 1].value;
        let probability = (with - after[n][left].value).exp();
        let must = after[n - 1][left].value == f64::NEG_INFINITY;
        if must || uniform(i) < probability {
            left -= 1;
            1.
        } else {
            0.
        }
    });
    Ok(taken.collect())
}

#[derive(Clone, Copy, Debug)]
struct LogPartition(usize);
#[derive(Clone, Copy, Debug)]
struct Marginals(usize);
#[derive(Clone, Copy, Debug)]
struct MarginalsBackward(usize);

fn rows<'a>(s: &'a CpuStorage, l: &Layout) -> Result<(&'a [f64], usize)> {
    match (l.contiguous_offsets(), l.dims().last()) {
        (Some((from, to)), Some(k)) => Ok((&s.as_slice::<f64>()?[from..to], (*k).max(1))),
        _ => candle_core::bail!("expected contiguous rows, got {l:?}"),
    }
}

impl CustomOp1 for LogPartition {
    fn name(&self) -> &'static str {
        "subset_log_partition"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, k) = rows(s, l)?;
        let y = x.chunks(k).map(|row| log_partition(row, self.0)).collect::<Result<_>>()?;
        Ok((CpuStorage::F64(y), Shape::from(&l.dims()[..l.dims().len() - 1])))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let marginals = x.apply_op1_no_bwd(&Marginals(self.0))?;
        Ok(Some(marginals.broadcast_mul(&g.unsqueeze(D::Minus1)?)?))
    }
}

impl CustomOp1 for Marginals {
    fn name(&self) -> &'static str {
        "subset_marginals"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, k) = rows(s, l)?;
        let rows =
            x.chunks(k).map(|row| marginals(row, self.0, &[])).collect::<Result<Vec<_>>>()?;
        let y = rows.into_iter().flatten().map(|dual| dual.value).collect();
        Ok((CpuStorage::F64(y), l.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(x.apply_op2_no_bwd(&g.contiguous()?, &MarginalsBackward(self.0))?))
    }
}

impl CustomOp2 for MarginalsBackward {
    fn name(&self) -> &'static str {
        "subset_marginals_backward"
    }

    /// The Jacobian is a covariance, so symmetric: its product with `g` is the derivative along `g`.
    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        g: &CpuStorage,
        lg: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((x, k), (g, _)) = (rows(x, lx)?, rows(g, lg)?);
        let along = x.chunks(k).zip(g.chunks(k)).map(|(row, g)| marginals(row, self.0, g));
        let rows = along.collect::<Result<Vec<_>>>()?;
        let d = rows.into_iter().flatten().map(|dual| dual.slope).collect();
        Ok((CpuStorage::F64(d), lx.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Var;

    const CPU: &Device = &Device::Cpu;

    /// All subsets of `k` of 5, with their probabilities.
    fn enumerate(logits: &[f64], size: u32) -> Vec<(u32, f64)> {
        let sets = (0..32u32).filter(|set| set.count_ones() == size);
        let weight = |set: u32| -> f64 {
            (0..5).filter(|i| set >> i & 1 == 1).map(|i| logits[i]).sum::<f64>().exp()
        };
        let sets: Vec<(u32, f64)> = sets.map(|set| (set, weight(set))).collect();
        let total: f64 = sets.iter().map(|(_, w)| w).sum();
        sets.into_iter().map(|(set, w)| (set, w / total)).collect()
    }

    #[test]
    fn samples_follow_the_law_and_marginals_and_entropy_are_exact() -> Result<()> {
        let row = [0.5, -1., 2., 0., 1.];
        let logits = Tensor::new(&[row], CPU)?;
        for size in 1..5u32 {
            let law = enumerate(&row, size);
            let q = Subset::new(&logits, size as usize)?;
            let marginals = q.marginals()?.to_vec2::<f64>()?;
            let exact = |i: usize| -> f64 {
                law.iter().filter(|(set, _)| set >> i & 1 == 1).map(|(_, p)| p).sum()
            };
            assert!((0..5).all(|i| (marginals[0][i] - exact(i)).abs() < 1e-14));
            let entropy: f64 = law.iter().map(|(_, p)| -p * p.ln()).sum();
            assert!((q.entropy()?.to_vec1::<f64>()?[0] - entropy).abs() < 1e-13);
            let n = 20_000;
            let samples = q.sample(n, Key::from_seed(1))?;
            let log_prob = q.log_prob(&samples)?.mean_all()?.to_scalar::<f64>()?;
            assert!((log_prob + entropy).abs() < 0.03, "{log_prob} {entropy}");
            let mean = samples.mean(0)?.to_vec2::<f64>()?;
            for (i, mean) in mean[0].iter().enumerate() {
                let p = exact(i);
                let error = (p * (1. - p) / n as f64).sqrt();
                assert!((mean - p).abs() < 4.5 * error, "{mean} {p}");
            }
        }
        Ok(())
    }

    #[test]
    fn gradients_are_those_of_finite_differences_also_far_out() -> Result<()> {
        let weights = Key::from_seed(2).normal((2, 4), DType::F64, CPU)?;
        let value = |x: &Tensor| -> Result<Tensor> {
            let q = Subset::new(x, 2)?;
            (q.marginals()? * &weights)?.sum_all()? + q.entropy()?.sum_all()?
        };
        let x = Tensor::new(&[[0.3f64, -1., 0.7, 2.], [800., -800., 799., 1.]], CPU)?;
        let var = Var::from_tensor(&x)?;
        let grads = value(var.as_tensor())?.backward()?;
        let exact = grads.get(var.as_tensor()).unwrap().flatten_all()?.to_vec1::<f64>()?;
        for (i, exact) in exact.iter().enumerate() {
            let at = |h: f64| {
                let mut moved = x.flatten_all()?.to_vec1::<f64>()?;
                moved[i] += h;
                value(&Tensor::from_vec(moved, (2, 4), CPU)?)?.to_scalar::<f64>()
            };
            let numeric = (at(1e-5)? - at(-1e-5)?) / 2e-5;
            assert!((numeric - exact).abs() < 1e-5, "{i}: {numeric} {exact}");
        }
        Ok(())
    }

    #[test]
    fn simple_hands_out_subsets_with_the_gradient_of_marginals() -> Result<()> {
        let logits = Var::new(&[0.5f32, -1., f32::NEG_INFINITY, 1.], CPU)?;
        let z = Subset::new(&logits, 2)?.rsample_simple(3, Key::from_seed(1))?;
        for row in z.to_vec2::<f32>()? {
            assert!(row.iter().sum::<f32>() == 2. && row[2] == 0., "{row:?}");
        }
        let grads = z.narrow(1, 0, 1)?.sum_all()?.backward()?;
        let gradient = grads.get(logits.as_tensor()).unwrap().to_vec1::<f32>()?;
        assert!(gradient[0] > 0. && gradient[1] < 0. && gradient[2] == 0.);
        let masked = Tensor::new(&[0f64, f64::NEG_INFINITY], CPU)?;
        assert!(
            Subset::new(&masked, 2)?.marginals().unwrap_err().to_string().contains("fewer than 2")
        );
        assert!(Subset::new(&masked, 3).is_err());
        let q = Subset::new(&Tensor::new(&[0f64, f64::NEG_INFINITY, 1.], CPU)?, 2)?;
        let set = |bits: [f64; 3]| q.log_prob(&Tensor::new(&bits, CPU)?);
        assert_eq!(set([1., 1., 0.])?.to_scalar::<f64>()?, f64::NEG_INFINITY);
        assert_eq!(set([1., 0., 1.])?.to_scalar::<f64>()?, 0.);
        assert!(set([1., 1., 1.]).unwrap_err().to_string().contains("one of 3"));
        let half = Tensor::new(&[0f32, f32::NEG_INFINITY, 1., 2.], CPU)?.to_dtype(DType::F16)?;
        let half = Subset::new(&half, 2)?.entropy()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        assert!(half.is_finite() && half > 0., "{half}");
        Ok(())
    }
}
