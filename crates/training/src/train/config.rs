//! How long to train, and what to do how often.
use serde::{Deserialize, Serialize};

use crate::{Error, MicroBatch, OptimizerConfig, Result, world};

/// What a training step computes in; parameters and their updates are in single precision in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Precision {
    /// Single precision.
    #[default]
    #[serde(rename = "f32")]
    Single,
    /// Matrix products in `bf16`, see [`autocast`](gumbel_kernels::autocast); all else, and evaluation, in single
    /// precision.
    #[serde(rename = "bf16-mixed")]
    MixedBf16,
}

impl Precision {
    fn is_single(&self) -> bool {
        *self == Self::Single
    }

    /// Computes `f`, a forward pass, in it.
    pub fn compute<R>(self, f: impl FnOnce() -> R) -> R {
        match self {
            Self::Single => f(),
            Self::MixedBf16 => gumbel_kernels::autocast(candle_core::DType::BF16, f),
        }
    }
}

/// How long to train, and what to do how often: the table `train` of a configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Training steps in all.
    pub steps: u64,
    /// Steps between lines in `metrics.jsonl`; 0 writes only the last step. Default 100.
    #[serde(default = "log_every")]
    pub log_every: u64,
    /// Steps between evaluations; 0 evaluates only at the end. Default 0.
    #[serde(default)]
    pub evaluate_every: u64,
    /// Steps between checkpoints; 0 saves only at the end. Default 1000.
    #[serde(default = "checkpoint_every")]
    pub checkpoint_every: u64,
    /// Equal parts into which a batch is cut, at least 1: their gradients are averaged. One process computes them one after the other, which
    /// takes less memory; several share them. Results depend on how many there are, as each has noise of its own, and not on who computes
    /// them. Default 1.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub micro_batches: usize,
    /// How many checkpoints to keep, at least 1. Default 2.
    #[serde(default = "keep")]
    pub keep: usize,
    /// Largest norm of all gradients together; absent: gradients are used as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// What a step computes in, `f32` (default) or `bf16-mixed`, which pays on a GPU.
    #[serde(default, skip_serializing_if = "Precision::is_single")]
    pub precision: Precision,
    /// The update rule.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
}

fn log_every() -> u64 {
    100
}

fn checkpoint_every() -> u64 {
    1000
}

fn keep() -> usize {
    2
}

fn one() -> usize {
    1
}

fn is_one(n: &usize) -> bool {
    *n == 1
}

impl TrainConfig {
    /// The defaults, for `steps` steps.
    #[must_use]
    pub fn new(steps: u64) -> Self {
        Self {
            steps,
            log_every: log_every(),
            evaluate_every: 0,
            checkpoint_every: checkpoint_every(),
            micro_batches: 1,
            keep: keep(),
            clip_norm: None,
            precision: Precision::Single,
            optimizer: OptimizerConfig::default(),
        }
    }

    /// An error unless a batch of `key` examples can be cut into [`micro_batches`](Self::micro_batches).
    pub fn check_batch(&self, key: &str, batch_size: usize) -> Result<()> {
        let share = MicroBatch::first(self).share(batch_size);
        share.map(drop).map_err(|error| Error::Usage(format!("{key}: {error}")))
    }

    /// An error unless every value makes sense, and the processes of this [`world`] can share the work.
    pub fn check(&self) -> Result<()> {
        if self.keep == 0 {
            return Err(Error::Usage("train.keep is 0, keep at least 1 checkpoint".into()));
        }
        if self.micro_batches == 0 {
            return Err(Error::Usage("train.micro_batches is 0, use at least 1".into()));
        }
        let (size, parts) = (world().size(), self.micro_batches);
        if !parts.is_multiple_of(size) {
            return Err(Error::Usage(format!(
                "{size} processes cannot share train.micro_batches = {parts}; use a multiple of {size}, for example --set \
                 train.micro_batches={size} (the batch is cut into as many parts, and results do not depend on who computes them)"
            )));
        }
        match self.clip_norm {
            Some(norm) if !(norm > 0. && norm.is_finite()) => Err(Error::Usage(format!(
                "train.clip_norm is {norm}, use a positive number, or leave it out"
            ))),
            _ => self
                .optimizer
                .check()
                .map_err(|error| Error::Usage(format!("train.optimizer: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::*;

    #[test]
    fn everything_but_the_steps_has_a_default() {
        let config: TrainConfig = toml::from_str("steps = 7").unwrap();
        assert_eq!(config, TrainConfig::new(7));
        assert!(config.check().is_ok());
        assert_eq!(toml::from_str::<TrainConfig>(&toml::to_string(&config).unwrap()), Ok(config));
        assert!(toml::from_str::<TrainConfig>("").is_err());
        assert!(toml::from_str::<TrainConfig>("steps = 7\nstep = 7").is_err());
    }

    #[test]
    fn products_are_rounded_in_mixed_precision_only() {
        let config: TrainConfig = toml::from_str("steps = 7\nprecision = \"bf16-mixed\"").unwrap();
        assert!(toml::to_string(&config).unwrap().contains("bf16-mixed"));
        assert!(toml::from_str::<TrainConfig>("steps = 7\nprecision = \"bf16\"").is_err());
        let x = Tensor::new(&[[1.001f32]], &Device::Cpu).unwrap();
        let (w, b) = (x.ones_like().unwrap(), Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap());
        let value = |precision: Precision| {
            let y = precision.compute(|| gumbel_kernels::linear(&x, &w, &b)).unwrap();
            y.flatten_all().unwrap().to_vec1::<f32>().unwrap()[0]
        };
        assert_eq!((value(Precision::Single), value(config.precision)), (1.001, 1.));
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        let bad = |norm| TrainConfig { clip_norm: Some(norm), ..TrainConfig::new(1) };
        for config in [
            bad(0.),
            bad(-1.),
            bad(f64::NAN),
            bad(f64::INFINITY),
            TrainConfig { keep: 0, ..bad(1.) },
            TrainConfig { micro_batches: 0, ..bad(1.) },
        ] {
            assert_eq!(config.check().unwrap_err().exit_code(), 2, "{config:?}");
        }
        assert!(bad(1.).check().is_ok());
    }
}
