//! The Concrete distribution, in log-coordinates.
use candle_core::{D, DType, Result, Tensor};
use gumbel_kernels::{
    Key, compute_dtype, exp_concrete, exp_concrete_log_density, exp_concrete_with_log_density,
    log_softmax, log_sum_exp,
};

use super::concrete_kl::equal_temperature_kl;
use super::mask::{Support, has_minus_infinity, zero_masked};
use super::special::{EULER, digamma, ln_gamma};
use super::{Temperature, closed_form, mask_logits};

/// `ExpConcrete(α, τ)`: the logarithm `y = log x` of a Concrete variable `x` on the simplex.
///
/// With `α = exp(logits)` and Gumbel noise `G`:
///
/// ```math
/// y = \log \operatorname{softmax}\Bigl(\frac{\mathrm{logits} + G}{\tau}\Bigr)
/// ```
///
/// Its log-density with respect to Lebesgue measure in the coordinates `y_k - y_K` is, with `t = logits - τ y`:
///
/// ```math
/// \log \kappa(y) = \ln \Gamma(K) + (K - 1) \ln \tau + \sum_k t_k - K \ln \sum_k e^{t_k}
/// ```
///
/// In log-coordinates the density is finite wherever the sample is, at any temperature and any logits; on
/// the simplex itself a coordinate underflows and the density with it.
///
/// A masked category (logit `-∞`) has the coordinate `-∞`: the law lives on a face of the simplex, and its density
/// is taken there, with `K` the number of categories that are left.
///
/// `logits: [S | 1, B, N, K]`, temperature a number or a tensor that broadcasts to `[S | 1, B, N]`. Samples come
/// in the dtype of the logits; half precision is computed in `f32`, and everything else returned in it.
///
/// The mean of `x` has no closed form for more than two categories; that of `y_k - y_j` is `(a_k - a_j) / τ`.
/// Source: Maddison, Mnih, Teh (2017), definition 1 and appendix C.3.
#[derive(Clone, Debug)]
pub struct ExpConcrete {
    logits: Tensor,
    temperature: Temperature,
    dtype: DType,
}

impl ExpConcrete {
    /// From unnormalised `logits: [S | 1, B, N, K]` and a positive temperature.
    ///
    /// # Errors
    /// If the temperature is not positive and finite, or does not broadcast to the logits, or these do not have
    /// four axes.
    pub fn new(logits: &Tensor, temperature: impl Into<Temperature>) -> Result<Self> {
        logits.dims4()?;
        let dtype = logits.dtype();
        let logits = logits.to_dtype(compute_dtype(dtype))?;
        let temperature = temperature.into().against(&logits, true)?;
        Ok(Self { logits, temperature, dtype })
    }

    /// The same law, with samples in another dtype.
    pub(crate) fn with_samples_in(self, dtype: DType) -> Self {
        Self { dtype, ..self }
    }

    /// Reparameterised samples `y = log x: [S, B, N, K]`, differentiable in logits and temperature.
    pub fn rsample(&self, samples: usize, key: Key) -> Result<Tensor> {
        let y = match self.temperature {
            Temperature::Fixed(temperature) => {
                exp_concrete(&self.logits, samples, temperature, key)?
            }
            Temperature::Tensor(_) => self.transport(&self.noise(samples, key)?)?,
        };
        y.to_dtype(self.dtype)
    }

    /// Standard Gumbel noise for `samples` samples: `[S, B, N, K]`.
    fn noise(&self, samples: usize, key: Key) -> Result<Tensor> {
        let (s, b, n, k) = self.logits.dims4()?;
        if samples == 0 || (s != 1 && s != samples) || !self.temperature.allows(samples, 4) {
            candle_core::bail!(
                "expected logits [1 | {samples}, B, N, K] and a temperature of as many samples, got {:?} and \
                 {:?}",
                self.logits.shape(),
                self.temperature
            )
        }
        key.gumbel((samples, b, n, k), self.logits.dtype(), self.logits.device())
    }

    /// The sample that Gumbel noise `gumbel: [S, B, N, K]` is carried to: `log_softmax((logits + G) / τ)`.
    pub fn transport(&self, gumbel: &Tensor) -> Result<Tensor> {
        let gumbel = gumbel.to_dtype(self.logits.dtype())?;
        let scores = |logits: &Tensor| self.temperature.divide(&gumbel.broadcast_add(logits)?);
        // The derivative in τ of -∞ / τ is no number.
        if let Temperature::Tensor(_) = self.temperature
            && let Some(Support { mask, .. }) = Support::of(&self.logits)?
        {
            let scores = scores(&zero_masked(&self.logits, &mask)?)?;
            return log_softmax(&mask_logits(&scores, &mask)?);
        }
        log_softmax(&scores(&self.logits)?)
    }

