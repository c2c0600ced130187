//! Random orders without replacement.
use candle_core::{D, DType, Device, Result, Tensor};
use gumbel_kernels::{Forward, Key, compute_dtype, log_softmax, log_sum_exp};

use crate::distributions::positive;
use crate::distributions::special::integrate;

/// The Plackett–Luce distribution over orders: items are drawn one after another without replacement.
///
/// Each has a probability in proportion to the exponential of its logit among those that are left:
///
/// ```math
/// P(i_1, \dots, i_k) = \prod_{j=1}^{k}
/// \frac{\exp(\mathrm{logits}_{i_j})}{\sum_{i \notin \{i_1, \dots, i_{j-1}\}} \exp(\mathrm{logits}_i)}
/// ```
///
/// The indices of the `k` largest of `logits + G` are its first `k` items (the Gumbel top-k trick).
///
/// Source: Kool, van Hoof, Welling (2019), "Stochastic beams and where to find them"; Yellott (1977).
#[derive(Clone, Debug)]
pub struct PlackettLuce {
    logits: Tensor,
    dtype: DType,
}

impl PlackettLuce {
    /// From `logits: [.., K]`.
    ///
    /// # Errors
    /// If there is no last axis.
    pub fn new(logits: &Tensor) -> Result<Self> {
        if logits.rank() == 0 {
            candle_core::bail!("expected logits [.., K], got a scalar")
        }
        let dtype = logits.dtype();
        Ok(Self { logits: logits.to_dtype(compute_dtype(dtype))?, dtype })
    }

    /// Number of items; an error unless each row has `k` that can be drawn.
    fn checked(&self, k: usize) -> Result<usize> {
        let items = self.logits.dim(D::Minus1)?;
        let possible = self.logits.gt(f64::NEG_INFINITY)?.to_dtype(DType::F32)?.sum(D::Minus1)?;
        let counts = possible.flatten_all()?.to_vec1::<f32>()?;
        let fewest = counts.iter().copied().fold(items as f32, f32::min);
        if k == 0 || k as f32 > fewest {
            candle_core::bail!(
                "the first {k} items were asked for, and a row has {fewest} with a finite logit; use 1 to {fewest}"
            )
        }
        Ok(items)
    }

    /// `logits + G`: `[S, .., K]`.
    fn perturbed(&self, samples: usize, key: Key) -> Result<Tensor> {
        let shape = [&[samples], self.logits.dims()].concat();
        let noise = key.gumbel(shape, self.logits.dtype(), self.logits.device())?;
        noise.broadcast_add(&self.logits)
    }

    /// Indices of the first `k` items, in order: `[S, .., k]` of `u32`.
    pub fn sample(&self, k: usize, samples: usize, key: Key) -> Result<Tensor> {
        self.checked(k)?;
        let perturbed = self.perturbed(samples, key)?.detach().contiguous()?;
        perturbed.arg_sort_last_dim(false)?.narrow(D::Minus1, 0, k)?.contiguous()
    }

    /// `log P` of the ordered items `order: [.., k]` of `u32`, in nats: `[..]`. Differentiable in the logits.
    ///
    /// Axes of the order before those of the logits count samples.
    pub fn log_prob(&self, order: &Tensor) -> Result<Tensor> {
        let (k, items) = (order.dim(D::Minus1)?, self.logits.dim(D::Minus1)?);
        if k > items {
            candle_core::bail!("an order of {k} items was given, and there are {items}")
        }
        let leading = &order.dims()[..order.rank() - 1];
        let shape = [leading, &[items]].concat();
        let logits = self.logits.broadcast_as(shape)?.contiguous()?;
        let classes = Tensor::arange(0u32, items as u32, order.device())?;
        let (mut left, mut total) = (logits, None);
        for place in 0..k {
            let item = order.narrow(D::Minus1, place, 1)?;
            // An item that was taken before, or is masked, scores -∞.
            let score = left.gather(&item.contiguous()?, D::Minus1)?.squeeze(D::Minus1)?;
            let log_p = (score - log_sum_exp(&left, D::Minus1)?.maximum(-1e30)?)?;
            total = Some(match total {
                None => log_p,
                Some(total) => (total + log_p)?,
            });
            let out = Tensor::full(f64::NEG_INFINITY, left.shape(), left.device())?;
            left = item.broadcast_eq(&classes)?.where_cond(&out.to_dtype(left.dtype())?, &left)?;
        }
        total.ok_or_else(|| candle_core::Error::Msg("an order has at least one item".to_owned()))
    }

