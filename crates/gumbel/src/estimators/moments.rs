//! Centring and scaling of learning signals by their running moments.
use candle_core::{DType, Device, Result, Tensor, Var};
use serde::{Deserialize, Serialize};

use super::Store;

/// How learning signals are centred and scaled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SignalConfig {
    /// Whether the moving average is subtracted.
    pub centred: bool,
    /// Whether the signal is divided by its running standard deviation where that is above 1.
    pub scaled: bool,
    /// Weight of the past in the moving averages.
    pub decay: f64,
}

impl Default for SignalConfig {
    fn default() -> Self {
        Self { centred: true, scaled: false, decay: 0.9 }
    }
}

impl SignalConfig {
    /// Centred and scaled.
    pub(crate) fn scaled() -> Self {
        Self { scaled: true, ..Self::default() }
    }
}

/// How a score-function estimator centres and scales its learning signals.
///
/// The moments are those of the signals *before* this step, so that centring leaves the gradient unbiased.
/// Scaling divides it by `max(1, σ)`, which is a choice of step size: what is estimated is the gradient over
/// that number (Mnih and Gregor 2014, section 2.3.4).
#[derive(Clone, Debug, Default)]
pub struct RunningMoments {
    /// `[3]`: decayed sums of the signal, of its square, and of 1. Absent: signals stay as they are.
    statistics: Option<Var>,
    config: SignalConfig,
}

/// Learning signals after centring and scaling, and the moments to go on with.
pub(crate) struct Centred {
    pub(crate) signals: Vec<Tensor>,
    /// What the signals were multiplied by.
    pub(crate) factor: f64,
    pub(crate) statistics: Vec<(Var, Tensor)>,
}

impl RunningMoments {
    /// Signals stay as they are.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Signals are centred and scaled as `config` says; the moving averages are in `store`.
    ///
    /// # Errors
    /// If the decay is not in `[0, 1)`.
    pub fn new(config: SignalConfig, store: &mut dyn Store) -> Result<Self> {
        let SignalConfig { centred, scaled, decay } = config;
        if !(0. ..1.).contains(&decay) {
            candle_core::bail!("the decay of a moving average is in [0, 1), got {decay}")
        }
        if !centred && !scaled {
            return Ok(Self::none());
        }
        let zeros = Tensor::zeros(3, DType::F64, &Device::Cpu)?;
        Ok(Self { statistics: Some(store.statistic("signal_moments", &zeros)?), config })
    }

    /// Whether the estimate is divided by a number.
    #[must_use]
    pub fn is_scaled(&self) -> bool {
        self.statistics.is_some() && self.config.scaled
    }

    /// Mean and standard deviation so far; 0 and 1 at the start.
    fn current(&self) -> Result<(f64, f64)> {
        let sums = match &self.statistics {
            Some(statistics) => statistics.to_vec1::<f64>()?,
            None => vec![],
        };
        Ok(match *sums.as_slice() {
            [sum, squares, weight] if weight > 0. => {
                let mean = sum / weight;
                (mean, (squares / weight - mean * mean).max(0.).sqrt())
            }
            _ => (0., 1.),
        })
    }

    /// What centring subtracts.
    pub(crate) fn centre(&self) -> Result<f64> {
        Ok(if self.config.centred { self.current()?.0 } else { 0. })
    }

    /// Centres and scales the signals `[S, B]` of each site.
    pub(crate) fn apply(&self, signals: &[Tensor]) -> Result<Centred> {
        let centre = self.centre()?;
        let factor = if self.is_scaled() { 1. / self.current()?.1.max(1.) } else { 1. };
        let centred = signals.iter().map(|signal| signal.affine(factor, -centre * factor));
        Ok(Centred {
            signals: centred.collect::<Result<_>>()?,
            factor,
            statistics: self.next(signals)?,
        })
    }

    /// The moving averages after a step with these signals, as they were before centring.
    pub(crate) fn next(&self, signals: &[Tensor]) -> Result<Vec<(Var, Tensor)>> {
        let Some(statistics) = &self.statistics else { return Ok(vec![]) };
        let (mut sum, mut squares) = (0., 0.);
        for signal in signals {
            let signal = signal.detach().to_dtype(DType::F64)?;
            let share = 1. / signals.len() as f64;
            sum += share * signal.mean_all()?.to_scalar::<f64>()?;
            squares += share * signal.sqr()?.mean_all()?.to_scalar::<f64>()?;
        }
        let decay = self.config.decay;
        let new = Tensor::new(&[sum, squares, 1.], statistics.device())?;
        let next = ((statistics.as_detached_tensor() * decay)? + new * (1. - decay))?;
        Ok(vec![(statistics.clone(), next)])
    }
}
