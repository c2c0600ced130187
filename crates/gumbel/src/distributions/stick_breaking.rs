//! Sticks broken by Gaussian noise, with a given discrete law.
use candle_core::{D, Result, Tensor};
use gumbel_kernels::{Key, log_sum_exp, softplus};

use super::closed_form::map_rows;
use super::invertible_gaussian::HALF_LN_TAU;
use super::{Categorical, Discrete};

/// Gaussian numbers whose signs have the law of a discrete variable.
///
/// A one-hot vector is found by asking for each category in turn, given that it is none of the earlier ones: yes
/// with probability `v_k`. The answer is `y_k > 0`, with `Φ` the distribution function of the standard normal law:
///
/// ```math
/// y_k \sim \mathcal{N}\bigl(\Phi^{-1}(v_k), 1\bigr), \qquad v_k = \frac{q_k}{q_k + \dots + q_K}
/// ```
///
/// The first positive one is a draw of `q`, exactly. Bits have one `y ~ N(Φ⁻¹(q), 1)` each.
///
/// Source: the stick-breaking map of Potapczynski, Loaiza-Ganem, Cunningham (2020), section 4.2; the means that
/// make its discrete law exact are derived here.
#[derive(Clone, Debug)]
pub struct StickBreakingGaussian {
    /// `[S | 1, B, N, K - 1]`, of bits `[S | 1, B, N]`.
    mean: Tensor,
    /// Of the same shape: -1 where the answer is no, 1 where it is yes whatever the noise, and 0 elsewhere.
    certain: Tensor,
    categories: bool,
}

/// Log-odds beyond this are certain.
const CERTAIN: f64 = 600.;

impl StickBreakingGaussian {
    /// With the discrete law `q`.
    pub fn of(q: &Discrete) -> Result<Self> {
        let (odds, categories) = match q {
            Discrete::Bernoulli(q) => (q.logits().clone(), false),
            Discrete::Categorical(q) => (stick_log_odds(q)?, true),
        };
        let dtype = odds.dtype();
        let [yes, no] = [odds.ge(CERTAIN)?, odds.le(-CERTAIN)?].map(|side| side.to_dtype(dtype));
        let certain = (yes? - no?)?;
        let odds = odds.clamp(-CERTAIN, CERTAIN)?;
        let mean = map_rows(&odds.unsqueeze(D::Minus1)?, |row| {
            let (value, slope) = probit_of_log_odds(row.first().copied().unwrap_or(0.));
            (value, vec![slope])
        })?;
        Ok(Self { mean, certain, categories })
    }

    /// Gaussian coordinates `y: [S, B, N(, K - 1)]`, differentiable.
    pub fn rsample(&self, samples: usize, key: Key) -> Result<Tensor> {
        let mut shape = self.mean.dims().to_vec();
        match shape.first_mut() {
            Some(s) if samples > 0 && (*s == 1 || *s == samples) => *s = samples,
            _ => candle_core::bail!(
                "expected a law of [1 | {samples}, B, ..], got {:?}",
                self.mean.shape()
            ),
        }
        key.normal(shape, self.mean.dtype(), self.mean.device())?.broadcast_add(&self.mean)
    }

    /// Log-density in nats of coordinates, summed over the variables: `[S, B]`.
    pub fn log_density(&self, y: &Tensor) -> Result<Tensor> {
        let square = (y.broadcast_sub(&self.mean)?.sqr()? * -0.5)?;
        (square - HALF_LN_TAU)?.flatten_from(2)?.sum(2)
    }

    /// The relaxed value of coordinates at `temperature`: sticks `σ(y / τ)` instead of steps.
    pub fn relaxed(&self, y: &Tensor, temperature: f64) -> Result<Tensor> {
        // A masked category must get nothing at any temperature.
        let scores = (y / temperature)?.broadcast_add(&(&self.certain * 1e4)?)?;
        let yes = softplus(&scores.neg()?)?.neg()?; // ln σ
        if !self.categories {
            return yes.exp();
        }
        let no = softplus(&scores)?.neg()?;
        let k = y.dim(D::Minus1)?;
        let mut left = no.narrow(D::Minus1, 0, 1)?.zeros_like()?;
        let mut pieces = Vec::with_capacity(k + 1);
        for i in 0..k {
            pieces.push((&left + yes.narrow(D::Minus1, i, 1)?)?);
            left = (left + no.narrow(D::Minus1, i, 1)?)?;
        }
        pieces.push(left);
        Tensor::cat(&pieces, D::Minus1)?.exp()
    }
}

/// `ln v_k - ln (1 - v_k)` of the stick of each category but the last: `[S | 1, B, N, K - 1]`.
fn stick_log_odds(q: &Categorical) -> Result<Tensor> {
    let log_probs = q.log_probs()?.maximum(-1e4)?;
    let k = log_probs.dim(D::Minus1)?;
    let column = |i| log_probs.narrow(D::Minus1, i, 1);
    let mut odds = Vec::with_capacity(k);
    let mut rest = column(k - 1)?;
    for i in (0..k - 1).rev() {
        odds.push((column(i)? - &rest)?);
        let pair = Tensor::cat(&[&rest, &column(i)?], D::Minus1)?;
        rest = log_sum_exp(&pair, D::Minus1)?.unsqueeze(D::Minus1)?;
    }
    odds.reverse();
    if odds.is_empty() {
        candle_core::bail!("a stick cannot be broken into one piece; use at least 2 categories")
    }
    Tensor::cat(&odds, D::Minus1)
}

