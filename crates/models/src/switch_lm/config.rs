//! Sizes and choices of the model.
use serde::{Deserialize, Serialize};

use crate::TransformerConfig;
use crate::defaults::{check_scale, is_false, is_usual_scale, usual_scale};
use crate::encoder::Encoder;

/// The most states.
const MOST_STATES: usize = 1 << 12;

/// How a state rules the words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Emission {
    /// A product of two experts: the state adds to the decoder's logits, whatever came before. `K` states cost `1 + K / D` of
    /// the output layer.
    #[default]
    Product,
    /// Each state reads the decoder in its own way, and so can say what follows which word. `K` states cost `K` output
    /// layers.
    Readout,
}

impl Emission {
    fn is_product(&self) -> bool {
        *self == Self::Product
    }
}

/// Sizes and choices of a [`SwitchLm`](super::SwitchLm), beside its decoder's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchLmConfig {
    /// Number of states `K`; with one the model is the decoder, and a bias of its logits.
    pub states: usize,
    /// Symbols that share a state.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub segment: usize,
    /// How a state rules the words.
    #[serde(default, skip_serializing_if = "Emission::is_product")]
    pub emission: Emission,
    /// Whether what came before changes where the chain goes; else it is a chain by itself.
    #[serde(default = "yes")]
    pub gated: bool,
    /// How large the vectors of states are at the start. Small ones let the decoder start as it would without states; with
    /// large ones it starts as a mixture, whose parts can be told apart.
    #[serde(default = "usual_scale", skip_serializing_if = "is_usual_scale")]
    pub scale: f64,
    /// Blocks of the bidirectional transformer that infers states, of the decoder's width; with 0 nothing does, and the
    /// posterior is uniform.
    pub encoder_layers: usize,
    /// Whether the posterior weighs each state by the likelihood of the segment under it, which the model knows, and the
    /// encoder only says what that leaves out; else the encoder has to find out by itself what states mean.
    #[serde(default, skip_serializing_if = "is_false")]
    pub evidence: bool,
}

fn one() -> usize {
    1
}

fn is_one(n: &usize) -> bool {
    *n == 1
}

fn yes() -> bool {
    true
}

impl SwitchLmConfig {
    /// What is wrong with the sizes, if anything: key, value, what to do.
    ///
    /// # Errors
    /// Those of [`TransformerConfig::check`], also for the encoder's layers, or if there are no states or more than 4096,
    /// or a segment has no symbol or more than the longest sequence, the scale is negative or not finite, or there is evidence without an encoder.
    pub fn check(&self, decoder: &TransformerConfig) -> std::result::Result<(), String> {
        decoder.check()?;
        if !(1..=MOST_STATES).contains(&self.states) {
            return Err(format!("states is {}; use 1 to {MOST_STATES}", self.states));
        }
        let longest = decoder.context;
        if !(1..=longest).contains(&self.segment) {
            return Err(format!("segment is {}; use 1 to {longest}", self.segment));
        }
        check_scale(self.scale)?;
        if self.evidence && self.encoder_layers == 0 {
            return Err("evidence is true, and with encoder_layers = 0 nothing infers; use at least 1 layer".to_owned());
        }
        Encoder::check(decoder, self.encoder_layers)
    }
}