    /// The probability of each item to be among the first `k`, exact: `[.., K]`. No gradient.
    ///
    /// Items arrive after exponential times with rates `w = softmax(logits)`, so that for item `i` it is an integral
    /// over its time:
    ///
    /// ```math
    /// \int_0^\infty w_i e^{-w_i t}\, P(\text{fewer than } k \text{ others have arrived by } t)\, dt
    /// ```
    ///
    /// It is computed as a sum over a few hundred times.
    pub fn inclusion_probabilities(&self, k: usize) -> Result<Tensor> {
        let items = self.checked(k)?;
        let rates = log_softmax(&self.logits.to_dtype(DType::F64)?)?;
        let rates = rates.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f64>()?;
        let rows = rates.chunks(items).flat_map(|row| inclusion(row, k));
        let probabilities = Tensor::from_vec(rows.collect(), self.logits.shape(), &Device::Cpu)?;
        probabilities.to_dtype(self.logits.dtype())?.to_device(self.logits.device())
    }

    /// A relaxed vector of `k` ones, `[S, .., K]`: the sum of `k` softmaxes, each without what the earlier
    /// ones have taken. With [`Forward::Hard`] the value is the exact sample, and only the gradient that of the relaxed
    /// one (straight-through, biased).
    ///
    /// Source: Xie and Ermon (2019), "Reparameterizable subset sampling via continuous relaxations".
    ///
    /// # Errors
    /// If `temperature` is not positive and finite.
    pub fn relaxed_top_k(
        &self,
        k: usize,
        temperature: f64,
        forward: Forward,
        samples: usize,
        key: Key,
    ) -> Result<Tensor> {
        let items = self.checked(k)?;
        positive("temperature", temperature)?;
        let perturbed = self.perturbed(samples, key)?;
        let (mut scores, mut total) = (perturbed.clone(), perturbed.zeros_like()?);
        for _ in 0..k {
            let taken = log_softmax(&(&scores / temperature)?)?.exp()?;
            // What is taken entirely is out of the race, at a finite distance.
            scores = (scores + (1. - &taken)?.maximum(1e-7)?.log()?)?;
            total = (total + taken)?;
        }
        if forward == Forward::Soft {
            return total.to_dtype(self.dtype);
        }
        let first = perturbed.detach().contiguous()?.arg_sort_last_dim(false)?;
        let first = first.narrow(D::Minus1, 0, k)?.contiguous()?.unsqueeze(D::Minus1)?;
        let classes = Tensor::arange(0u32, items as u32, first.device())?;
        let value = first.broadcast_eq(&classes)?.to_dtype(total.dtype())?.sum(D::Minus2)?;
        (value + (&total - total.detach())?)?.to_dtype(self.dtype)
    }
}

/// The integral over the logarithm of the time, in which the integrand is analytic in a strip of half-width π/2.
/// Rates are given by their logarithms, so that none is too small.
fn inclusion(log_rates: &[f64], k: usize) -> Vec<f64> {
    let finite = log_rates.iter().copied().filter(|rate| rate.is_finite());
    let slowest = finite.fold(0., f64::min);
    let probability = |(i, rate): (usize, &f64)| {
        if *rate == f64::NEG_INFINITY {
            return 0.;
        }
        let [area] = integrate(-45., 800f64.ln() - slowest, 0.2, |x| {
            let arrivals = (rate + x).exp();
            // Nothing is left to arrive, and the product below would be ∞ · 0.
            if arrivals > 745. {
                return [0.];
            }
            [arrivals * (-arrivals).exp() * fewer_than(log_rates, i, k, x)]
        });
        area
    };
    log_rates.iter().enumerate().map(probability).collect()
}

