//! A temperature that follows the least error of the gradient.
use candle_core::{DType, Device, Result, Tensor, Var};
use gumbel_kernels::Key;
use serde::{Deserialize, Serialize};

use super::{BoundOf, Estimator, LeaveOneOut, Objective, Program, SiteDraw, Store};

/// How an [`AdaptiveTemperature`] is found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdaptiveConfig {
    /// Temperature at step 0.
    pub start: f64,
    /// Training steps between two adjustments.
    pub every: u64,
    /// Length of an adjustment in `ln τ`, where its direction is certain.
    pub rate: f64,
    /// Gradients that an optimizer averages, by which the variance counts less than in a single one: 1 for the gradient
    /// itself, `(1 + β₁) / (1 - β₁)` for the first moment of Adam, more for what becomes of a parameter over many small steps. With 100 the
    /// models of `docs/results/temperature.md` come closest to the best fixed temperature; 10 is too hot for relaxed draws.
    pub averaged: f64,
    /// Samples of the unbiased reference, at least 2; rounded up to a multiple of the estimator's.
    pub samples: usize,
    /// The temperature stays above.
    pub least: f64,
    /// The temperature stays below.
    pub most: f64,
}

impl Default for AdaptiveConfig {
    fn default() -> Self {
        Self { start: 1., every: 10, rate: 0.02, averaged: 100., samples: 4, least: 0.05, most: 5. }
    }
}

impl AdaptiveConfig {
    /// What is wrong with the settings, if anything: key, value, what to do.
    ///
    /// # Errors
    /// If a number is outside its range.
    pub fn check(&self) -> std::result::Result<(), String> {
        let Self { start, every, rate, averaged, samples, least, most } = *self;
        let positive = |x: f64| x > 0. && x.is_finite();
        if !(positive(least) && positive(most) && least <= most) {
            return Err(format!("least is {least} and most {most}; use positive numbers in order"));
        }
        if !(least..=most).contains(&start) {
            return Err(format!("start is {start}; keep it in [{least}, {most}]"));
        }
        if every == 0 {
            return Err("every is 0; use at least 1".to_owned());
        }
        if !positive(rate) {
            return Err(format!("rate is {rate}; use a positive number"));
        }
        if !(averaged >= 1. && averaged.is_finite()) {
            return Err(format!("averaged is {averaged}; use at least 1"));
        }
        if samples < 2 {
            return Err(format!("samples is {samples}; use at least 2"));
        }
        Ok(())
    }
}

/// A temperature that descends the mean squared error of the gradient, which it estimates as training goes on.
///
/// With `ĝ(τ)` the estimate of a biased estimator on the batch at hand, and `g` the exact gradient, the error that
/// `m` averaged gradients leave is, up to a constant:
///
/// ```math
/// \lVert \mathbb{E}\, \hat g \rVert^2 - 2\, \mathbb{E}\, \hat g \cdot g
/// + \frac{1}{m} \operatorname{tr} \operatorname{Cov} \hat g
/// ```
///
/// With `ĝ'(τ)` another estimate with noise of its own, and `u` an unbiased one (leave-one-out), it is estimated
/// without bias by:
///
/// ```math
/// \Bigl(1 - \frac{1}{m}\Bigr)\, \hat g \cdot \hat g' + \frac{\lVert \hat g \rVert^2 + \lVert \hat g' \rVert^2}{2 m}
/// - (\hat g + \hat g') \cdot u
/// ```
///
/// The slope of the error in `ln τ` is a difference under common noise, and moves `ln τ` by a step of Adam. So nothing
/// has to be known of the number of categories, of the batch size or of the phase of training.
///
/// One adjustment costs four estimates and the reference.
#[derive(Clone, Debug)]
pub struct AdaptiveTemperature {
    config: AdaptiveConfig,
    /// `[4]`: `ln τ`, the running means of the slope and of its square, adjustments made.
    state: Var,
}

/// Distance in `ln τ` at which the error is compared, to know its slope.
const SPAN: f64 = 0.1;

/// Weights of the past in the running means.
const DECAY: (f64, f64) = (0.9, 0.99);

