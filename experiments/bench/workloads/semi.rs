//! S: the semi-supervised model of Jang et al. (2017), its class drawn relaxed or summed over; random images and labels.
use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use gumbel::Key;
use gumbel::estimators::{Enumerate, Estimator, GumbelSoftmax, Independent, Objective, Trace};
use gumbel::objectives::Elbo;
use gumbel_models::{
    ImagesWithLabels, LatentVariableModel, SemiSupervisedVae, SemiSupervisedVaeConfig,
};
use gumbel_training::{OptimizerConfig, Params};

use super::Workload;
use super::training::{Images, PIXELS, Training};

const UNLABELLED: usize = 100;
const LABELLED: usize = 50;

/// Sizes and weights of `semi/configs/jang.toml`, Adam.
struct SemiSupervised {
    model: SemiSupervisedVae,
    classes: usize,
    estimator: Box<dyn Estimator>,
    training: Training,
    images: Images,
    key: Key,
    steps: u64,
}

/// A relaxed draw at temperature 1.
pub(crate) fn drawn(device: &Device, classes: usize) -> Result<Box<dyn Workload>> {
    new(device, classes, Box::new(GumbelSoftmax::new(1, 1.)))
}

/// The sum over all classes.
pub(crate) fn summed(device: &Device, classes: usize) -> Result<Box<dyn Workload>> {
    new(device, classes, Box::new(Enumerate { samples: 1 }))
}

fn new(
    device: &Device,
    classes: usize,
    estimator: Box<dyn Estimator>,
) -> Result<Box<dyn Workload>> {
    let key = Key::from_seed(1);
    let params = Params::new(key.named("init"), DType::F32, device);
    let config =
        SemiSupervisedVaeConfig { classes, style: 10, channels: [16, 32, 64], hidden: 128 };
    let mean = Tensor::full(0.13f32, PIXELS, device)?;
    let model = SemiSupervisedVae::new(&config, (28, 28), &mean, &params.var_builder())?;
    Ok(Box::new(SemiSupervised {
        model,
        classes,
        estimator,
        training: Training::new(params, &OptimizerConfig::default())?,
        images: Images::new(key.named("images"), device)?,
        key,
        steps: 0,
    }))
}

impl SemiSupervised {
    fn labels(&self, key: Key) -> Result<Tensor> {
        let device = self.images.device();
        let logits = key.gumbel((LABELLED, self.classes), DType::F32, device)?;
        let labels = logits.argmax_keepdim(1)?;
        let classes = Tensor::arange(0, self.classes as u32, device)?.unsqueeze(0)?;
        let one_hot = labels.broadcast_eq(&classes)?.to_dtype(DType::F32)?;
        Ok(one_hot.reshape((1, LABELLED, 1, self.classes))?)
    }
}

impl Workload for SemiSupervised {
    fn step(&mut self) -> Result<f64> {
        let (key, elbo) = (self.key.fold_in(self.steps), Elbo::default());
        let unlabelled =
            ImagesWithLabels { x: self.images.batch(self.steps, UNLABELLED)?, labels: None };
        let program = |trace: &mut Trace<'_>| self.model.log_likelihood(&unlabelled, trace);
        let loss = self.estimator.surrogate(&program, &elbo, key.named("noise"))?.loss;
        let labels = Some(self.labels(key.named("labels"))?);
        let labelled = ImagesWithLabels { x: self.images.batch(self.steps, LABELLED)?, labels };
        let program = |trace: &mut Trace<'_>| self.model.log_likelihood(&labelled, trace);
        let mut sampler = Independent { samples: 1 };
        let (log_px, sites) = Trace::run(&program, &mut sampler, key.named("labelled"))?;
        let bound = (elbo.log_weights(&log_px, &sites)?.mean_all()? * 0.002)?;
        let log_q = (self.model.log_prob_of_labels(&labelled)?.mean_all()? * 30.)?;
        self.steps += 1;
        self.training.descend(((loss - bound)? - log_q)?)
    }
}
