//! The binary Concrete distribution, in logit coordinates.
use candle_core::{D, DType, Result, Tensor};
use gumbel_kernels::{
    Key, bin_concrete, bin_concrete_log_density, bin_concrete_with_log_density, compute_dtype,
    sigmoid, softplus,
};

use super::special::integrate;
use super::{Temperature, closed_form};

/// `BinConcrete(α, τ)` in logit coordinates: a relaxed bit `x`, by its logit `v`.
///
/// With logistic noise `L`, and `d = logits - τ v`, the variable and its log-density are:
///
/// ```math
/// \begin{aligned}
/// v &= \frac{\mathrm{logits} + L}{\tau}, \qquad x = \sigma(v) \\
/// \log f(v) &= \ln \tau + d - 2 \ln(1 + e^d)
/// \end{aligned}
/// ```
///
/// In these coordinates no sample saturates.
///
/// `logits: [S | 1, B, N]` (log-odds `log α`), temperature a number or a tensor that broadcasts to them.
/// Samples come in the dtype of the logits; half precision is computed in `f32`, and everything else returned
/// in it. Source: Maddison, Mnih, Teh (2017), appendix B and eq. 26.
#[derive(Clone, Debug)]
pub struct BinConcrete {
    logits: Tensor,
    temperature: Temperature,
    dtype: DType,
}

impl BinConcrete {
    /// From log-odds `logits: [S | 1, B, N]` and a positive temperature.
    ///
    /// # Errors
    /// If the temperature is not positive and finite, or does not broadcast to the logits, or these do not have
    /// three axes.
    pub fn new(logits: &Tensor, temperature: impl Into<Temperature>) -> Result<Self> {
        logits.dims3()?;
        let dtype = logits.dtype();
        let logits = logits.to_dtype(compute_dtype(dtype))?;
        let temperature = temperature.into().against(&logits, false)?;
        Ok(Self { logits, temperature, dtype })
    }

    /// The same law, with samples in another dtype.
    pub(crate) fn with_samples_in(self, dtype: DType) -> Self {
        Self { dtype, ..self }
    }

    /// The log-odds of the discrete variable, `[S | 1, B, N]`.
    #[must_use]
    pub fn logits(&self) -> &Tensor {
        &self.logits
    }

    fn noise(&self, samples: usize, key: Key) -> Result<Tensor> {
        let (s, b, n) = self.logits.dims3()?;
        if samples == 0 || (s != 1 && s != samples) || !self.temperature.allows(samples, 3) {
            candle_core::bail!(
                "expected logits [1 | {samples}, B, N] and a temperature of as many samples, got {:?} and {:?}",
                self.logits.shape(),
                self.temperature
            )
        }
        key.logistic((samples, b, n), self.logits.dtype(), self.logits.device())
    }

    /// Reparameterised samples `v: [S, B, N]`, differentiable in logits and temperature. The relaxed bit is
    /// [`sigmoid`] of it.
    pub fn rsample(&self, samples: usize, key: Key) -> Result<Tensor> {
        let v = match self.temperature {
            Temperature::Fixed(temperature) => {
                bin_concrete(&self.logits, samples, temperature, key)?
            }
            Temperature::Tensor(_) => self.transport(&self.noise(samples, key)?)?,
        };
        v.to_dtype(self.dtype)
    }

    /// The sample that logistic noise `[S, B, N]` is carried to: `(logits + L) / τ`.
    pub fn transport(&self, logistic: &Tensor) -> Result<Tensor> {
        let noise = logistic.to_dtype(self.logits.dtype())?;
        self.temperature.divide(&noise.broadcast_add(&self.logits)?)
    }

    /// A sample `v: [S, B, N]` and its log-density `[S, B]`, the latter from the noise alone.
    ///
    /// Summed over the variables, it is:
    ///
    /// ```math
    /// \log f(v) = \sum_n \bigl[ \ln \tau - L_n - 2 \ln(1 + e^{-L_n}) \bigr]
    /// ```
    ///
    /// Both are in the dtype that is computed in: a sample rounded to half precision would have another density.
    pub fn rsample_with_log_density(&self, samples: usize, key: Key) -> Result<(Tensor, Tensor)> {
        if let Temperature::Fixed(temperature) = self.temperature {
            return bin_concrete_with_log_density(&self.logits, samples, temperature, key);
        }
        let noise = self.noise(samples, key)?;
        let density = self.finish(&noise.neg()?)?;
        Ok((self.transport(&noise)?, density))
    }

