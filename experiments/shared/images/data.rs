//! The images of a run, and what its numbers are called.
use std::sync::Arc;

use candle_core::{Device, Tensor};
use gumbel::Key;
use gumbel::estimators::BoundOf;
use gumbel_datasets::{Dataset, ImageSet, Images, Split, load, load_own};
use gumbel_training::config::to_toml;
use gumbel_training::{MicroBatch, Result, Run, RunArgs};
use serde::Serialize;

use crate::{DataArgs, DataConfig, loaded, places};

/// The three splits of a set.
#[derive(Debug)]
pub struct Data {
    /// What is trained on.
    pub train: ImageSet,
    /// What choices are made by.
    pub valid: ImageSet,
    /// What is looked at once, at the end.
    pub test: ImageSet,
    synthetic: bool,
}

/// Names in the reports; those of synthetic data are marked, so that nobody takes one for the other.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    objective: &'static str,
    objective_bound: &'static str,
    relaxed_bound: &'static str,
    /// Log-likelihood of the images given the draws.
    pub log_likelihood: &'static str,
    pub(super) bound: &'static str,
    pub(super) standard_error: &'static str,
    /// Bound of one sample.
    pub elbo: &'static str,
    pub(super) kl: &'static str,
}

const REAL: Names = Names {
    objective: "objective_no_bound",
    objective_bound: "objective_bound",
    relaxed_bound: "objective_relaxed_bound",
    log_likelihood: "log_likelihood",
    bound: "bound",
    standard_error: "bound_standard_error",
    elbo: "elbo",
    kl: "kl",
};

const SYNTHETIC: Names = Names {
    objective: "synthetic_objective_no_bound",
    objective_bound: "synthetic_objective_bound",
    relaxed_bound: "synthetic_objective_relaxed_bound",
    log_likelihood: "synthetic_log_likelihood",
    bound: "synthetic_bound",
    standard_error: "synthetic_bound_standard_error",
    elbo: "synthetic_elbo",
    kl: "synthetic_kl",
};

impl Names {
    /// The objective as it was trained, by what it is a bound of.
    #[must_use]
    pub fn objective(&self, bounds: BoundOf) -> &'static str {
        match bounds {
            BoundOf::DiscreteModel => self.objective_bound,
            BoundOf::RelaxedModel => self.relaxed_bound,
            _ => self.objective,
        }
    }
}

impl Data {
    /// Loads, verifies and binarises; says in one line where the images come from.
    pub fn load(config: &DataConfig, args: &DataArgs) -> Result<Self> {
        let regime = config.binarisation;
        let set = |images| loaded(ImageSet::new(Arc::new(images), regime));
        let [mut train, valid, test] = splits(config, args)?;
        if !config.held_out {
            train = loaded(train.and(&valid))?;
        }
        let data = Self {
            train: set(train)?,
            valid: set(valid)?,
            test: set(test)?,
            synthetic: config.dataset.is_synthetic(),
        };
        let images = data.train.images();
        let [train, valid, test] = [&data.train, &data.valid, &data.test].map(ImageSet::len);
        tracing::info!(
            "data: {}, {train} images to train on, {valid} to validate, {test} to test, binarisation {regime}, {}",
            images.title(),
            images.origin()
        );
        if data.synthetic {
            tracing::warn!(
                "SYNTHETIC data: these numbers compare with nothing published; --dataset mnist has the real thing"
            );
        }
        Ok(data)
    }

    /// Starts a run of an experiment, or goes on with one; the images are part of its identity.
    pub fn start_run<C: Serialize>(
        &self,
        experiment: &str,
        args: &RunArgs,
        config: &C,
        seed: u64,
    ) -> Result<Run> {
        let mut run = Run::start(experiment, args, &to_toml(config)?, seed)?;
        run.identify("data.train", self.train.identity())?;
        run.identify("data.valid", self.valid.identity())?;
        run.identify("data.test", self.test.identity())?;
        Ok(run)
    }

    /// The training images of a micro-batch, of a batch of so many.
    pub fn batch(
        &self,
        micro: MicroBatch,
        batch_size: usize,
        key: Key,
        device: &Device,
    ) -> Result<Tensor> {
        loaded(self.train.batch(micro.index, micro.share(batch_size)?, key.named("data"), device))
    }

    /// Whether the images are drawn by the program.
    #[must_use]
    pub fn is_synthetic(&self) -> bool {
        self.synthetic
    }

    /// What numbers about these images are called.
    #[must_use]
    pub fn names(&self) -> Names {
        if self.synthetic { SYNTHETIC } else { REAL }
    }
}

/// The images for training, validation and test.
fn splits(config: &DataConfig, args: &DataArgs) -> Result<[Images; 3]> {
    if let Some(path) = &config.path {
        return loaded(load_own(path));
    }
    let found_in = places(args.data_dir.clone());
    let split = |split| loaded(load(&config.dataset, split, &found_in));
    Ok([split(Split::Train)?, split(Split::Valid)?, split(Split::Test)?])
}
