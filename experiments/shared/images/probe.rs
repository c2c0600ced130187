//! Gradient statistics over the course of training, where the configuration asks for them.
use candle_core::Var;
use gumbel::Key;
use gumbel::estimators::{Estimator, LeaveOneOut, Objective, Program};
use gumbel::lab::{self, Reading};
use gumbel_metrics::Report;
use gumbel_training::{MicroBatch, Params, Result};
use serde::{Deserialize, Serialize};

use crate::Config;

/// How often, and how exactly: the table `probe` of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeConfig {
    /// Steps between measurements, a multiple of `train.log_every`.
    pub every: u64,
    /// Estimates of one gradient, at least 2.
    #[serde(default = "twenty")]
    pub replicates: usize,
    /// Samples of the unbiased reference (leave-one-out) that shows the bias; 0 for none. Under `bound = "iwae"` those of
    /// the estimator count, whatever this says, and of one sample there is no reference.
    #[serde(default = "fifty")]
    pub reference_samples: usize,
}

fn twenty() -> usize {
    20
}

fn fifty() -> usize {
    50
}

impl ProbeConfig {
    /// What is wrong with the settings, if anything.
    pub fn check(&self, log_every: u64) -> std::result::Result<(), String> {
        if self.every == 0 || log_every == 0 || !self.every.is_multiple_of(log_every) {
            return Err(format!(
                "every is {}; use a multiple of train.log_every, which is {log_every}",
                self.every
            ));
        }
        if self.replicates < 2 {
            return Err(format!("replicates is {}; use at least 2", self.replicates));
        }
        Ok(())
    }
}

/// The parameters of the model: those of the estimator are not what it estimates.
#[must_use]
pub fn variables(params: &Params) -> Vec<Var> {
    let of_model = |(name, _): &(String, Var)| !name.starts_with("estimator.");
    params.iter().into_iter().filter(of_model).map(|(_, var)| var).collect()
}

/// Adds the statistics of this step's gradient to the report, at the steps that are due.
pub fn probe<M>(
    config: &Config<M>,
    micro: MicroBatch,
    (estimator, objective): (&dyn Estimator, &dyn Objective),
    program: &Program<'_>,
    variables: &[Var],
    key: Key,
    report: Report,
) -> Result<Report> {
    let Some(probe) = config.probe.filter(|probe| (micro.step + 1).is_multiple_of(probe.every))
    else {
        return Ok(report);
    };
    let reference = LeaveOneOut { samples: config.reference_samples(probe.reference_samples) };
    let wanted = probe.reference_samples > 0 && !estimator.is_unbiased() && reference.samples > 1;
    let Reading { norm, variance, signal_to_noise, bias, .. } =
        lab::Probe { replicates: probe.replicates }.measure(
            estimator,
            wanted.then_some(&reference as &dyn Estimator),
            program,
            objective,
            variables,
            key.named("probe").fold_in(micro.index),
        )?;
    let mut report = report.number("gradient_norm", norm).number("gradient_variance", variance);
    // An estimator without noise has no such ratio.
    if signal_to_noise.is_finite() {
        report = report.number("gradient_signal_to_noise", signal_to_noise);
    }
    Ok(match bias {
        None => report,
        Some(bias) => report
            .number("gradient_bias", bias.norm)
            .number("gradient_bias_resolution", bias.resolution)
            .number("gradient_cosine", bias.cosine),
    })
}
