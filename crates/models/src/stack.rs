//! What transformers that read symbols have in common: embeddings and blocks.
use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use gumbel_kernels::{AttentionMask, add, attention, embedding, gelu, layer_norm, linear};

use crate::TransformerConfig;

/// Added to the variance in every layer normalisation.
const EPSILON: f64 = 1e-5;

/// Units of the hidden layer of a block, in widths.
const EXPANSION: usize = 4;

/// Standard deviation of embeddings and output layers.
pub(crate) const EMBEDDING_SCALE: f64 = 0.02;
/// Of embeddings and output layers.
pub(crate) const EMBEDDING: Init = Init::Randn { mean: 0., stdev: EMBEDDING_SCALE };

/// Symbols to what stands for them in their context.
#[derive(Clone, Debug)]
pub(crate) struct Stack {
    context: usize,
    symbols: Tensor,
    positions: Tensor,
    blocks: Vec<Block>,
    norm: Norm,
}

impl Stack {
    /// # Errors
    /// If [`TransformerConfig::check`] finds something.
    pub(crate) fn new(
        config: &TransformerConfig,
        mask: AttentionMask,
        builder: &VarBuilder<'_>,
    ) -> Result<Self> {
        config.check().map_err(candle_core::Error::msg)?;
        let TransformerConfig { vocabulary, width, heads, layers, context, .. } = *config;
        let table = |name: &str, rows: usize| {
            builder.pp(name).get_with_hints((rows, width), "weight", EMBEDDING)
        };
        let blocks = builder.pp("blocks");
        let block = |layer: usize| Block::new(width, heads, mask, &blocks.pp(layer));
        Ok(Self {
            context,
            symbols: table("symbols", vocabulary)?,
            positions: table("positions", context)?,
            blocks: (0..layers).map(block).collect::<Result<_>>()?,
            norm: Norm::new(width, &builder.pp("norm"))?,
        })
    }

    /// `ids: [B, T]` of `u32`, `T` at most the context → `[B, T, D]`.
    pub(crate) fn hidden(&self, ids: &Tensor) -> Result<Tensor> {
        self.transform(&embedding(&self.symbols, ids)?)
    }

    /// What symbols look like before their places are known: `ids: [B, T]` → `[B, T, D]`.
    pub(crate) fn embed(&self, ids: &Tensor) -> Result<Tensor> {
        embedding(&self.symbols, ids)
    }

    /// [`Self::embed`] of mixtures of symbols, `[B, T, V]`.
    pub(crate) fn embed_mixtures(&self, mixtures: &Tensor) -> Result<Tensor> {
        mixtures.broadcast_matmul(&self.symbols)
    }

    /// [`Self::hidden`] of what is embedded already: `[B, T, D]` → `[B, T, D]`.
    pub(crate) fn transform(&self, x: &Tensor) -> Result<Tensor> {
        let (_, length, _) = x.dims3()?;
        if length > self.context {
            candle_core::bail!(
                "a sequence of {length} symbols is longer than the context of {}",
                self.context
            )
        }
        let mut x = add(x, &self.positions.narrow(0, 0, length)?)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        self.norm.forward(&x)
    }
}

#[derive(Clone, Debug)]
struct Block {
    heads: usize,
    mask: AttentionMask,
    attention_norm: Norm,
    qkv: Linear,
    attention_output: Linear,
    hidden_norm: Norm,
    expand: Linear,
    contract: Linear,
}

impl Block {
    fn new(
        width: usize,
        heads: usize,
        mask: AttentionMask,
        builder: &VarBuilder<'_>,
    ) -> Result<Self> {
        let (attention, hidden) = (builder.pp("attention"), builder.pp("hidden"));
        let units = EXPANSION * width;
        Ok(Self {
            heads,
            mask,
            attention_norm: Norm::new(width, &attention.pp("norm"))?,
            qkv: Linear::new(width, 3 * width, &attention.pp("qkv"))?,
            attention_output: Linear::new(width, width, &attention.pp("output"))?,
            hidden_norm: Norm::new(width, &hidden.pp("norm"))?,
            expand: Linear::new(width, units, &hidden.pp("expand"))?,
            contract: Linear::new(units, width, &hidden.pp("contract"))?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let qkv = self.qkv.forward(&self.attention_norm.forward(x)?)?;
        let attended = attention(&qkv, self.heads, self.mask)?;
        let x = add(x, &self.attention_output.forward(&attended)?)?;
        let units = gelu(&self.expand.forward(&self.hidden_norm.forward(&x)?)?)?;
        add(&x, &self.contract.forward(&units)?)
    }
}

#[derive(Clone, Debug)]
struct Norm {
    scale: Tensor,
    shift: Tensor,
}

impl Norm {
    fn new(width: usize, builder: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            scale: builder.get_with_hints(width, "scale", Init::Const(1.))?,
            shift: builder.get_with_hints(width, "shift", Init::Const(0.))?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        layer_norm(x, &self.scale, &self.shift, EPSILON)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    pub(crate) fn new(input: usize, output: usize, builder: &VarBuilder<'_>) -> Result<Self> {
        let bound = (6. / (input + output) as f64).sqrt();
        Self::scaled(Init::Uniform { lo: -bound, up: bound }, (input, output), builder)
    }

    /// With weights of another start.
    pub(crate) fn scaled(
        weights: Init,
        (input, output): (usize, usize),
        builder: &VarBuilder<'_>,
    ) -> Result<Self> {
        Ok(Self {
            weight: builder.get_with_hints((output, input), "weight", weights)?,
            bias: builder.get_with_hints(output, "bias", Init::Const(0.))?,
        })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        linear(x, &self.weight, &self.bias)
    }
}
