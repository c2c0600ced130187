//! Invertible Gaussian reparameterisation: relaxed one-hot vectors from Gaussian noise.
use candle_core::{D, DType, Result, Tensor};
use gumbel_kernels::{Key, compute_dtype, log_softmax, one_hot_argmax};

/// `½ ln 2π`.
pub(crate) const HALF_LN_TAU: f64 = 0.918_938_533_204_672_7;

/// `N` relaxed variables of `K` categories, made of Gaussian `y` with `K - 1` coordinates.
///
/// Each is a softmax, whose last entry is a constant:
///
/// ```math
/// x = \operatorname{softmax}\Bigl(\frac{y_1}{\tau}, \dots, \frac{y_{K-1}}{\tau}, \ln \delta\Bigr),
/// \qquad y_k \sim \mathcal{N}(\mathrm{mean}_k, \mathrm{std}_k^2)
/// ```
///
/// The map (softmax++) is invertible, so that densities are known, and the divergence of two such laws with one
/// temperature is that of the Gaussians, in closed form: what the Concrete distribution lacks. The last
/// category stands for the constant `δ`. Values are log-coordinates, as those of
/// [`ExpConcrete`](super::ExpConcrete).
///
/// Source: Potapczynski, Loaiza-Ganem, Cunningham (2020), "Invertible Gaussian reparameterization", sections 3
/// and 4.
#[derive(Clone, Debug)]
pub struct InvertibleGaussian {
    mean: Tensor,
    log_std: Tensor,
    temperature: f64,
    log_delta: f64,
    dtype: DType,
}

impl InvertibleGaussian {
    /// From `mean` and `log_std`: `[S | 1, B, N, K - 1]`, a temperature and `δ`.
    ///
    /// # Errors
    /// If the shapes differ or have not four axes, or `temperature` or `delta` is not positive and finite.
    pub fn new(mean: &Tensor, log_std: &Tensor, temperature: f64, delta: f64) -> Result<Self> {
        if mean.rank() != 4 || mean.dims() != log_std.dims() {
            candle_core::bail!(
                "expected mean and log_std [S | 1, B, N, K - 1], got {:?} and {:?}",
                mean.shape(),
                log_std.shape()
            )
        }
        for (name, value) in [("temperature", temperature), ("delta", delta)] {
            if !(value > 0. && value.is_finite()) {
                candle_core::bail!("{name} must be positive and finite, got {value}")
            }
        }
        let dtype = mean.dtype();
        let mean = mean.to_dtype(compute_dtype(dtype))?;
        let log_std = log_std.to_dtype(mean.dtype())?;
        Ok(Self { mean, log_std, temperature, log_delta: delta.ln(), dtype })
    }

    /// Samples in log-coordinates, `[S, B, N, K]`, in the dtype of the mean, differentiable.
    pub fn rsample(&self, samples: usize, key: Key) -> Result<Tensor> {
        let (s, b, n, k) = self.mean.dims4()?;
        if samples == 0 || (s != 1 && s != samples) {
            candle_core::bail!(
                "expected a mean [1 | {samples}, B, N, K - 1], got {:?}",
                self.mean.shape()
            )
        }
        let noise = key.normal((samples, b, n, k), self.mean.dtype(), self.mean.device())?;
        self.transport(&noise)?.to_dtype(self.dtype)
    }

    /// The value that standard normal `noise: [S, B, N, K - 1]` leads to.
    pub fn transport(&self, noise: &Tensor) -> Result<Tensor> {
        let noise = noise.to_dtype(self.mean.dtype())?;
        let y = noise.broadcast_mul(&self.log_std.exp()?)?.broadcast_add(&self.mean)?;
        let last = y.narrow(D::Minus1, 0, 1)?.zeros_like()?;
        let last = (last + self.log_delta)?;
        log_softmax(&Tensor::cat(&[&(y / self.temperature)?, &last], D::Minus1)?)
    }

    /// The one-hot vector of the largest coordinate. No gradient.
    pub fn discretise(&self, log_y: &Tensor) -> Result<Tensor> {
        one_hot_argmax(log_y)
    }

