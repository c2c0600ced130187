//! What infers latents from the words.
use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use gumbel_kernels::{AttentionMask, add, embedding};

use crate::segments::sum_segments;
use crate::stack::{EMBEDDING, Linear, Stack};
use crate::{Sequences, TransformerConfig};

/// A bidirectional transformer that reads each symbol together with the one before it, and whose outputs are averaged over
/// segments: pairs of neighbours, which a decoder predicts, are there to be seen from the first step on.
#[derive(Clone, Debug)]
pub(crate) struct Encoder {
    stack: Stack,
    before: Tensor,
    output: Linear,
}

impl Encoder {
    /// Of `layers` blocks; none if there are none.
    pub(crate) fn new(
        decoder: &TransformerConfig,
        layers: usize,
        outputs: usize,
        builder: &VarBuilder<'_>,
    ) -> Result<Option<Self>> {
        if layers == 0 {
            return Ok(None);
        }
        let sizes = Self::sizes(decoder, layers);
        let encoder = builder.pp("encoder");
        let table = (decoder.vocabulary, decoder.width);
        Ok(Some(Self {
            stack: Stack::new(&sizes, AttentionMask::Full, &encoder)?,
            before: encoder.pp("before").get_with_hints(table, "weight", EMBEDDING)?,
            output: Linear::new(decoder.width, outputs, &builder.pp("posterior"))?,
        }))
    }

    /// What is wrong with the number of layers, if anything.
    pub(crate) fn check(
        decoder: &TransformerConfig,
        layers: usize,
    ) -> std::result::Result<(), String> {
        match layers {
            0 => Ok(()),
            _ => Self::sizes(decoder, layers).check().map_err(|error| format!("encoder_{error}")),
        }
    }

    fn sizes(decoder: &TransformerConfig, layers: usize) -> TransformerConfig {
        TransformerConfig { layers, window: None, ..*decoder }
    }

    /// `[B, N, outputs]` of the segments of `x`.
    pub(crate) fn forward(&self, x: &Sequences, segment: usize) -> Result<Tensor> {
        let symbols = add(&self.stack.embed(&x.targets)?, &embedding(&self.before, &x.inputs)?)?;
        let h = self.stack.transform(&symbols)?;
        let t = h.dim(1)?;
        let n = t.div_ceil(segment);
        let sizes: Vec<f64> = (0..n).map(|s| (t - s * segment).min(segment) as f64).collect();
        let sizes = Tensor::from_vec(sizes, (1, n, 1), h.device())?.to_dtype(h.dtype())?;
        self.output.forward(&sum_segments(&h, segment)?.broadcast_div(&sizes)?)
    }
}
