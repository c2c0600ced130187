//! The Concrete distribution, in log-coordinates.
use candle_core::{D, DType, Result, Tensor};
use gumbel_kernels::{Key, log_softmax, log_sum_exp};

use super::special::{EULER, digamma, integrate, ln_gamma};
use super::{Temperature, closed_form};

/// `ExpConcrete(α, τ)`: the logarithm `y = log x` of a Concrete variable `x` on the simplex.
///
/// With `α = exp(logits)` and Gumbel noise `G`, `y = log_softmax((logits + G) / τ)`. Its density with
/// respect to Lebesgue measure in the coordinates `y_k - y_K` is
/// `log κ(y) = ln Γ(K) + (K-1) ln τ + Σ_k t_k - K ln Σ_k exp t_k`, `t = logits - τ y`.
///
/// In log-coordinates the density is finite wherever the sample is, at any temperature and any logits; on
/// the simplex itself a coordinate underflows and the density with it.
///
/// `logits: [S | 1, B, N, K]`, temperature a number or `[S | 1, B, N]`.
/// Source: Maddison, Mnih, Teh (2017), definition 1 and appendix C.3.
#[derive(Clone, Debug)]
pub struct ExpConcrete {
    logits: Tensor,
    temperature: Temperature,
}

impl ExpConcrete {
    /// From unnormalised `logits: [S | 1, B, N, K]` and a positive temperature.
    ///
    /// # Errors
    /// If the temperature is not positive and finite, or the logits do not have four axes.
    pub fn new(logits: &Tensor, temperature: impl Into<Temperature>) -> Result<Self> {
        logits.dims4()?;
        Ok(Self { logits: logits.clone(), temperature: temperature.into().checked(true)? })
    }

    /// Reparameterised samples `y = log x: [S, B, N, K]`, differentiable in logits and temperature.
    pub fn rsample(&self, samples: usize, key: Key) -> Result<Tensor> {
        self.transport(&self.noise(samples, key)?)
    }

    /// Standard Gumbel noise for `samples` samples: `[S, B, N, K]`.
    fn noise(&self, samples: usize, key: Key) -> Result<Tensor> {
        let (s, b, n, k) = self.logits.dims4()?;
        if samples == 0 || (s != 1 && s != samples) {
            candle_core::bail!(
                "expected logits [1 | {samples}, B, N, K], got {:?}",
                self.logits.shape()
            )
        }
        key.gumbel((samples, b, n, k), self.logits.dtype(), self.logits.device())
    }

    /// The sample that Gumbel noise `gumbel: [S, B, N, K]` is carried to: `log_softmax((logits + G) / τ)`.
    pub fn transport(&self, gumbel: &Tensor) -> Result<Tensor> {
        log_softmax(&self.temperature.divide(&gumbel.broadcast_add(&self.logits)?)?)
    }

    /// A sample `[S, B, N, K]` and its log-density `[S, B]`, the latter from the noise alone.
    ///
    /// `log κ(y) = ln Γ(K) + (K-1) ln τ - Σ_k G_k - K ln Σ_k exp(-G_k)`: finite for every draw, and
    /// independent of the logits, as the density along a reparameterised path is.
    ///
    /// # Errors
    /// If a category is masked.
    pub fn rsample_with_log_density(&self, samples: usize, key: Key) -> Result<(Tensor, Tensor)> {
        self.unmasked()?;
        let noise = self.noise(samples, key)?;
        Ok((self.transport(&noise)?, self.log_density_of_noise(&noise)?))
    }

    /// Log-density `[S, B]`, in nats, of the sample that noise `gumbel: [S, B, N, K]` is carried to.
    pub fn log_density_of_noise(&self, gumbel: &Tensor) -> Result<Tensor> {
        self.finish(&log_softmax(&gumbel.neg()?)?)
    }

    /// An error if a category is masked: its coordinate is -∞, where no density exists.
    fn unmasked(&self) -> Result<()> {
        let smallest = self.logits.detach().flatten_all()?.min(0)?.to_dtype(DType::F64)?;
        if smallest.to_scalar::<f64>()? == f64::NEG_INFINITY {
            candle_core::bail!(
                "a masked category (logit -inf) has no Concrete density; use the analytic divergence, or \
                 leave the category out"
            )
        }
        Ok(())
    }