    /// A sample `[S, B, N, K]` and its log-density `[S, B]`, the latter from the noise alone. Both in the dtype
    /// that is computed in: a sample rounded to half precision would have another density.
    ///
    /// For each variable it is:
    ///
    /// ```math
    /// \log \kappa(y) = \ln \Gamma(K) + (K - 1) \ln \tau - \sum_k G_k - K \ln \sum_k e^{-G_k}
    /// ```
    ///
    /// It is finite for every draw, and independent of the logits, as the density along a reparameterised path is.
    pub fn rsample_with_log_density(&self, samples: usize, key: Key) -> Result<(Tensor, Tensor)> {
        if let Temperature::Fixed(temperature) = self.temperature
            && Support::of(&self.logits)?.is_none()
        {
            return exp_concrete_with_log_density(&self.logits, samples, temperature, key);
        }
        let noise = self.noise(samples, key)?;
        Ok((self.transport(&noise)?, self.log_density_of_noise(&noise)?))
    }

    /// Log-density `[S, B]`, in nats, of the sample that noise `gumbel: [S, B, N, K]` is carried to.
    pub fn log_density_of_noise(&self, gumbel: &Tensor) -> Result<Tensor> {
        let t = gumbel.to_dtype(self.logits.dtype())?.neg()?;
        self.finish(&t, Support::of(&self.logits)?.as_ref())
    }

    /// `log κ(y)` in nats, summed over the variables, of `y: [S, B, N, K]`: `[S, B]`.
    ///
    /// Adding a constant to all coordinates of `y` or all logits changes nothing. Coordinates of masked
    /// categories do not count.
    ///
    /// # Errors
    /// If a coordinate of `y` is infinite where the category is not masked: `y` belongs to a law with another
    /// mask, which lives on a face of the simplex where this one has no density.
    pub fn log_density(&self, y: &Tensor) -> Result<Tensor> {
        let y = y.to_dtype(self.logits.dtype())?;
        let support = Support::of(&self.logits)?;
        let (y, logits) = match &support {
            None => (y, self.logits.clone()),
            Some(Support { mask, .. }) => {
                (zero_masked(&y, mask)?, zero_masked(&self.logits, mask)?)
            }
        };
        if has_minus_infinity(&y)? {
            candle_core::bail!(
                "a coordinate is infinite where no category is masked: there is no density there; mask the \
                 same categories in every law that the value is held against"
            )
        }
        match (&self.temperature, &support) {
            (Temperature::Fixed(temperature), None) => {
                exp_concrete_log_density(&logits, &y, *temperature)
            }
            (temperature, support) => {
                let t = logits.broadcast_sub(&temperature.times(&y)?)?;
                self.finish(&t, support.as_ref())
            }
        }
    }

    /// `Σ_n ln Γ(K) + (K-1) ln τ + Σ_k log_softmax(t)_k` of `t: [S, B, N, K]`, over the categories that are possible.
    fn finish(&self, t: &Tensor, support: Option<&Support>) -> Result<Tensor> {
        let sums = match support {
            None => log_softmax(t)?,
            Some(Support { mask, .. }) => zero_masked(&log_softmax(&mask_logits(t, mask)?)?, mask)?,
        }
        .sum_keepdim(D::Minus1)?;
        let constants = self.constants(support, ln_gamma, 1.)?;
        sums.broadcast_add(&constants)?.sum((2, 3))
    }

    /// `f(K) + c (K-1) ln τ` for each row, `K` the number of its categories: broadcasts to `[S | 1, B, N, 1]`.
    fn constants(&self, support: Option<&Support>, f: fn(usize) -> f64, c: f64) -> Result<Tensor> {
        let log = self.temperature.log(&self.logits)?;
        match support {
            None => {
                let k = self.logits.dim(D::Minus1)?;
                (log * (c * (k - 1) as f64))? + f(k)
            }
            Some(support) => {
                let weights = support.of_counts(&self.logits, |k| c * (k - 1) as f64)?;
                log.broadcast_mul(&weights)?.broadcast_add(&support.of_counts(&self.logits, f)?)
            }
        }
    }

    /// Log-density on the simplex `[S, B]` of `x: [S, B, N, K]` given as `log x`.
    ///
    /// For each variable, with the density `κ` in log-coordinates:
    ///
    /// ```math
    /// \log f(x) = \log \kappa(\log x) - \sum_k \log x_k
    /// ```
    ///
    /// The density of the Concrete distribution (Maddison et al. 2017, definition 1), finite where `exp(log x)`
    /// underflows.
    pub fn log_density_simplex_from_log(&self, log_x: &Tensor) -> Result<Tensor> {
        let open = match Support::of(&self.logits)? {
            None => log_x.clone(),
            Some(Support { mask, .. }) => zero_masked(log_x, &mask)?,
        };
        self.log_density(log_x)? - open.to_dtype(self.logits.dtype())?.sum((2, 3))?
    }