impl AdaptiveTemperature {
    /// At `config.start`; what changes is in `store`.
    ///
    /// # Errors
    /// Those of [`AdaptiveConfig::check`].
    pub fn new(config: AdaptiveConfig, store: &mut dyn Store) -> Result<Self> {
        config.check().map_err(candle_core::Error::msg)?;
        let start = Tensor::new(&[config.start.ln(), 0., 0., 0.], &Device::Cpu)?;
        Ok(Self { config, state: store.statistic("adaptive_temperature", &start)? })
    }

    fn state(&self) -> Result<[f64; 4]> {
        match *self.state.to_vec1::<f64>()?.as_slice() {
            [log, mean, square, count] => Ok([log, mean, square, count]),
            _ => candle_core::bail!("the state of an adaptive temperature has four numbers"),
        }
    }

    /// The temperature now.
    pub fn value(&self) -> Result<f64> {
        Ok(self.state()?[0].exp())
    }

    /// Adjusts the temperature at the steps that are due: for a training loop to call at every step, before it draws.
    ///
    /// `estimator` is the one of a temperature; gradients are compared in `variables`.
    pub fn update(
        &self,
        step: u64,
        estimator: &dyn Fn(f64) -> Result<Box<dyn Estimator>>,
        (program, objective): (&Program<'_>, &dyn Objective),
        variables: &[Var],
        key: Key,
    ) -> Result<()> {
        if !step.is_multiple_of(self.config.every) {
            return Ok(());
        }
        let [log, mean, square, count] = self.state()?;
        let gradient = |estimator: &dyn Estimator, objective: &dyn Objective, name: &str| {
            let key = key.named(name).fold_in(step);
            let surrogate = estimator.surrogate(program, objective, key)?;
            let grads = surrogate.loss.backward()?;
            let gradients = variables
                .iter()
                .map(|var| match grads.get(var.as_tensor()) {
                    Some(gradient) => Ok(gradient.detach()),
                    None => var.as_detached_tensor().zeros_like(),
                })
                .collect::<Result<Vec<_>>>()?;
            Ok::<_, candle_core::Error>((gradients, surrogate.log_px.dim(0)?))
        };
        let pair = |distance: f64| {
            let estimator = estimator((log + distance).exp())?;
            let (first, samples) = gradient(&*estimator, objective, "first")?;
            let (second, _) = gradient(&*estimator, objective, "second")?;
            Ok::<_, candle_core::Error>((first, second, samples))
        };
        let (above, below) = (pair(SPAN)?, pair(-SPAN)?);
        // A bound of many samples is another one for another number of them.
        let groups = Groups { objective, size: above.2.max(1) };
        let samples = self.config.samples.div_ceil(groups.size).max(1) * groups.size;
        let (reference, _) = gradient(&LeaveOneOut { samples }, &groups, "reference")?;
        let error = |(first, second, _): &(Vec<Tensor>, Vec<Tensor>, usize)| {
            self.error((first, second), &reference)
        };
        let slope = (error(&above)? - error(&below)?) / (2. * SPAN);
        if !slope.is_finite() {
            // The step that follows will say what is wrong.
            return Ok(());
        }
        let count = count + 1.;
        let mean = DECAY.0 * mean + (1. - DECAY.0) * slope;
        let square = DECAY.1 * square + (1. - DECAY.1) * slope * slope;
        let corrected = (mean / (1. - DECAY.0.powf(count)), square / (1. - DECAY.1.powf(count)));
        let direction = if square > 0. { corrected.0 / corrected.1.sqrt() } else { 0. };
        let AdaptiveConfig { rate, least, most, .. } = self.config;
        let log = (log - rate * direction).clamp(least.ln(), most.ln());
        self.state.set(&Tensor::new(&[log, mean, square, count], &Device::Cpu)?)
    }

    /// The error of averaged gradients, up to a constant.
    fn error(&self, (a, b): (&[Tensor], &[Tensor]), reference: &[Tensor]) -> Result<f64> {
        let alone = 1. / self.config.averaged;
        let across = (1. - alone) * dot(a, b)?;
        let within = alone * 0.5 * (dot(a, a)? + dot(b, b)?);
        Ok(across + within - dot(a, reference)? - dot(b, reference)?)
    }
}

/// The average of an objective over groups of `size` of the samples.
#[derive(Debug)]
struct Groups<'a> {
    objective: &'a dyn Objective,
    size: usize,
}