    /// `log κ(y)` in nats, summed over the variables, of `y: [S, B, N, K]`: `[S, B]`.
    ///
    /// Adding a constant to all coordinates of `y` or all logits changes nothing.
    ///
    /// # Errors
    /// If a category is masked.
    pub fn log_density(&self, y: &Tensor) -> Result<Tensor> {
        self.unmasked()?;
        let t = self.logits.broadcast_sub(&self.temperature.times(y)?)?;
        self.finish(&log_softmax(&t)?)
    }

    /// Adds the constants to `Σ_k log_softmax(t)_k` and sums over the variables.
    fn finish(&self, log_softmax: &Tensor) -> Result<Tensor> {
        let k = log_softmax.dim(D::Minus1)?;
        let sums = log_softmax.sum_keepdim(D::Minus1)?;
        let density = self.temperature.add_log(&(sums + ln_gamma(k))?, (k - 1) as f64)?;
        density.sum((2, 3))
    }

    /// Log-density on the simplex `[S, B]` of `x: [S, B, N, K]` given as `log x`: `log κ(log x) - Σ log x`.
    ///
    /// The density of the Concrete distribution (Maddison et al. 2017, definition 1), finite where `exp(log x)`
    /// underflows.
    pub fn log_density_simplex_from_log(&self, log_x: &Tensor) -> Result<Tensor> {
        self.log_density(log_x)? - log_x.sum((2, 3))?
    }

    /// Log-density on the simplex `[S, B]` of `x: [S, B, N, K]` (not renormalised).
    pub fn log_density_simplex(&self, x: &Tensor) -> Result<Tensor> {
        self.log_density_simplex_from_log(&x.log()?)
    }

    /// Differential entropy in nats, summed over the variables: `[S | 1, B]`.
    ///
    /// `K γ + K ψ(K) - ln Γ(K) - (K-1) ln τ` per variable: independent of the logits.
    pub fn entropy(&self) -> Result<Tensor> {
        let k = self.logits.dim(D::Minus1)?;
        let constant = k as f64 * (EULER + digamma(k)) - ln_gamma(k);
        let zeros = self.logits.narrow(D::Minus1, 0, 1)?.detach().zeros_like()?;
        self.temperature.add_log(&(zeros + constant)?, -((k - 1) as f64))?.sum((2, 3))
    }

    /// `KL(self ‖ prior)` in nats between two Concrete variables of the same temperature: `[S | 1, B]`.
    ///
    /// With `w = exp(b - a)` it is `Σ(a - b) - K ψ(K) + K E ln Σ_k w_k E_k` for exponential `E_k`, and
    /// `E ln S = ∫₀^∞ (e^{-t} - Π_k (1 + w_k t)^{-1}) dt/t`: one smooth integral per variable, independent
    /// of the temperature, never below the divergence of the categorical variables. Differentiable in both
    /// logits.
    ///
    /// # Errors
    /// If the temperatures differ or are tensors.
    pub fn kl(&self, prior: &Self) -> Result<Tensor> {
        let (a, b) = (
            self.temperature.fixed("this divergence")?,
            prior.temperature.fixed("this divergence")?,
        );
        if a != b {
            candle_core::bail!(
                "the closed form is for equal temperatures, got {a} and {b}; use the sampled divergence"
            )
        }
        let shape = self.logits.shape().broadcast_shape_binary_op(prior.logits.shape(), "kl")?;
        let rows = [self.logits.broadcast_as(&shape)?, prior.logits.broadcast_as(&shape)?];
        closed_form::map_rows(&Tensor::cat(&rows, D::Minus1)?, equal_temperature_kl)?.sum(2)
    }

    /// The categorical distribution of the largest coordinate, at every temperature: its logits.
    ///
    /// Source: Maddison et al. (2017), proposition 1(b).
    #[must_use]
    pub fn logits(&self) -> &Tensor {
        &self.logits
    }

    /// `ln Σ_k exp y_k` of `y: [S, B, N, K]`: 0 for a point of the support. `[S, B, N]`.
    pub fn normaliser(y: &Tensor) -> Result<Tensor> {
        log_sum_exp(y, D::Minus1)
    }
}

