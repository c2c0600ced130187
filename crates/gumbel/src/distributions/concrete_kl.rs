//! The divergence of two Concrete variables of one temperature, as a one-dimensional integral.
use super::special::{digamma, grid};

/// KL and its gradient for a row `(a, b)`, over the categories that are not masked.
pub(super) fn equal_temperature_kl(row: &[f64]) -> (f64, Vec<f64>) {
    let (a, b) = row.split_at(row.len() / 2);
    let open = |a: f64| a > f64::NEG_INFINITY;
    let log_w: Vec<f64> = a.iter().zip(b).filter(|(a, _)| open(**a)).map(|(a, b)| b - a).collect();
    let k = log_w.len();
    let top = log_w.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // In s = ln t both terms are 1 far to the left and 0 far to the right.
    let (from, to) = (-40. - top.max(0.) - (k as f64).ln(), 45f64.max(45. - top));
    // Π_k (1 + w_k e^s)^{-1} at each point of the quadrature, with its weight.
    let points: Vec<(f64, f64, f64)> = grid(from, to, 0.2)
        .map(|(s, h)| (s, h, log_w.iter().map(|w| -softplus(w + s)).sum::<f64>().exp()))
        .collect();
    let mean_log: f64 = points.iter().map(|(s, h, product)| h * ((-s.exp()).exp() - product)).sum();
    let kf = k as f64;
    let value = -log_w.iter().sum::<f64>() - kf * digamma(k) + kf * mean_log;
    // ∂ E ln S / ∂ ln w_k = ∫ σ(ln w_k + s) Π_j (1 + w_j e^s)^{-1} ds
    let slope = |w: f64| -> f64 {
        points.iter().map(|(s, h, product)| h * product / (1. + (-(w + s)).exp())).sum()
    };
    let mut slopes = log_w.iter().map(|w| 1. - kf * slope(*w));
    let slopes: Vec<f64> =
        a.iter().map(|a| if open(*a) { slopes.next().unwrap_or(0.) } else { 0. }).collect();
    (value, slopes.iter().copied().chain(slopes.iter().map(|d| -d)).collect())
}

fn softplus(x: f64) -> f64 {
    x.max(0.) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::super::ExpConcrete;
    use candle_core::{DType, Device, Result, Tensor, Var};
    use gumbel_kernels::Key;

    fn logits(seed: u64) -> Result<Tensor> {
        Key::from_seed(seed).normal((1, 2, 3, 4), DType::F64, &Device::Cpu)
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
    fn divergence_from_itself_is_zero_even_at_wild_logits() -> Result<()> {
        let wild = Tensor::new(&[[[[800., -800., 3.]]]], &Device::Cpu)?;
        let q = ExpConcrete::new(&wild, 0.1)?;
        assert!(q.kl(&q)?.to_vec2::<f64>()?[0][0].abs() < 1e-12);
        Ok(())
    }
}