impl Groups<'_> {
    /// `[G * size, B]` → `[size, G * B]`.
    fn side_by_side(&self, log_w: &Tensor) -> Result<Tensor> {
        let (samples, batch) = log_w.dims2()?;
        let groups = log_w.reshape((samples / self.size, self.size, batch))?;
        groups.transpose(0, 1)?.reshape((self.size, samples / self.size * batch))
    }
}

impl Objective for Groups<'_> {
    fn log_weights(&self, log_px: &Tensor, sites: &[SiteDraw]) -> Result<Tensor> {
        self.objective.log_weights(log_px, sites)
    }

    fn bound(&self, log_w: &Tensor) -> Result<Tensor> {
        let (samples, batch) = log_w.dims2()?;
        let each = self.objective.bound(&self.side_by_side(log_w)?)?;
        each.reshape((samples / self.size, batch))?.mean(0)
    }

    fn bounds(&self, sites: &[SiteDraw]) -> BoundOf {
        self.objective.bounds(sites)
    }

    fn learning_signal(&self, log_w: &Tensor) -> Result<Tensor> {
        let (samples, batch) = log_w.dims2()?;
        let count = samples / self.size;
        let each = self.objective.learning_signal(&self.side_by_side(log_w)?)?;
        let back = each.reshape((self.size, count, batch))?.transpose(0, 1)?;
        back.reshape((samples, batch))? / count as f64
    }
}