    /// `Σ_n ln τ + d - 2 ln(1 + e^d)`: `[S, B]`.
    fn finish(&self, d: &Tensor) -> Result<Tensor> {
        let density = (d - (softplus(d)? * 2.)?)?;
        density.broadcast_add(&self.temperature.log(d)?)?.sum(2)
    }

    /// `log f(v)` in nats, summed over the variables, of `v: [S, B, N]`: `[S, B]`.
    pub fn log_density(&self, v: &Tensor) -> Result<Tensor> {
        let v = &v.to_dtype(self.logits.dtype())?;
        if let Temperature::Fixed(temperature) = self.temperature {
            return bin_concrete_log_density(&self.logits, v, temperature);
        }
        self.finish(&self.logits.broadcast_sub(&self.temperature.times(v)?)?)
    }

    /// Log-density on the unit interval `[S, B]` of `x = σ(v)` given as `v: [S, B, N]`.
    pub fn log_density_unit_from_logit(&self, v: &Tensor) -> Result<Tensor> {
        let v = &v.to_dtype(self.logits.dtype())?;
        let jacobian = (softplus(v)? + softplus(&v.neg()?)?)?;
        self.log_density(v)? + jacobian.sum(2)?
    }

    /// Log-density on the unit interval `[S, B]` of `x: [S, B, N]` in `(0, 1)`.
    pub fn log_density_unit(&self, x: &Tensor) -> Result<Tensor> {
        self.log_density_unit_from_logit(&self.logit(x)?)
    }

    /// Distribution function of the relaxed bit at `x: [S, B, N]` in `(0, 1)`, per variable.
    ///
    /// It is a logistic function of the logit of `x`:
    ///
    /// ```math
    /// P(X \le x) = \sigma\Bigl(\tau \ln \frac{x}{1 - x} - \mathrm{logits}\Bigr)
    /// ```
    pub fn cdf(&self, x: &Tensor) -> Result<Tensor> {
        sigmoid(&self.temperature.times(&self.logit(x)?)?.broadcast_sub(&self.logits)?)
    }

    fn logit(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.to_dtype(self.logits.dtype())?;
        x.log()? - (1. - x)?.log()?
    }

    /// `P(X > ½) = σ(logits)`, at every temperature: `[S | 1, B, N]`.
    ///
    /// Source: Maddison et al. (2017), proposition 2(b).
    pub fn probability_above_half(&self) -> Result<Tensor> {
        sigmoid(&self.logits)
    }

    /// The value `v: [S | 1, B, N]` of the greatest density in logit coordinates: `logits / τ`, which is also the
    /// mean and the median of `v`, and the sample without noise.
    ///
    /// The density of the relaxed bit `σ(v)` on the unit interval has its modes elsewhere, and at low
    /// temperature at both ends. Differentiable in logits and temperature.
    pub fn mode(&self) -> Result<Tensor> {
        self.temperature.divide(&self.logits)?.to_dtype(self.dtype)
    }

    /// Differential entropy of `v` in nats, summed over the variables: `[S | 1, B]`.
    ///
    /// `2 - ln τ` per variable: independent of the logits. Differentiable in the temperature.
    pub fn entropy(&self) -> Result<Tensor> {
        let constant = (self.logits.detach().zeros_like()? + 2.)?;
        constant.broadcast_sub(&self.temperature.log(&constant)?)?.sum(2)
    }