    /// Log-density in nats of log-coordinates `[S, B, N, K]`, summed over the variables: `[S, B]`.
    ///
    /// With respect to Lebesgue measure in additive log-ratio coordinates, `log_y_k - log_y_K`, as that of
    /// [`ExpConcrete`](super::ExpConcrete).
    pub fn log_density(&self, log_y: &Tensor) -> Result<Tensor> {
        let (k, log_y) = (self.mean.dim(D::Minus1)?, log_y.to_dtype(self.mean.dtype())?);
        let last = log_y.narrow(D::Minus1, k, 1)?;
        let ratios = log_y.narrow(D::Minus1, 0, k)?.broadcast_sub(&last)?;
        let y = ((ratios + self.log_delta)? * self.temperature)?;
        let z = y.broadcast_sub(&self.mean)?.broadcast_mul(&self.log_std.neg()?.exp()?)?;
        let normal = (z.sqr()? * -0.5)?.broadcast_sub(&self.log_std)?;
        (normal - (HALF_LN_TAU - self.temperature.ln()))?.sum((2, 3))
    }

    /// `KL(self ‖ prior)` in nats, summed over the variables: `[S | 1, B]`. Closed form.
    ///
    /// # Errors
    /// If the two have different maps: another temperature or `δ`.
    pub fn kl(&self, prior: &Self) -> Result<Tensor> {
        if self.temperature != prior.temperature || self.log_delta != prior.log_delta {
            candle_core::bail!(
                "the divergence is closed for one map, got temperatures {} and {}, ln delta {} and {}",
                self.temperature,
                prior.temperature,
                self.log_delta,
                prior.log_delta
            )
        }
        let gap = self.mean.broadcast_sub(&prior.mean)?.sqr()?;
        let spread = (&self.log_std * 2.)?.exp()?.broadcast_add(&gap)?;
        let ratio = spread.broadcast_mul(&(&prior.log_std * -2.)?.exp()?)?;
        let log = prior.log_std.broadcast_sub(&self.log_std)?;
        (log.broadcast_add(&(ratio * 0.5)?)? - 0.5)?.sum((2, 3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    fn law(seed: u64, temperature: f64) -> Result<InvertibleGaussian> {
        let draw = |seed| Key::from_seed(seed).normal((1, 2, 3, 2), DType::F64, &Device::Cpu);
        InvertibleGaussian::new(&draw(seed)?, &(draw(seed + 1)? * 0.3)?, temperature, 0.7)
    }

    #[test]
    fn the_closed_divergence_is_the_mean_of_the_log_ratio() -> Result<()> {
        let (q, p) = (law(1, 0.4)?, law(5, 0.4)?);
        let y = q.rsample(40_000, Key::from_seed(9))?;
        let total = y.exp()?.sum(3)?;
        assert!((total - 1.)?.abs()?.max_all()?.to_scalar::<f64>()? < 1e-12);
        let ratio = (q.log_density(&y)? - p.log_density(&y)?)?;
        let (mean, exact) = (ratio.mean(0)?.to_vec1::<f64>()?, q.kl(&p)?.to_vec2::<f64>()?);
        let square = ratio.sqr()?.mean(0)?.to_vec1::<f64>()?;
        for ((mean, square), exact) in mean.iter().zip(square).zip(&exact[0]) {
            let error = ((square - mean * mean) / 40_000.).sqrt();
            assert!((mean - exact).abs() < 4.5 * error, "{mean} {exact} {error}");
        }
        assert!(q.kl(&law(5, 0.5)?).unwrap_err().to_string().contains("0.5"));
        assert!(law(1, 0.).is_err() && law(1, f64::NAN).is_err());
        assert_eq!(q.discretise(&y)?.dims(), [40_000, 2, 3, 3]);
        Ok(())
    }

    /// Of one binary variable, the integral over the log-ratio is 1.
    #[test]
    fn the_density_integrates_to_one() -> Result<()> {
        let one = |x: f64| Tensor::new(&[[[[x]]]], &Device::Cpu);
        let q = InvertibleGaussian::new(&one(0.4)?, &one(-0.2)?, 0.6, 2.)?;
        let n = 4001;
        let a: Vec<f64> = (0..n).map(|i| -40. + 80. * f64::from(i) / f64::from(n - 1)).collect();
        let a = Tensor::new(a, &Device::Cpu)?.reshape((n as usize, 1, 1, 1))?;
        let log_y = log_softmax(&Tensor::cat(&[&a, &a.zeros_like()?], 3)?)?;
        let area = q.log_density(&log_y)?.exp()?.sum_all()?.to_scalar::<f64>()? * 80. / 4000.;
        assert!((area - 1.).abs() < 1e-10, "{area}");
        Ok(())
    }
}
