//! A language model: the decoder-only transformer.
use candle_core::{D, Tensor};
use candle_nn::VarBuilder;
use gumbel_kernels::{AttentionMask, expert_log_probs, linear_cross_entropy};
use serde::{Deserialize, Serialize};

use crate::stack::{EMBEDDING, Stack};

/// A result whose error is candle's, unless said otherwise.
type Result<T, E = candle_core::Error> = std::result::Result<T, E>;

/// Sequences of one length.
#[derive(Clone, Debug)]
pub struct Sequences {
    /// `[B, T]` of `u32`: what each symbol follows; the first follows a start symbol, or the end of what came before.
    pub inputs: Tensor,
    /// `[B, T]` of `u32`: the symbols themselves.
    pub targets: Tensor,
}

/// Sizes of a [`Transformer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformerConfig {
    /// Number of symbols `V`.
    pub vocabulary: usize,
    /// Numbers `D` that stand for a symbol in its context.
    pub width: usize,
    /// Heads of an attention layer; they share the width.
    pub heads: usize,
    /// Number of blocks of attention and hidden layer.
    pub layers: usize,
    /// Length of the longest sequence.
    pub context: usize,
    /// How many symbols back each attention layer sees, itself counted; all if not given. Layers add up: `layers` of a
    /// window of `W` see `layers · (W - 1) + 1` symbols.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
}

/// The size above which one is taken for a mistake.
const MOST: usize = 1 << 20;

impl TransformerConfig {
    /// What is wrong with the sizes, if anything: key, value, what to do.
    ///
    /// # Errors
    /// If a size is 0 or above 2²⁰, or `width` is not a multiple of `heads`.
    pub fn check(&self) -> std::result::Result<(), String> {
        let Self { vocabulary, width, heads, layers, context, window } = *self;
        for (key, size) in [
            ("vocabulary", vocabulary),
            ("width", width),
            ("heads", heads),
            ("layers", layers),
            ("context", context),
            ("window", window.unwrap_or(1)),
        ] {
            if size == 0 || size > MOST {
                return Err(format!("{key} is {size}; use 1 to {MOST}"));
            }
        }
        if !width.is_multiple_of(heads) {
            return Err(format!("width is {width}; use a multiple of the {heads} heads"));
        }
        Ok(())
    }
}

/// Decoder-only transformer: symbols and learned positions, blocks of causal attention and a hidden layer of `4·D`
/// units (GELU, tanh approximation) with layer normalisation before each and a residual connection around, a last
/// normalisation, and an output layer without bias, which does not share the embedding.
///
/// Embeddings and output layer start normal with a standard deviation of 0.02; the weights of other layers are drawn
/// uniformly from `±√(6 / (in + out))` (Glorot and Bengio 2010), biases are 0. No dropout.
///
/// Parameters are named `symbols.weight`, `positions.weight`, `blocks.0.attention.{norm, qkv, output}.*`,
/// `blocks.0.hidden.{norm, expand, contract}.*`, …, `norm.*` and `output.weight`.
///
/// Source: Vaswani et al. (2017); the order of Radford et al. (2019), section 2.3.
#[derive(Clone, Debug)]
pub struct Transformer {
    stack: Stack,
    output: Tensor,
}

impl Transformer {
    /// Builds the model on the parameters of `builder`.
    ///
    /// # Errors
    /// If [`TransformerConfig::check`] finds something.
    pub fn new(config: &TransformerConfig, builder: &VarBuilder<'_>) -> Result<Self> {
        let mask = config.window.map_or(AttentionMask::Causal, AttentionMask::SlidingWindow);
        let size = (config.vocabulary, config.width);
        Ok(Self {
            stack: Stack::new(config, mask, builder)?,
            output: builder.pp("output").get_with_hints(size, "weight", EMBEDDING)?,
        })
    }

    /// What the output layer reads: `ids: [B, T]` of `u32`, `T` at most the context → `[B, T, D]`. A place depends on
    /// the symbols up to it and on no later ones.
    pub fn hidden(&self, ids: &Tensor) -> Result<Tensor> {
        self.stack.hidden(ids)
    }