    /// `E[X]` of the relaxed bit, by quadrature: `[S | 1, B, N]`. Differentiable in the logits.
    ///
    /// # Errors
    /// If the temperature is a tensor.
    pub fn mean(&self) -> Result<Tensor> {
        let tau = self.temperature.fixed("this moment")?;
        closed_form::map_rows(&self.logits.unsqueeze(3)?, move |row| {
            // The slope is even in the logit, and keeps its digits on the side where x is small.
            let [first, _, slope, _] = moments(-row[0].abs(), tau);
            (if row[0] > 0. { 1. - first } else { first }, vec![slope / tau])
        })
    }

    /// `Var[X]` of the relaxed bit, by quadrature: `[S | 1, B, N]`. Differentiable in the logits.
    ///
    /// # Errors
    /// If the temperature is a tensor.
    pub fn variance(&self) -> Result<Tensor> {
        let tau = self.temperature.fixed("this moment")?;
        closed_form::map_rows(&self.logits.unsqueeze(3)?, move |row| {
            // Even in the logit; on the side where x is small, E x² - (E x)² does not cancel.
            let [first, square, slope, second] = moments(-row[0].abs(), tau);
            let derivative = 2. * (second - first * slope) / tau;
            (square - first * first, vec![-row[0].signum() * derivative])
        })
    }

    /// `KL(self ‖ prior)` in nats, by quadrature, summed over the variables: `[S | 1, B]`.
    ///
    /// The entropy of the logistic noise `L` is 2, so that for logits `a` of this law and `b` of the prior it is, per
    /// variable:
    ///
    /// ```math
    /// \mathrm{KL} = \ln \frac{\tau_q}{\tau_p} - 2 - \mathbb{E}[s] + 2\, \mathbb{E}\bigl[\ln(1 + e^s)\bigr],
    /// \qquad s = b - \frac{\tau_p}{\tau_q} (a + L)
    /// ```
    ///
    /// Temperatures may differ. Differentiable in both logits.
    ///
    /// # Errors
    /// If a temperature is a tensor.
    pub fn kl(&self, prior: &Self) -> Result<Tensor> {
        let (tau_q, tau_p) = (
            self.temperature.fixed("this divergence")?,
            prior.temperature.fixed("this divergence")?,
        );
        let shape = self.logits.shape().broadcast_shape_binary_op(prior.logits.shape(), "kl")?;
        let pair = [self.logits.broadcast_as(&shape)?, prior.logits.broadcast_as(&shape)?];
        let ratio = tau_p / tau_q;
        let row = move |row: &[f64]| {
            let (a, b) = (row[0], row[1]);
            let [plus, sigma] = over_logistic(ratio, 0., |noise| {
                let s = b - ratio * (a + noise);
                [s.max(0.) + (-s.abs()).exp().ln_1p(), sigma(s)]
            });
            let value = -ratio.ln() - 2. - (b - ratio * a) + 2. * plus;
            let slope = 2. * sigma - 1.;
            (value, vec![-ratio * slope, slope])
        };
        closed_form::map_rows(&Tensor::stack(&pair, D::Minus1)?, row)?.sum(2)
    }
}

fn sigma(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    if x >= 0. { 1. / (1. + e) } else { e / (1. + e) }
}

/// `E x`, `E x²`, `E x(1-x)`, `E x²(1-x)` for `x = σ((a + L) / τ)`.
fn moments(a: f64, tau: f64) -> [f64; 4] {
    // Of a small x the moments lie where the noise makes up for the logit, however improbable that is.
    over_logistic(1. / tau, (-a).max(0.), |noise| {
        let x = sigma((a + noise) / tau);
        let spread = x * sigma(-(a + noise) / tau);
        [x, x * x, spread, x * spread]
    })
}