/// The scalar product of two gradients, tensor by tensor.
pub(crate) fn dot(a: &[Tensor], b: &[Tensor]) -> Result<f64> {
    a.iter().zip(b).try_fold(0., |sum, (a, b)| {
        let product = (a.to_dtype(DType::F64)? * b.to_dtype(DType::F64)?)?;
        Ok(sum + product.sum_all()?.to_scalar::<f64>()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributions::Categorical;
    use crate::estimators::{Enumerate, StraightThroughGumbelSoftmax, Trace, Variables};
    use crate::lab;
    use crate::objectives::Elbo;

    fn estimator(temperature: f64) -> Result<Box<dyn Estimator>> {
        Ok(Box::new(StraightThroughGumbelSoftmax { samples: 1, temperature }))
    }

    /// Equal rows share their logits, as the examples of a batch share parameters: more rows, less noise, colder.
    #[test]
    fn it_goes_to_the_least_error_of_each_batch_size() -> Result<()> {
        let logits = Var::new(&[[0.4f64, -0.2, 0.1, -0.5], [0.3, 0.2, -0.6, 0.]], &Device::Cpu)?;
        let weights = Tensor::new(&[[1.5f64, -0.7, 0.2, 0.9], [0.3, 1.1, -1., 0.5]], &Device::Cpu)?;
        let key = Key::from_seed(4);
        let mut found = Vec::new();
        for (rows, averaged) in [(30, 1.), (30, 16.), (480, 1.)] {
            let program = |trace: &mut Trace<'_>| {
                let q = logits.broadcast_as((1, rows, 2, 4))?.contiguous()?;
                let q = Categorical::from_logits(&q)?;
                let z = trace.sample("z", &q, &Categorical::uniform_like(&q)?)?;
                z.broadcast_mul(&weights)?.sum((2, 3))?.affine(0.8, 0.5)?.sin()
            };
            let objective = Elbo::default();
            let exact = Enumerate { samples: 1 }.surrogate(&program, &objective, key)?;
            let grads = exact.loss.backward()?;
            let groups = [lab::Exact::new(vec![logits.clone()], &grads)?];
            let error = |temperature: f64| -> Result<f64> {
                let pair = (&program as &Program<'_>, &objective as &dyn Objective);
                let m = &lab::measure(&*estimator(temperature)?, pair, &groups, 600, key)?[0];
                Ok(m.bias.value.powi(2) + m.variance.value / averaged)
            };
            let config = AdaptiveConfig { every: 1, averaged, ..AdaptiveConfig::default() };
            let adaptive = AdaptiveTemperature::new(config, &mut Variables::default())?;
            let mut logs = Vec::new();
            for step in 0..400 {
                let pair = (&program as &Program<'_>, &objective as &dyn Objective);
                adaptive.update(step, &estimator, pair, std::slice::from_ref(&logits), key)?;
                logs.push(adaptive.value()?.ln());
            }
            let late = &logs[200..];
            let mean = late.iter().sum::<f64>() / late.len() as f64;
            let (here, colder, hotter) =
                (error(mean.exp())?, error((mean - 0.6).exp())?, error((mean + 0.6).exp())?);
            assert!(here < colder && here < hotter, "{mean} {here} {colder} {hotter}");
            found.push(mean);
        }
        // Averaging 16 gradients of 30 rows is as good as one of 480.
        assert!(found[0] > found[1] + 0.3 && (found[1] - found[2]).abs() < 0.2, "{found:?}");
        Ok(())
    }

    #[test]
    fn it_stays_between_its_limits_and_says_which_setting_is_wrong() -> Result<()> {
        let config = AdaptiveConfig { most: 1.1, rate: 1., ..AdaptiveConfig::default() };
        let mut store = Variables::default();
        let adaptive = AdaptiveTemperature::new(config, &mut store)?;
        let logits = Var::new(&[[[[0.4f64, -0.2]]]], &Device::Cpu)?;
        let program = |trace: &mut Trace<'_>| {
            let q = Categorical::from_logits(&logits)?;
            trace.sample("z", &q, &Categorical::uniform_like(&q)?)?.sqr()?.sum((2, 3))
        };
        let pair = (&program as &Program<'_>, &Elbo::default() as &dyn Objective);
        for step in 0..30 {
            let before = adaptive.value()?;
            adaptive.update(
                step,
                &estimator,
                pair,
                std::slice::from_ref(&logits),
                Key::from_seed(1),
            )?;
            let now = adaptive.value()?;
            assert!((0.05 - 1e-9..=1.1 + 1e-9).contains(&now), "{now}");
            assert!(step % 10 == 0 || now == before, "{step}: {before} {now}");
        }
        assert!(store.statistics.contains_key("adaptive_temperature"));
        for (wrong, word) in [
            (AdaptiveConfig { start: 9., ..config }, "start is 9"),
            (AdaptiveConfig { least: 0., ..config }, "least is 0"),
            (AdaptiveConfig { every: 0, ..config }, "every is 0"),
            (AdaptiveConfig { rate: f64::NAN, ..config }, "rate is NaN"),
            (AdaptiveConfig { averaged: 0.5, ..config }, "averaged is 0.5"),
            (AdaptiveConfig { samples: 1, ..config }, "samples is 1"),
        ] {
            assert!(wrong.check().unwrap_err().contains(word), "{wrong:?}");
        }
        Ok(())
    }

    #[test]
    fn an_objective_in_groups_is_the_average_of_the_groups() -> Result<()> {
        use crate::objectives::Iwae;
        let log_w = Key::from_seed(3).normal((6, 4), DType::F64, &Device::Cpu)?;
        let groups = Groups { objective: &Iwae, size: 2 };
        let (mut bound, mut signals) = (Tensor::zeros(4, DType::F64, &Device::Cpu)?, Vec::new());
        for start in [0, 2, 4] {
            let alone = log_w.narrow(0, start, 2)?;
            bound = (bound + (Iwae.bound(&alone)? / 3.)?)?;
            signals.push((Iwae.learning_signal(&alone)? / 3.)?);
        }
        let close = |a: &Tensor, b: &Tensor| {
            let apart = (a - b)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f64>()?;
            Ok::<_, candle_core::Error>(apart < 1e-14)
        };
        assert!(close(&groups.bound(&log_w)?, &bound)?);
        assert!(close(&groups.learning_signal(&log_w)?, &Tensor::cat(&signals, 0)?)?);
        let elbo = Groups { objective: &Elbo::default(), size: 1 };
        assert!(close(&elbo.bound(&log_w)?, &log_w.mean(0)?)?);
        Ok(())
    }
}
