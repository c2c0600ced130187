//! W2: the linear model of Maddison et al. (2017) with binary Concrete latents and five samples.
use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use gumbel::Key;
use gumbel::distributions::Bernoulli;
use gumbel::estimators::{Estimator, GumbelSoftmax, Site, Trace};
use gumbel::objectives::Iwae;
use gumbel_kernels::bernoulli_log_prob;
use gumbel_models::{Activation, Mlp};
use gumbel_training::{OptimizerConfig, Params};

use super::training::{Images, PIXELS, Training, start_as_pytorch};
use super::{Example, Workload};

const BATCH: usize = 64;
const LATENTS: usize = 200;
const SAMPLES: usize = 5;

/// 784-200-784, multi-sample bound with densities in logit coordinates, learned prior, Adam.
struct BinaryConcrete {
    encoder: Mlp,
    decoder: Mlp,
    prior: Bernoulli,
    estimator: GumbelSoftmax,
    training: Training,
    images: Images,
    noise: Key,
    steps: u64,
}

pub(crate) fn new(device: &Device) -> Result<Box<dyn Workload>> {
    let key = Key::from_seed(2);
    let params = Params::new(key.named("init"), DType::F32, device);
    let linear = |input, output, name| {
        let builder = params.var_builder().pp(name);
        Mlp::new(input, &[], output, Activation::Relu, &builder)
    };
    let encoder = linear(PIXELS, LATENTS, "encoder")?;
    let decoder = linear(LATENTS, PIXELS, "decoder")?;
    start_as_pytorch(&params, key.named("init"))?;
    let zeros = Tensor::zeros((1, 1, LATENTS), DType::F32, device)?;
    let prior = Bernoulli::from_logits(&params.parameter("prior.logits", &zeros)?)?;
    Ok(Box::new(BinaryConcrete {
        encoder,
        decoder,
        prior,
        estimator: GumbelSoftmax {
            prior_temperature: 0.5.into(),
            ..GumbelSoftmax::new(SAMPLES, 2. / 3.)
        },
        training: Training::new(params, &OptimizerConfig::default())?,
        images: Images::new(key.named("images"), device)?,
        noise: key.named("noise"),
        steps: 0,
    }))
}

impl BinaryConcrete {
    fn log_likelihood(&self, x: &Tensor, trace: &mut Trace<'_>) -> candle_core::Result<Tensor> {
        let posterior = Bernoulli::from_logits(&self.encoder.forward(x)?.unsqueeze(0)?)?;
        let bits = trace.sample("z", &posterior, &self.prior)?;
        let signs = bits.affine(2., -1.)?;
        bernoulli_log_prob(&self.decoder.forward(&signs)?, x)
    }

    fn loss(&self, x: &Tensor, key: Key) -> Result<Tensor> {
        let program = |trace: &mut Trace<'_>| self.log_likelihood(x, trace);
        Ok(self.estimator.surrogate(&program, &Iwae, key)?.loss)
    }
}

impl Workload for BinaryConcrete {
    fn step(&mut self) -> Result<f64> {
        let x = self.images.batch(self.steps, BATCH)?;
        let loss = self.loss(&x, self.noise.fold_in(self.steps))?;
        self.steps += 1;
        self.training.descend(loss)
    }

    fn example(&mut self) -> Result<Option<Example>> {
        // At a prior of zeros a wrong sign would not show.
        let (device, params) = (self.images.device(), &self.training.params);
        let prior = self.noise.named("prior").uniform((1, 1, LATENTS), DType::F32, device)?;
        params.set("prior.logits", &prior)?;
        let x = self.images.batch(0, BATCH)?;
        let shape = (SAMPLES, BATCH, LATENTS);
        let noise = Site::from("z").key(self.noise).logistic(shape, DType::F32, device)?;
        let loss = self.loss(&x, self.noise)?;
        Example::new(&loss, params, [("x", &x), ("logistic", &noise)]).map(Some)
    }
}