/// `E f(L)` over logistic noise, for an `f` that varies on the scale `1 / steepness`, and is so much larger
/// on the right that noise up to `reach` counts.
fn over_logistic<const N: usize>(
    steepness: f64,
    reach: f64,
    f: impl Fn(f64) -> [f64; N],
) -> [f64; N] {
    // Beyond ±50 the density is below 1e-21; poles lie π or π / steepness from the real line.
    let step = 0.4 / steepness.max(1.);
    integrate(-50., 50. + reach, step, |x| f(x).map(|y| y * sigma(x) * sigma(-x)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Var};

    fn logits(seed: u64) -> Result<Tensor> {
        Key::from_seed(seed).normal((1, 2, 3), DType::F64, &Device::Cpu)
    }

    #[test]
    fn the_two_densities_of_a_sample_agree() -> Result<()> {
        for temperature in [0.05, 0.5, 3.] {
            let q = BinConcrete::new(&(logits(1)? * 9.)?, temperature)?;
            let (v, density) = q.rsample_with_log_density(5, Key::from_seed(2))?;
            let gap = ((q.log_density(&v)? - density)?).abs()?.max_all()?.to_scalar::<f64>()?;
            assert!(gap < 1e-10, "{gap}");
        }
        Ok(())
    }

    #[test]
    fn the_entropy_is_the_mean_of_the_log_density_and_the_mode_its_top() -> Result<()> {
        for temperature in [0.05, 0.5, 3.] {
            let q = BinConcrete::new(&(logits(1)? * 9.)?, temperature)?;
            let (_, density) = q.rsample_with_log_density(20_000, Key::from_seed(2))?;
            let gap = (density.mean(0)? + q.entropy()?.squeeze(0)?)?.to_vec1::<f64>()?;
            // Of one variable the log-density has the variance 4 - π²/3; three are summed.
            assert!(gap.iter().all(|gap| gap.abs() < 4.5 * (3. * 0.71f64 / 2e4).sqrt()), "{gap:?}");
            let mode = Var::from_tensor(&q.mode()?)?;
            let grads = q.log_density(mode.as_tensor())?.sum_all()?.backward()?;
            let slope =
                grads.get(mode.as_tensor()).unwrap().abs()?.max_all()?.to_scalar::<f64>()?;
            assert!(slope < 1e-12, "{slope}");
        }
        Ok(())
    }

    #[test]
    fn closed_forms_have_the_gradient_of_finite_differences() -> Result<()> {
        type Quantity = fn(&Tensor) -> Result<Tensor>;
        let quantities: [Quantity; 4] = [
            |a| BinConcrete::new(a, 0.5)?.mean(),
            |a| BinConcrete::new(a, 0.5)?.variance(),
            |a| BinConcrete::new(a, 0.5)?.kl(&BinConcrete::new(&logits(4)?, 0.8)?),
            |b| BinConcrete::new(&logits(4)?, 0.5)?.kl(&BinConcrete::new(b, 0.8)?),
        ];
        for quantity in quantities {
            let a = Var::from_tensor(&logits(3)?)?;
            let grads = quantity(&a)?.sum_all()?.backward()?;
            let exact = grads.get(a.as_tensor()).unwrap().flatten_all()?.to_vec1::<f64>()?;
            for (i, exact) in exact.iter().enumerate() {
                let at = |h: f64| {
                    let mut e = vec![0.; 6];
                    e[i] = h;
                    let moved = (a.as_tensor() + Tensor::from_vec(e, (1, 2, 3), &Device::Cpu)?)?;
                    quantity(&moved)?.sum_all()?.to_scalar::<f64>()
                };
                let numeric = (at(1e-5)? - at(-1e-5)?) / 2e-5;
                assert!((numeric - exact).abs() < 1e-8, "{numeric} {exact}");
            }
        }
        Ok(())
    }

    /// Quadrature with 50 digits says 3.336649629567748e-18 at `(±40, ½)` and 1.9287498479639178e-22 at
    /// `(±50, 1)`, where `E x (1 - E x) - E x(1-x)` has no digit left.
    #[test]
    fn moments_keep_their_digits_near_a_vertex() -> Result<()> {
        for (a, temperature, exact) in
            [(40., 0.5, 3.336_649_629_567_748e-18), (50., 1., 1.928_749_847_963_917_8e-22)]
        {
            for a in [a, -a] {
                let d = BinConcrete::new(&Tensor::new(&[[[a]]], &Device::Cpu)?, temperature)?;
                let variance = d.variance()?.flatten_all()?.to_vec1::<f64>()?[0];
                assert!((variance / exact - 1.).abs() < 1e-11, "{variance:e} at {a}");
            }
        }
        Ok(())
    }
}