    /// The output layer's weights, `[V, D]`.
    pub(crate) fn output(&self) -> &Tensor {
        &self.output
    }

    /// Logits of the symbol after each of the last `T` places of `ids: [B, _]`: `[B, T, V]`.
    pub fn logits(&self, ids: &Tensor, last: usize) -> Result<Tensor> {
        self.logits_after(&self.hidden(ids)?, last)
    }

    /// Logits at the last places of what the output layer reads, `[B, _, D]`.
    pub(crate) fn logits_after(&self, hidden: &Tensor, last: usize) -> Result<Tensor> {
        let h = hidden.narrow(1, hidden.dim(1)? - last, last)?.contiguous()?;
        h.broadcast_matmul(&self.output.t()?)
    }

    /// `log p(x_t | x_{<t})` in nats at each place, `[B, T]`.
    pub fn log_probs(&self, x: &Sequences) -> Result<Tensor> {
        self.log_probs_after(&self.hidden(&x.inputs)?, &x.targets)
    }

    /// Embeddings and blocks.
    pub(crate) fn stack(&self) -> &Stack {
        &self.stack
    }

    /// Log-probabilities of `targets: [B, T]` where the output layer reads `hidden: [B, T, D]`, without the logits in
    /// memory.
    pub(crate) fn log_probs_after(&self, hidden: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let (v, _) = self.output.dims2()?;
        let alone = Tensor::zeros((1, v), self.output.dtype(), self.output.device())?;
        expert_log_probs(hidden, &self.output, &alone, targets)?.squeeze(D::Minus1)
    }

