//! How much of a discrete code a model uses.
use candle_core::{DType, Device, Result, Tensor, bail};

/// How far the probabilities of one variable may add up to something else than 1.
const SUM_TOLERANCE: f64 = 1e-2;

/// How much of its discrete code a model uses, from approximate posteriors streamed in.
///
/// With `q(z_n = k | x_b)` for `B` observations, `N` latent variables and `K` categories, and the
/// averaged ("aggregate") posterior `q(z_n) = 1/B Σ_b q(z_n | x_b)`:
///
/// - perplexity `exp H[q(z_n)]`: from 1 (collapsed) to `K` (every code used equally often), as in
///   van den Oord et al. (2017);
/// - mutual information `1/B Σ_b KL(q(z_n|x_b) ‖ q(z_n))` between the observation and the variable, the
///   first term of the decomposition of Hoffman and Johnson (2016), here for each variable by itself;
/// - active variables, those that depend on the observation: `Σ_k Var_b q(z_n = k | x_b)` above a
///   threshold, the statistic of Burda et al. (2016) for a one-hot variable.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use gumbel_metrics::CodeUsage;
/// let mut usage = CodeUsage::new();
/// // Variable 0 tells the two observations apart, variable 1 does not.
/// let probs = [[[1f32, 0.], [0.5, 0.5]], [[0., 1.], [0.5, 0.5]]];
/// usage.push(&Tensor::new(&probs, &Device::Cpu)?)?;
/// assert!((usage.mutual_information()[0] - 2f64.ln()).abs() < 1e-12);
/// assert_eq!(usage.mutual_information()[1], 0.0);
/// assert_eq!(usage.active_variables(0.01), 1);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CodeUsage {
    count: u64,
    categories: usize,
    variables: Vec<Variable>,
}

/// Sums over the observations for one latent variable.
#[derive(Clone, Debug, Default, PartialEq)]
struct Variable {
    /// `Σ_b q_k` and `Σ_b q_k²`, by category.
    probs: Vec<f64>,
    squares: Vec<f64>,
    /// `Σ_b Σ_k q_k ln q_k`.
    negative_entropy: f64,
    /// Whether the category was the most probable one for some observation.
    chosen: Vec<bool>,
}

impl CodeUsage {
    /// The statistics before any observation; the first batch decides `N` and `K`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the posterior probabilities (not logits) of a batch, `[B, N, K]`.
    ///
    /// An error, and nothing taken in, if the shape differs from earlier batches or if the last axis
    /// does not hold probabilities that add up to 1.
    pub fn push(&mut self, probs: &Tensor) -> Result<()> {
        let (batch, variables, categories) = probs.dims3()?;
        if variables == 0 || categories == 0 {
            bail!("posteriors need variables and categories, got shape {:?}", probs.shape());
        }
        if self.count > 0 && (variables, categories) != (self.variables.len(), self.categories) {
            bail!(
                "posteriors have shape {:?}, earlier ones had {} variables of {} categories",
                probs.shape(),
                self.variables.len(),
                self.categories
            );
        }
        let host = probs.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        let rows = host.flatten_all()?.to_vec1::<f64>()?;
        for (row, q) in rows.chunks_exact(categories).enumerate() {
            check(q, row / variables, row % variables)?;
        }
        if self.count == 0 {
            self.categories = categories;
            self.variables = vec![Variable::new(categories); variables];
        }
        self.count += batch as u64;
        for observation in rows.chunks_exact(variables * categories) {
            for (variable, q) in self.variables.iter_mut().zip(observation.chunks_exact(categories))
            {
                variable.push(q);
            }
        }
        Ok(())
    }

    /// How many observations came in.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Perplexity of the averaged posterior of each variable, `[N]`, in `[1, K]`.
    #[must_use]
    pub fn perplexities(&self) -> Vec<f64> {
        self.each(|v, n| crate::perplexity(v.marginal_entropy(n)))
    }

    /// Mean over the variables of [`CodeUsage::perplexities`]; NaN without observations.
    #[must_use]
    pub fn perplexity(&self) -> f64 {
        average(&self.perplexities())
    }

