//! W4: a transformer language model on random words.
use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use gumbel::Key;
use gumbel_models::{Transformer, TransformerConfig};
use gumbel_training::{OptimizerConfig, Params};

use super::training::Training;
use super::{Example, Workload};

const SIZES: TransformerConfig =
    TransformerConfig { vocabulary: 10_000, width: 256, heads: 4, layers: 4, context: 128 };

const BATCH: usize = 16;
/// Batches that the steps walk over.
const BATCHES: usize = 50;

/// Mean negative log-likelihood of the next word, AdamW.
struct LanguageModel {
    model: Transformer,
    training: Training,
    /// `[BATCHES, BATCH, context + 1]`.
    words: Tensor,
    steps: usize,
}

pub(crate) fn new() -> Result<Box<dyn Workload>> {
    let key = Key::from_seed(6);
    let params = Params::new(key.named("init"), DType::F32, &Device::Cpu);
    let model = Transformer::new(&SIZES, &params.var_builder())?;
    let shape = (BATCHES, BATCH, SIZES.context + 1);
    let word = |i: usize| key.named("words").word(i as u64) % SIZES.vocabulary as u32;
    let words: Vec<u32> = (0..shape.0 * shape.1 * shape.2).map(word).collect();
    let optimizer =
        OptimizerConfig::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };
    Ok(Box::new(LanguageModel {
        model,
        training: Training::new(params, &optimizer)?,
        words: Tensor::from_vec(words, shape, &Device::Cpu)?,
        steps: 0,
    }))
}

impl LanguageModel {
    /// Words and their successors, `[BATCH, context]` each.
    fn batch(&self) -> Result<[Tensor; 2]> {
        let words = self.words.get(self.steps % BATCHES)?;
        let from = |first| words.narrow(1, first, SIZES.context)?.contiguous();
        Ok([from(0)?, from(1)?])
    }
}

impl Workload for LanguageModel {
    fn step(&mut self) -> Result<f64> {
        let [ids, targets] = self.batch()?;
        let loss = self.model.loss(&ids, &targets)?;
        self.steps += 1;
        self.training.descend(loss)
    }

    fn example(&mut self) -> Result<Option<Example>> {
        let [ids, targets] = self.batch()?;
        let loss = self.model.loss(&ids, &targets)?;
        let others = [("ids", &ids), ("targets", &targets)];
        Example::new(&loss, &self.training.params, others).map(Some)
    }
}