/// KL and its gradient for a row `(a, b)`.
fn equal_temperature_kl(row: &[f64]) -> (f64, Vec<f64>) {
    let k = row.len() / 2;
    let (a, b) = row.split_at(k);
    let log_w: Vec<f64> = a.iter().zip(b).map(|(a, b)| b - a).collect();
    let top = log_w.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // In s = ln t both terms are 1 far to the left and 0 far to the right.
    let (from, to) = (-40. - top.max(0.) - (k as f64).ln(), 45f64.max(45. - top));
    let survival = |s: f64| log_w.iter().map(|w| -softplus(w + s)).sum::<f64>().exp();
    let [mean_log] = integrate(from, to, 0.2, |s| [(-s.exp()).exp() - survival(s)]);
    let kf = k as f64;
    let value = -log_w.iter().sum::<f64>() - kf * digamma(k) + kf * mean_log;
    // ∂ E ln S / ∂ ln w_k = ∫ σ(ln w_k + s) Π_j (1 + w_j e^s)^{-1} ds
    let slopes: Vec<f64> = log_w
        .iter()
        .map(|w| {
            let [slope] = integrate(from, to, 0.2, |s| [survival(s) / (1. + (-(w + s)).exp())]);
            1. - kf * slope
        })
        .collect();
    (value, slopes.iter().copied().chain(slopes.iter().map(|d| -d)).collect())
}

fn softplus(x: f64) -> f64 {
    x.max(0.) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    fn logits(seed: u64) -> Result<Tensor> {
        Key::from_seed(seed).normal((1, 2, 3, 4), DType::F64, &Device::Cpu)
    }

    #[test]
    fn a_sample_lies_on_the_simplex_and_its_two_densities_agree() -> Result<()> {
        for temperature in [0.05, 0.5, 3.] {
            let q = ExpConcrete::new(&(logits(1)? * 4.)?, temperature)?;
            let (y, density) = q.rsample_with_log_density(5, Key::from_seed(2))?;
            let off = ExpConcrete::normaliser(&y)?.abs()?.max_all()?.to_scalar::<f64>()?;
            assert!(off < 1e-12);
            let gap = ((q.log_density(&y)? - density)?).abs()?.max_all()?.to_scalar::<f64>()?;
            assert!(gap < 1e-9, "{gap}");
        }
        Ok(())
    }

    #[test]
    fn the_divergence_has_the_gradient_of_finite_differences() -> Result<()> {
        let (a, b) = (Var::from_tensor(&logits(3)?)?, Var::from_tensor(&logits(4)?)?);
        let kl = |a: &Tensor, b: &Tensor| {
            ExpConcrete::new(a, 0.5)?.kl(&ExpConcrete::new(b, 0.5)?)?.sum_all()?.to_scalar::<f64>()
        };
        let grads =
            ExpConcrete::new(&a, 0.5)?.kl(&ExpConcrete::new(&b, 0.5)?)?.sum_all()?.backward()?;
        let bump = |i: usize, h: f64| {
            let mut e = vec![0.; 24];
            e[i] = h;
            Tensor::from_vec(e, (1, 2, 3, 4), &Device::Cpu)
        };
        for i in [0, 7, 23] {
            let numeric = (kl(&(a.as_tensor() + bump(i, 1e-5)?)?, &b)?
                - kl(&(a.as_tensor() + bump(i, -1e-5)?)?, &b)?)
                / 2e-5;
            let exact = grads.get(a.as_tensor()).unwrap().flatten_all()?.to_vec1::<f64>()?[i];
            let other = grads.get(b.as_tensor()).unwrap().flatten_all()?.to_vec1::<f64>()?[i];
            assert!((numeric - exact).abs() < 1e-7 && exact == -other, "{numeric} {exact} {other}");
        }
        let error = ExpConcrete::new(&a, 0.5)?.kl(&ExpConcrete::new(&b, 0.6)?).unwrap_err();
        assert!(error.to_string().contains("0.6"), "{error}");
        Ok(())
    }

    #[test]
    fn a_masked_category_can_be_sampled_but_has_no_density() -> Result<()> {
        let masked = Tensor::new(&[[[[0., f64::NEG_INFINITY, 1.]]]], &Device::Cpu)?;
        let q = ExpConcrete::new(&masked, 0.5)?;
        let y = q.rsample(1, Key::from_seed(1))?;
        assert_eq!(y.flatten_all()?.get(1)?.to_scalar::<f64>()?, f64::NEG_INFINITY);
        assert!(q.log_density(&y).unwrap_err().to_string().contains("masked"));
        assert!(q.rsample_with_log_density(1, Key::from_seed(1)).is_err());
        Ok(())
    }

    #[test]
    fn divergence_from_itself_is_zero_even_at_wild_logits() -> Result<()> {
        let wild = Tensor::new(&[[[[800., -800., 3.]]]], &Device::Cpu)?;
        let q = ExpConcrete::new(&wild, 0.1)?;
        assert!(q.kl(&q)?.to_vec2::<f64>()?[0][0].abs() < 1e-12);
        Ok(())
    }
}