    /// Mutual information of each variable with the observation, `[N]`, in nats, in `[0, ln K]`.
    #[must_use]
    pub fn mutual_information(&self) -> Vec<f64> {
        // KL(q(z|x) ‖ q(z)) averaged over x is H[q(z)] - mean H[q(z|x)]; below 0 only by rounding.
        self.each(|v, n| (v.marginal_entropy(n) + v.negative_entropy / n).max(0.))
    }

    /// The averaged posterior of each variable, `[N][K]`: how often each code is used.
    #[must_use]
    pub fn marginals(&self) -> Vec<Vec<f64>> {
        self.each(|v, n| v.probs.iter().map(|sum| sum / n).collect())
    }

    /// Number of codes of each variable that were the most probable one for some observation, `[N]`.
    #[must_use]
    pub fn codes_used(&self) -> Vec<usize> {
        self.each(|v, _| v.chosen.iter().filter(|chosen| **chosen).count())
    }

    /// Number of variables with `Σ_k Var_b q(z_n = k | x_b) > threshold`; Burda et al. use 0.01.
    #[must_use]
    pub fn active_variables(&self, threshold: f64) -> usize {
        self.each(Variable::variance).into_iter().filter(|variance| *variance > threshold).count()
    }

    fn each<T>(&self, f: impl Fn(&Variable, f64) -> T) -> Vec<T> {
        self.variables.iter().map(|variable| f(variable, self.count as f64)).collect()
    }
}

impl Variable {
    fn new(categories: usize) -> Self {
        Self {
            probs: vec![0.; categories],
            squares: vec![0.; categories],
            negative_entropy: 0.,
            chosen: vec![false; categories],
        }
    }

    fn push(&mut self, q: &[f64]) {
        let mut best = (f64::NEG_INFINITY, 0);
        for (k, (q, (sum, square))) in
            q.iter().zip(self.probs.iter_mut().zip(&mut self.squares)).enumerate()
        {
            *sum += q;
            *square += q * q;
            self.negative_entropy += q_ln_q(*q);
            if *q > best.0 {
                best = (*q, k);
            }
        }
        if let Some(chosen) = self.chosen.get_mut(best.1) {
            *chosen = true;
        }
    }

    fn marginal_entropy(&self, n: f64) -> f64 {
        -self.probs.iter().map(|sum| q_ln_q(sum / n)).sum::<f64>()
    }

    fn variance(&self, n: f64) -> f64 {
        let of_one = |(sum, square): (&f64, &f64)| square / n - (sum / n).powi(2);
        self.probs.iter().zip(&self.squares).map(of_one).sum()
    }
}

