//! W1: the categorical VAE of Jang et al. (2017) on a soft Gumbel-Softmax sample.
use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use gumbel::Key;
use gumbel::distributions::Categorical;
use gumbel::estimators::{Estimator, GumbelSoftmax, Site, Trace};
use gumbel::objectives::Elbo;
use gumbel_kernels::bernoulli_log_prob;
use gumbel_models::{Activation, Mlp};
use gumbel_training::{OptimizerConfig, Params};

use super::training::{Images, PIXELS, Training, start_as_pytorch};
use super::{Example, Workload};

const BATCH: usize = 100;
const LATENTS: usize = 30;
const CATEGORIES: usize = 10;

/// 784-512-256-(30 × 10)-256-512-784, temperature 1, analytic divergence from a uniform prior, Adam.
struct CategoricalVae {
    encoder: Mlp,
    decoder: Mlp,
    prior: Categorical,
    training: Training,
    images: Images,
    noise: Key,
    steps: u64,
}

pub(crate) fn new(device: &Device) -> Result<Box<dyn Workload>> {
    let key = Key::from_seed(1);
    let params = Params::new(key.named("init"), DType::F32, device);
    let (builder, code) = (params.var_builder(), LATENTS * CATEGORIES);
    let mlp = |input, hidden: &[usize], output, name| {
        Mlp::new(input, hidden, output, Activation::Relu, &builder.pp(name))
    };
    let encoder = mlp(PIXELS, &[512, 256], code, "encoder")?;
    let decoder = mlp(code, &[256, 512], PIXELS, "decoder")?;
    start_as_pytorch(&params, key.named("init"))?;
    let logits = Tensor::zeros((1, 1, LATENTS, CATEGORIES), DType::F32, device)?;
    Ok(Box::new(CategoricalVae {
        encoder,
        decoder,
        prior: Categorical::from_logits(&logits)?,
        training: Training::new(params, &OptimizerConfig::default())?,
        images: Images::new(key.named("images"), device)?,
        noise: key.named("noise"),
        steps: 0,
    }))
}

impl CategoricalVae {
    fn log_likelihood(&self, x: &Tensor, trace: &mut Trace<'_>) -> candle_core::Result<Tensor> {
        let logits = self.encoder.forward(x)?.reshape((1, BATCH, LATENTS, CATEGORIES))?;
        let posterior = Categorical::from_logits(&logits)?;
        let z = trace.sample("z", &posterior, &self.prior)?;
        bernoulli_log_prob(&self.decoder.forward(&z.flatten_from(2)?)?, x)
    }

    fn loss(&self, x: &Tensor, key: Key) -> Result<Tensor> {
        let program = |trace: &mut Trace<'_>| self.log_likelihood(x, trace);
        let estimator = GumbelSoftmax::new(1, 1.);
        Ok(estimator.surrogate(&program, &Elbo::default(), key)?.loss)
    }
}

impl Workload for CategoricalVae {
    fn step(&mut self) -> Result<f64> {
        let x = self.images.batch(self.steps, BATCH)?;
        let loss = self.loss(&x, self.noise.fold_in(self.steps))?;
        self.steps += 1;
        self.training.descend(loss)
    }

    fn example(&mut self) -> Result<Option<Example>> {
        let x = self.images.batch(0, BATCH)?;
        let shape = (1, BATCH, LATENTS, CATEGORIES);
        let noise = Site::from("z").key(self.noise).gumbel(shape, DType::F32, x.device())?;
        let loss = self.loss(&x, self.noise)?;
        Example::new(&loss, &self.training.params, [("x", &x), ("gumbel", &noise)]).map(Some)
    }
}
