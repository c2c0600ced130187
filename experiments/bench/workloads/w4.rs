//! W4: a language model, the decoder-only transformer.
use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use gumbel::Key;
use gumbel_models::{Transformer, TransformerConfig};
use gumbel_training::{AdamConfig, OptimizerConfig, Params};

use super::training::Training;
use super::{Example, Workload};

const BATCH: usize = 16;
const BATCHES: usize = 50;
const CONFIG: TransformerConfig = TransformerConfig {
    vocabulary: 10_000,
    width: 256,
    heads: 4,
    layers: 4,
    context: 128,
    window: None,
};

/// 4 layers of 4 heads and width 256 on 16 sequences of 128 out of 10,000 words, AdamW.
struct LanguageModel {
    model: Transformer,
    training: Training,
    /// `[BATCHES, BATCH, context + 1]`.
    words: Tensor,
    steps: usize,
}

pub(crate) fn new(device: &Device) -> Result<Box<dyn Workload>> {
    let key = Key::from_seed(1);
    let params = Params::new(key.named("init"), DType::F32, device);
    let model = Transformer::new(&CONFIG, &params.var_builder())?;
    let adam = OptimizerConfig::Adam(AdamConfig { weight_decay: 0.01, ..AdamConfig::default() });
    let shape = (BATCHES, BATCH, CONFIG.context + 1);
    let uniform = key.named("words").uniform(shape, DType::F64, &Device::Cpu)?;
    let words = (uniform * CONFIG.vocabulary as f64)?.to_dtype(DType::U32)?.to_device(device)?;
    let training = Training::new(params, &adam)?;
    Ok(Box::new(LanguageModel { model, training, words, steps: 0 }))
}

impl LanguageModel {
    /// Words and those that follow them, `[BATCH, context]` each.
    fn batch(&self, step: usize) -> Result<[Tensor; 2]> {
        let batch = self.words.get(step % BATCHES)?;
        let part = |first| batch.narrow(1, first, CONFIG.context)?.contiguous();
        Ok([part(0)?, part(1)?])
    }
}

impl Workload for LanguageModel {
    fn step(&mut self) -> Result<f64> {
        let [words, targets] = self.batch(self.steps)?;
        self.steps += 1;
        self.training.descend(self.model.loss(&words, &targets)?)
    }

    fn example(&mut self) -> Result<Option<Example>> {
        let [words, targets] = self.batch(0)?;
        let loss = self.model.loss(&words, &targets)?;
        let data = [("words", &words), ("targets", &targets)];
        Example::new(&loss, &self.training.params, data).map(Some)
    }
}