    /// Mean negative log-likelihood, in nats per symbol, of `targets: [B, T]` after `ids: [B, T]`, without the logits
    /// in memory.
    pub fn loss(&self, ids: &Tensor, targets: &Tensor) -> Result<Tensor> {
        linear_cross_entropy(&self.hidden(ids)?, &self.output, targets)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use candle_core::{DType, Device, Var};
    use candle_nn::VarMap;
    use gumbel_kernels::cross_entropy;

    use super::*;

    const SIZES: TransformerConfig = TransformerConfig {
        vocabulary: 11,
        width: 8,
        heads: 2,
        layers: 2,
        context: 6,
        window: None,
    };

    fn model() -> Result<(VarMap, Transformer)> {
        sized(&SIZES)
    }

    fn sized(config: &TransformerConfig) -> Result<(VarMap, Transformer)> {
        let variables = VarMap::new();
        let builder = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
        let model = Transformer::new(config, &builder)?;
        Ok((variables, model))
    }

    fn ids(shape: (usize, usize), factor: u32) -> Result<Tensor> {
        let ids: Vec<u32> = (0..shape.0 * shape.1).map(|i| (i as u32 * factor) % 11).collect();
        Tensor::from_vec(ids, shape, &Device::Cpu)
    }

    #[test]
    fn the_loss_is_the_cross_entropy_of_the_logits_and_reaches_every_parameter() -> Result<()> {
        let (variables, model) = model()?;
        let (ids, targets) = (ids((3, 6), 5)?, ids((3, 6), 7)?);
        let loss = model.loss(&ids, &targets)?;
        let logits = model.logits(&ids, 6)?;
        assert_eq!(logits.dims(), [3, 6, 11]);
        let direct = cross_entropy(&logits, &targets)?.mean_all()?;
        let x = Sequences { inputs: ids.clone(), targets: targets.clone() };
        let each = (model.log_probs(&x)? + cross_entropy(&logits, &targets)?)?;
        assert!(each.abs()?.max_all()?.to_scalar::<f32>()? < 1e-5, "{each}");
        let difference = (loss.to_scalar::<f32>()? - direct.to_scalar::<f32>()?).abs();
        assert!(difference < 1e-6, "{loss} {direct}");
        let (gradients, others) = (gumbel_kernels::backward(&loss)?, direct.backward()?);
        // Two embeddings, 12 parameters of each block, a normalisation, the output layer.
        assert_eq!(variables.all_vars().len(), 2 + 2 * 12 + 2 + 1);
        let named: BTreeMap<_, _> = variables.data().lock().unwrap().clone().into_iter().collect();
        for (name, variable) in &named {
            let (ours, direct) = (gradients.get(variable), others.get(variable));
            let (Some(ours), Some(direct)) = (ours, direct) else { panic!("{name}: no gradient") };
            let difference = (ours - direct)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(difference < 1e-6, "{name}: {difference}");
        }
        Ok(())
    }

    #[test]
    fn a_place_depends_on_what_came_before_and_on_its_position() -> Result<()> {
        let (_, model) = model()?;
        let hidden = |ids: [u32; 5]| -> Result<Vec<Vec<f32>>> {
            model.hidden(&Tensor::new(&[ids], &Device::Cpu)?)?.get(0)?.to_vec2()
        };
        let (first, second) = (hidden([1, 2, 2, 4, 5])?, hidden([1, 2, 2, 7, 5])?);
        assert_eq!(first[..3], second[..3]);
        assert!(first[3] != second[3] && first[4] != second[4]);
        let equal = hidden([3; 5])?;
        assert!(equal[1] != equal[2]);
        Ok(())
    }

    /// Two layers of a window of two see three symbols.
    #[test]
    fn a_window_limits_what_a_place_depends_on() -> Result<()> {
        let (_, model) = sized(&TransformerConfig { window: Some(2), ..SIZES })?;
        let hidden = |ids: [u32; 6]| -> Result<Vec<Vec<f32>>> {
            model.hidden(&Tensor::new(&[ids], &Device::Cpu)?)?.get(0)?.to_vec2()
        };
        let (first, second) = (hidden([1, 2, 3, 4, 5, 6])?, hidden([1, 7, 3, 4, 5, 6])?);
        assert_eq!(first[0], second[0]);
        (1..4).for_each(|place| assert!(first[place] != second[place], "{place}"));
        assert_eq!(first[4..], second[4..]);
        Ok(())
    }

    #[test]
    fn steps_down_the_gradient_learn_a_batch() -> Result<()> {
        let (variables, model) = model()?;
        let (ids, targets) = (ids((2, 6), 5)?, ids((2, 6), 7)?);
        let loss = || model.loss(&ids, &targets)?.to_scalar::<f32>();
        let before = loss()?;
        assert!((before - 11f32.ln()).abs() < 0.1, "{before}");
        for _ in 0..60 {
            let gradients = gumbel_kernels::backward(&model.loss(&ids, &targets)?)?;
            for variable in variables.all_vars() {
                let Some(gradient) = gradients.get(&variable) else { panic!("no gradient") };
                Var::set(&variable, &(variable.as_tensor() - (gradient * 0.5)?)?.detach())?;
            }
        }
        let after = loss()?;
        assert!(after < before - 1., "{before} {after}");
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_an_error_that_says_so() -> Result<()> {
        let (_, model) = model()?;
        let error = model.hidden(&ids((1, 7), 1)?).unwrap_err().to_string();
        assert!(error.contains("7 symbols is longer than the context of 6"), "{error}");
        let error = model.hidden(&Tensor::new(&[[11u32]], &Device::Cpu)?).unwrap_err();
        assert!(error.to_string().contains("id 11"), "{error}");
        for (config, expected) in [
            (TransformerConfig { heads: 3, ..SIZES }, "width is 8; use a multiple of the 3 heads"),
            (TransformerConfig { window: Some(0), ..SIZES }, "window is 0"),
            (TransformerConfig { layers: 0, ..SIZES }, "layers is 0"),
            (TransformerConfig { vocabulary: 1 << 21, ..SIZES }, "vocabulary is 2097152"),
        ] {
            let error = config.check().unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        Ok(())
    }
}