    /// Log-density on the simplex `[S, B]` of `x: [S, B, N, K]` (not renormalised).
    pub fn log_density_simplex(&self, x: &Tensor) -> Result<Tensor> {
        self.log_density_simplex_from_log(&x.to_dtype(self.logits.dtype())?.log()?)
    }

    /// The point `y: [S | 1, B, N, K]` of the greatest density in the coordinates `y_k - y_K`:
    /// `log_softmax(logits / τ)`, the sample without noise.
    ///
    /// It rounds to the most probable category. The density on the simplex itself has its mode elsewhere, and for
    /// `τ ≤ 1 / (K-1)` at the corners. Differentiable in logits and temperature.
    pub fn mode(&self) -> Result<Tensor> {
        self.transport(&Tensor::zeros(1, self.logits.dtype(), self.logits.device())?)?
            .to_dtype(self.dtype)
    }

    /// Differential entropy in nats, summed over the variables: `[S | 1, B]`.
    ///
    /// For each variable, with Euler's constant `γ` and the digamma function `ψ`:
    ///
    /// ```math
    /// H = K \gamma + K \psi(K) - \ln \Gamma(K) - (K - 1) \ln \tau
    /// ```
    ///
    /// Independent of the logits. Differentiable in the temperature.
    pub fn entropy(&self) -> Result<Tensor> {
        let of_row = |k: usize| k as f64 * (EULER + digamma(k)) - ln_gamma(k);
        let constants = self.constants(Support::of(&self.logits)?.as_ref(), of_row, -1.)?;
        let zeros = self.logits.narrow(D::Minus1, 0, 1)?.detach().zeros_like()?;
        zeros.broadcast_add(&constants)?.sum((2, 3))
    }

    /// `KL(self ‖ prior)` in nats between two Concrete variables of the same temperature: `[S | 1, B]`.
    ///
    /// For logits `a` of this law and `b` of the prior, `w = exp(b - a)`, and independent exponential `E_k`, it is, per
    /// variable:
    ///
    /// ```math
    /// \begin{aligned}
    /// \mathrm{KL} &= \sum_k (a_k - b_k) - K \psi(K) + K\, \mathbb{E} \ln \sum_k w_k E_k \\
    /// \mathbb{E} \ln \sum_k w_k E_k &= \int_0^\infty \Bigl( e^{-t} - \prod_k \frac{1}{1 + w_k t} \Bigr) \frac{dt}{t}
    /// \end{aligned}
    /// ```
    ///
    /// That is one smooth integral, independent of the temperature. The divergence is never below that of the
    /// categorical variables. Differentiable in both logits.
    ///
    /// # Errors
    /// If the temperatures differ or are tensors, or the two do not mask the same categories.
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
        let supports = (Support::of(&self.logits)?, Support::of(&prior.logits)?);
        if !Support::same(supports.0.as_ref(), supports.1.as_ref())? {
            candle_core::bail!(
                "posterior and prior mask different categories: one has no density where the other lives"
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
    fn a_law_with_another_mask_has_no_density_at_a_sample() -> Result<()> {
        let masked = Tensor::new(&[[[[0., f64::NEG_INFINITY, 1.]]]], &Device::Cpu)?;
        let (q, open) =
            (ExpConcrete::new(&masked, 0.5)?, ExpConcrete::new(&masked.zeros_like()?, 0.5)?);
        let (y, density) = q.rsample_with_log_density(1, Key::from_seed(1))?;
        assert_eq!(y.flatten_all()?.get(1)?.to_scalar::<f64>()?, f64::NEG_INFINITY);
        let gap = (q.log_density(&y)? - density)?.to_vec2::<f64>()?[0][0];
        assert!(gap.abs() < 1e-14, "{gap}");
        assert!(open.log_density(&y).unwrap_err().to_string().contains("infinite"));
        assert!(q.kl(&open).unwrap_err().to_string().contains("mask different"));
        Ok(())
    }

    /// No point near it has a greater density, and the gradient in the coordinates is 0 there.
    #[test]
    fn the_mode_has_the_greatest_density() -> Result<()> {
        for temperature in [0.1, 0.7, 2.] {
            let q = ExpConcrete::new(&logits(5)?, temperature)?;
            let mode = Var::from_tensor(&q.mode()?)?;
            let density = q.log_density(mode.as_tensor())?;
            let grads = density.sum_all()?.backward()?;
            let slope =
                grads.get(mode.as_tensor()).unwrap().abs()?.max_all()?.to_scalar::<f64>()?;
            assert!(slope < 1e-12, "{slope}");
            let step = Key::from_seed(6).normal((50, 2, 3, 4), DType::F64, &Device::Cpu)?;
            let near = q.log_density(&mode.broadcast_add(&step)?)?.broadcast_sub(&density)?;
            assert!(near.max_all()?.to_scalar::<f64>()? < 0.);
        }
        Ok(())
    }
}