/// `Φ⁻¹(σ(c))` and its derivative.
fn probit_of_log_odds(c: f64) -> (f64, f64) {
    let x = -c.abs();
    let log_p = x - x.exp().ln_1p(); // ln σ(x), x ≤ 0
    // From the left of the root the concave ln Φ leads Newton's steps to it.
    let mut v = -(-2. * log_p).sqrt();
    for _ in 0..60 {
        let (value, slope) = log_normal_cdf(v);
        let step = (log_p - value) / slope;
        v += step;
        if step.abs() < 1e-15 * (1. + v.abs()) {
            break;
        }
    }
    let (_, slope) = log_normal_cdf(v);
    let derivative = 1. / (1. + x.exp()) / slope; // σ(-x) Φ / φ
    (if c > 0. { -v } else { v }, derivative)
}

/// `ln Φ(v)` and its derivative `φ / Φ`, for `v ≤ 0`.
fn log_normal_cdf(v: f64) -> (f64, f64) {
    let log_density = -0.5 * v * v - HALF_LN_TAU;
    let value = if v > -30. {
        (0.5 * libm::erfc(-v / std::f64::consts::SQRT_2)).ln()
    } else {
        // The asymptotic series: its next term is below 1e-12.
        let r = 1. / (v * v);
        log_density - (-v).ln() + (r * (-1. + r * (3. - 15. * r))).ln_1p()
    };
    (value, (log_density - value).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributions::Bernoulli;
    use candle_core::{DType, Device, Var};
    use gumbel_kernels::one_hot_argmax;

    /// Quantiles as tabulated; the derivative by differences, far out, too.
    #[test]
    fn probits_are_quantiles() {
        for (p, quantile) in [
            (0.5f64, 0.),
            (0.025, -1.959_963_984_540_054),
            (1e-3, -3.090_232_306_167_813_5),
            (1e-5, -4.264_890_793_922_825),
        ] {
            let c = p.ln() - (-p).ln_1p();
            assert!((probit_of_log_odds(c).0 - quantile).abs() < 1e-12);
            assert!((probit_of_log_odds(-c).0 + quantile).abs() < 1e-12);
        }
        for c in [-590., -460., -440., -40., -1., 0., 0.5, 30., 500.] {
            let at = |h: f64| probit_of_log_odds(c + h).0;
            let numeric = (at(1e-4) - at(-1e-4)) / 2e-4;
            let slope = probit_of_log_odds(c).1;
            assert!((numeric - slope).abs() < 1e-6 * (1. + slope), "{c}: {numeric} {slope}");
        }
    }

    #[test]
    fn the_first_positive_stick_has_the_law_of_the_discrete_variable() -> Result<()> {
        let logits = Tensor::new(&[[[[0.5f64, -1., 1.2, f64::NEG_INFINITY, 0.]]]], &Device::Cpu)?;
        let q = Categorical::from_logits(&logits)?;
        let sticks = StickBreakingGaussian::of(&Discrete::from(&q))?;
        let n = 40_000;
        let y = sticks.rsample(n, Key::from_seed(1))?;
        // At a very low temperature the relaxed value is the discrete one.
        let cold = sticks.relaxed(&y, 1e-4)?;
        let mean = one_hot_argmax(&cold)?.mean(0)?.flatten_all()?.to_vec1::<f64>()?;
        for (mean, p) in mean.iter().zip(q.probs()?.flatten_all()?.to_vec1::<f64>()?) {
            let error = (p * (1. - p) / n as f64).sqrt();
            assert!((mean - p).abs() <= 4.5 * error, "{mean} {p}");
        }
        let masked = sticks.relaxed(&y, 20.)?.narrow(3, 3, 1)?.max_all()?.to_scalar::<f64>()?;
        assert_eq!(masked, 0.);
        let all = Categorical::from_logits(&(logits.ones_like()? * f64::NEG_INFINITY)?)?;
        assert!(
            StickBreakingGaussian::of(&Discrete::from(&all))
                .unwrap_err()
                .to_string()
                .contains("row 0")
        );
        let far = Categorical::from_logits(&(q.logits().maximum(-1.)? - 2e4)?)?;
        let far = StickBreakingGaussian::of(&Discrete::from(&far))?;
        assert!(far.mean.flatten_all()?.to_vec1::<f64>()?[0].abs() < 3.);
        let warm = sticks.relaxed(&y, 0.7)?.sum(3)?;
        assert!((warm - 1.)?.abs()?.max_all()?.to_scalar::<f64>()? < 1e-12);
        let logits = Var::new(&[[[0.4f64, -2.]]], &Device::Cpu)?;
        let bits = StickBreakingGaussian::of(&Discrete::from(&Bernoulli::from_logits(&logits)?))?;
        let value = bits.relaxed(&bits.rsample(n, Key::from_seed(2))?, 1e-4)?;
        let mean = value.detach().ge(0.5)?.to_dtype(DType::F64)?.mean(0)?.flatten_all()?;
        for (mean, l) in mean.to_vec1::<f64>()?.iter().zip([0.4f64, -2.]) {
            let p = 1. / (1. + (-l).exp());
            assert!((mean - p).abs() < 4.5 * (p * (1. - p) / n as f64).sqrt(), "{mean} {p}");
        }
        assert!(value.sum_all()?.backward()?.get(logits.as_tensor()).is_some());
        Ok(())
    }
}
