//! Random orders without replacement.
use candle_core::{D, DType, Device, Result, Tensor};
use gumbel_kernels::{Key, log_softmax, log_sum_exp};

use crate::distributions::special::integrate;

/// The Plackett–Luce distribution over orders: items are drawn one after another without replacement, each with
/// a probability in proportion to `exp(logits)` among those that are left.
///
/// The indices of the `k` largest of `logits + G` are its first `k` items (the Gumbel top-k trick).
///
/// Source: Kool, van Hoof, Welling (2019), "Stochastic beams and where to find them"; Yellott (1977).
#[derive(Clone, Debug)]
pub struct PlackettLuce {
    logits: Tensor,
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
        Ok(Self { logits: logits.clone() })
    }

    fn checked(&self, k: usize) -> Result<usize> {
        let items = self.logits.dim(D::Minus1)?;
        if k == 0 || k > items {
            candle_core::bail!("the first {k} of {items} items were asked for; use 1 to {items}")
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
        self.checked(k)?;
        let leading = &order.dims()[..order.rank() - 1];
        let shape = [leading, &[items]].concat();
        let logits = self.logits.broadcast_as(shape)?.contiguous()?;
        let scores = logits.gather(&order.contiguous()?, D::Minus1)?;
        let classes = Tensor::arange(0u32, items as u32, order.device())?;
        let (mut left, mut total) = (logits, None);
        for place in 0..k {
            let item = order.narrow(D::Minus1, place, 1)?;
            let score = scores.narrow(D::Minus1, place, 1)?.squeeze(D::Minus1)?;
            let log_p = (score - log_sum_exp(&left, D::Minus1)?)?;
            total = Some(match total {
                None => log_p,
                Some(total) => (total + log_p)?,
            });
            let out = Tensor::full(f64::NEG_INFINITY, left.shape(), left.device())?;
            left = item.broadcast_eq(&classes)?.where_cond(&out.to_dtype(left.dtype())?, &left)?;
        }
        total.ok_or_else(|| candle_core::Error::Msg("an order has at least one item".to_owned()))
    }

    /// `P(item i is among the first k)`, exact: `[.., K]`. No gradient.
    ///
    /// Items arrive after exponential times with rates `w = softmax(logits)`, so that it is
    /// `∫ w_i e^{-w_i t} P(fewer than k others have arrived by t) dt`, a sum over a few hundred times.
    pub fn inclusion_probabilities(&self, k: usize) -> Result<Tensor> {
        let items = self.checked(k)?;
        let weights = log_softmax(&self.logits.to_dtype(DType::F64)?)?.exp()?;
        let weights = weights.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f64>()?;
        let rows = weights.chunks(items).flat_map(|row| inclusion(row, k));
        let probabilities = Tensor::from_vec(rows.collect(), self.logits.shape(), &Device::Cpu)?;
        probabilities.to_dtype(self.logits.dtype())?.to_device(self.logits.device())
    }

    /// A relaxed vector of `k` ones, `[S, .., K]`: the sum of `k` softmaxes, each without what the earlier
    /// ones have taken. With `hard` the value is the exact sample, and only the gradient that of the relaxed
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
        hard: bool,
        samples: usize,
        key: Key,
    ) -> Result<Tensor> {
        let items = self.checked(k)?;
        if !(temperature > 0. && temperature.is_finite()) {
            candle_core::bail!("temperature must be positive and finite, got {temperature}")
        }
        let perturbed = self.perturbed(samples, key)?;
        let (mut scores, mut total) = (perturbed.clone(), perturbed.zeros_like()?);
        for _ in 0..k {
            let taken = log_softmax(&(&scores / temperature)?)?.exp()?;
            // What is taken entirely is out of the race, at a finite distance.
            scores = (scores + (1. - &taken)?.maximum(1e-7)?.log()?)?;
            total = (total + taken)?;
        }
        if !hard {
            return Ok(total);
        }
        let first = perturbed.detach().contiguous()?.arg_sort_last_dim(false)?;
        let first = first.narrow(D::Minus1, 0, k)?.contiguous()?.unsqueeze(D::Minus1)?;
        let classes = Tensor::arange(0u32, items as u32, first.device())?;
        let value = first.broadcast_eq(&classes)?.to_dtype(total.dtype())?.sum(D::Minus2)?;
        value + (&total - total.detach())?
    }
}

/// The integral over the logarithm of the time, in which the integrand is analytic in a strip of half-width π/2.
fn inclusion(weights: &[f64], k: usize) -> Vec<f64> {
    let smallest = weights.iter().copied().filter(|w| *w > 0.).fold(1., f64::min);
    let probability = |i: usize| {
        let rate = weights.get(i).copied().unwrap_or(0.);
        if rate == 0. {
            return 0.;
        }
        let [area] = integrate(-45., (800. / smallest).ln(), 0.2, |x| {
            let t = x.exp();
            [rate * t * (-rate * t).exp() * fewer_than(weights, i, k, t)]
        });
        area
    };
    (0..weights.len()).map(probability).collect()
}

/// `P(fewer than k of the items but `skipped` have arrived by time t)`.
fn fewer_than(weights: &[f64], skipped: usize, k: usize, t: f64) -> f64 {
    let mut counts = vec![0.; k];
    if let Some(none) = counts.first_mut() {
        *none = 1.;
    }
    for (_, w) in weights.iter().enumerate().filter(|(i, _)| *i != skipped) {
        let (arrived, away) = (-(-w * t).exp_m1(), (-w * t).exp());
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
        Ok(())
    }

    #[test]
    fn a_relaxed_top_k_holds_k_and_a_hard_one_is_made_of_bits() -> Result<()> {
        let logits = Var::from_tensor(&Key::from_seed(3).normal((6, 5), DType::F32, CPU)?)?;
        let q = PlackettLuce::new(&logits)?;
        for hard in [false, true] {
            let z = q.relaxed_top_k(3, 0.5, hard, 4, Key::from_seed(2))?;
            assert_eq!(z.dims(), [4, 6, 5]);
            let off = (z.sum(2)? - 3.)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(off < 1e-5, "{off}");
            let bits = z.flatten_all()?.to_vec1::<f32>()?;
            assert_eq!(bits.iter().all(|b| *b == 0. || *b == 1.), hard);
            let weights = Key::from_seed(4).normal((4, 6, 5), DType::F32, CPU)?;
            let grads = (z * weights)?.sum_all()?.backward()?;
            let gradient =
                grads.get(logits.as_tensor()).unwrap().flatten_all()?.to_vec1::<f32>()?;
            assert!(gradient.iter().all(|g| g.is_finite()) && gradient.iter().any(|g| *g != 0.));
        }
        assert!(q.relaxed_top_k(3, 0., false, 1, Key::from_seed(2)).is_err());
        Ok(())
    }
}
