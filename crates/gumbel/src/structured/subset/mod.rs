//! The distribution over subsets of a fixed size.
use candle_core::{D, DType, Device, Result, Tensor};
use gumbel_kernels::Key;

mod gradient;
mod polynomial;

use gradient::{LogPartition, Marginals};
use polynomial::draw;

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