/// `P(fewer than k of the items but `skipped` have arrived by time e^x)`.
fn fewer_than(log_rates: &[f64], skipped: usize, k: usize, x: f64) -> f64 {
    let mut counts = vec![0.; k];
    if let Some(none) = counts.first_mut() {
        *none = 1.;
    }
    for (_, rate) in log_rates.iter().enumerate().filter(|(i, _)| *i != skipped) {
        let arrivals = (rate + x).exp();
        let (arrived, away) = (-(-arrivals).exp_m1(), (-arrivals).exp());
        let mut before = 0.;
        for count in &mut counts {
            (*count, before) = (*count * away + before * arrived, *count);
        }
    }
    counts.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Var;

    const CPU: &Device = &Device::Cpu;

    #[test]
    fn orders_have_their_probability_and_items_their_inclusion() -> Result<()> {
        let q = PlackettLuce::new(&Tensor::new(&[0.5f64, -1., 2., 0.], CPU)?)?;
        let n = 40_000;
        let orders = q.sample(2, n, Key::from_seed(1))?.to_vec2::<u32>()?;
        let mut included = [0.; 4];
        for (a, b) in (0..4).flat_map(|a| (0..4).map(move |b| (a, b))).filter(|(a, b)| a != b) {
            let order = Tensor::new(&[a, b], CPU)?;
            let p = q.log_prob(&order)?.exp()?.to_scalar::<f64>()?;
            included[a as usize] += p;
            included[b as usize] += p;
            let count = orders.iter().filter(|order| **order == [a, b]).count() as f64;
            let error = (n as f64 * p * (1. - p)).sqrt();
            assert!((count - n as f64 * p).abs() < 4.5 * error, "{a} {b}");
        }
        let exact = q.inclusion_probabilities(2)?.to_vec1::<f64>()?;
        for (a, b) in exact.iter().zip(included) {
            assert!((a - b).abs() < 1e-12, "{a} {b}");
        }
        assert!(q.sample(5, 1, Key::from_seed(1)).is_err());
        let far = PlackettLuce::new(&Tensor::new(&[800f64, 0., -800., 1.], CPU)?)?;
        let three = far.inclusion_probabilities(3)?.to_vec1::<f64>()?;
        for (a, b) in three.iter().zip([1., 1., 0., 1.]) {
            assert!((a - b).abs() < 1e-11, "{three:?}");
        }
        Ok(())
    }

    #[test]
    fn impossible_orders_have_no_probability_and_too_few_items_are_an_error() -> Result<()> {
        let q = PlackettLuce::new(&Tensor::new(&[0.5f64, f64::NEG_INFINITY, 1.], CPU)?)?;
        for order in [&[0u32, 0][..], &[1, 0], &[0, 2, 1], &[0, 1]] {
            let log_p = q.log_prob(&Tensor::new(order, CPU)?)?.to_scalar::<f64>()?;
            assert_eq!(log_p, f64::NEG_INFINITY, "{order:?}");
        }
        assert!(q.sample(3, 1, Key::from_seed(1)).unwrap_err().to_string().contains("has 2"));
        assert!(q.relaxed_top_k(3, 1., Forward::Soft, 1, Key::from_seed(1)).is_err());
        Ok(())
    }

    #[test]
    fn a_relaxed_top_k_holds_k_and_a_hard_one_is_made_of_bits() -> Result<()> {
        let logits = Var::from_tensor(&Key::from_seed(3).normal((6, 5), DType::F32, CPU)?)?;
        let q = PlackettLuce::new(&logits)?;
        for forward in [Forward::Soft, Forward::Hard] {
            let z = q.relaxed_top_k(3, 0.5, forward, 4, Key::from_seed(2))?;
            assert_eq!(z.dims(), [4, 6, 5]);
            let off = (z.sum(2)? - 3.)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(off < 1e-5, "{off}");
            let bits = z.flatten_all()?.to_vec1::<f32>()?;
            assert_eq!(bits.iter().all(|b| *b == 0. || *b == 1.), forward == Forward::Hard);
            let weights = Key::from_seed(4).normal((4, 6, 5), DType::F32, CPU)?;
            let grads = (z * weights)?.sum_all()?.backward()?;
            let gradient =
                grads.get(logits.as_tensor()).unwrap().flatten_all()?.to_vec1::<f32>()?;
            assert!(gradient.iter().all(|g| g.is_finite()) && gradient.iter().any(|g| *g != 0.));
        }
        assert!(q.relaxed_top_k(3, 0., Forward::Soft, 1, Key::from_seed(2)).is_err());
        Ok(())
    }
}