fn q_ln_q(q: f64) -> f64 {
    if q > 0. { q * q.ln() } else { 0. }
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn check(q: &[f64], observation: usize, variable: usize) -> Result<()> {
    let sum: f64 = q.iter().sum();
    // Written so that a NaN fails too.
    let valid = q.iter().all(|q| *q >= 0.) && (sum - 1.).abs() <= SUM_TOLERANCE;
    if !valid {
        bail!(
            "observation {observation}, variable {variable}: expected probabilities that add up to 1, \
             got {q:?}; take the softmax of logits first"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LN_2: f64 = std::f64::consts::LN_2;

    fn usage(batches: &[Tensor]) -> Result<CodeUsage> {
        let mut usage = CodeUsage::new();
        for batch in batches {
            usage.push(batch)?;
        }
        Ok(usage)
    }

    /// Four observations of (an identity code, a constant code, a constant uniform, a noisy bit).
    fn example() -> Result<Tensor> {
        let [a, b] = [0.75f64, 0.25];
        let constant = [0., 1., 0., 0.];
        let rows = [
            [[1., 0., 0., 0.], constant, [0.25; 4], [a, b, 0., 0.]],
            [[0., 1., 0., 0.], constant, [0.25; 4], [b, a, 0., 0.]],
            [[0., 0., 1., 0.], constant, [0.25; 4], [a, b, 0., 0.]],
            [[0., 0., 0., 1.], constant, [0.25; 4], [b, a, 0., 0.]],
        ];
        Tensor::new(&rows, &Device::Cpu)
    }

    fn assert_close(got: &[f64], expected: &[f64]) {
        assert_eq!(got.len(), expected.len());
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-12, "{got} {expected}");
        }
    }

    #[test]
    fn four_kinds_of_variables_have_the_values_known_by_hand() -> Result<()> {
        let usage = usage(&[example()?])?;
        assert_eq!(usage.count(), 4);
        assert_close(&usage.perplexities(), &[4., 1., 4., 2.]);
        assert!((usage.perplexity() - 2.75).abs() < 1e-12);
        let noisy = LN_2 + 0.75 * 0.75f64.ln() + 0.25 * 0.25f64.ln();
        assert_close(&usage.mutual_information(), &[2. * LN_2, 0., 0., noisy]);
        assert_close(&usage.marginals()[3], &[0.5, 0.5, 0., 0.]);
        // A tie is resolved towards the first category.
        assert_eq!(usage.codes_used(), [4, 1, 1, 2]);
        // Σ_k variances: 4 · (¼ - 1/16) = ¾ for the identity, 2 · 1/16 = ⅛ for the noisy bit.
        let active = [0.8, 0.7, 0.13, 0.12, 1e-9].map(|t| usage.active_variables(t));
        assert_eq!(active, [0, 1, 1, 2, 2]);
        Ok(())
    }

    #[test]
    fn mutual_information_is_the_mean_divergence_from_the_averaged_posterior() -> Result<()> {
        let q = [[0.2, 0.3, 0.5], [0.7, 0.1, 0.2], [0.1, 0.1, 0.8]];
        let usage = usage(&[Tensor::new(&q.map(|q| [q]), &Device::Cpu)?])?;
        let mut kl = 0.;
        for row in &q {
            for (k, p) in row.iter().enumerate() {
                let marginal = q.iter().map(|row| row[k]).sum::<f64>() / 3.;
                kl += p * (p / marginal).ln() / 3.;
            }
        }
        assert_close(&usage.mutual_information(), &[kl]);
        Ok(())
    }

    #[test]
    fn splitting_into_batches_changes_nothing() -> Result<()> {
        let all = example()?;
        let whole = usage(std::slice::from_ref(&all))?;
        let parts = [all.narrow(0, 0, 1)?, all.narrow(0, 1, 0)?, all.narrow(0, 1, 3)?];
        assert_eq!(usage(&parts)?, whole);
        Ok(())
    }

    #[test]
    fn what_is_not_a_posterior_is_refused_and_changes_nothing() -> Result<()> {
        let mut usage = usage(&[example()?])?;
        let before = usage.clone();
        let nan = f64::NAN;
        for bad in [[2., -1., 0., 0.], [0.1, 0.1, 0.1, 0.1], [nan, 1., 0., 0.], [1e300; 4]] {
            let batch =
                Tensor::new(&[[[1., 0., 0., 0.], bad, [0.25; 4], [0.25; 4]]], &Device::Cpu)?;
            let error = usage.push(&batch).unwrap_err().to_string();
            assert!(error.contains("observation 0, variable 1"), "{error}");
        }
        let other = Tensor::new(&[[[0.5, 0.5]]], &Device::Cpu)?;
        assert!(usage.push(&other).is_err() && usage.push(&other.squeeze(0)?).is_err());
        assert!(
            CodeUsage::new().push(&Tensor::zeros((3, 0, 4), DType::F32, &Device::Cpu)?).is_err()
        );
        assert_eq!(usage, before);
        Ok(())
    }

    #[test]
    fn nothing_in_gives_nothing_out() {
        let usage = CodeUsage::new();
        assert!(usage.perplexity().is_nan() && usage.perplexities().is_empty());
        assert_eq!((usage.active_variables(0.), usage.count()), (0, 0));
    }
}
