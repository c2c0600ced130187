//! Sizes and choices of the model.
use serde::{Deserialize, Serialize};

use crate::TransformerConfig;
use crate::defaults::{check_scale, is_false, is_usual_scale, usual_scale};
use crate::encoder::Encoder;

/// The most variables, and the most values of one.
const MOST: usize = 1 << 12;

/// Sizes and choices of a [`CodeLm`](super::CodeLm), beside its decoder's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeLmConfig {
    /// Categorical variables of a segment.
    pub variables: usize,
    /// Values `K` of each.
    pub categories: usize,
    /// Symbols of a segment; if not given, a sequence is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<usize>,
    /// Blocks of the bidirectional transformer that infers codes, of the decoder's width; with 0 nothing does, and the
    /// posterior is uniform.
    pub encoder_layers: usize,
    /// Blocks of the causal transformer that is the prior of the codes, of the decoder's width.
    pub prior_layers: usize,
    /// How large the vectors of codes are at the start, beside those that they change. Small ones let a decoder start as it
    /// would without codes; with large ones it starts as a mixture, whose parts can be told apart.
    #[serde(default = "usual_scale", skip_serializing_if = "is_usual_scale")]
    pub scale: f64,
    /// Whether there is a bag of words that is told the codes, for training.
    #[serde(default, skip_serializing_if = "is_false")]
    pub bag_of_words: bool,
}

impl CodeLmConfig {
    /// What is wrong with the sizes, if anything: key, value, what to do.
    ///
    /// # Errors
    /// Those of [`TransformerConfig::check`], also for the layers of encoder and prior, or if a number of variables,
    /// categories or symbols is 0 or too large.
    pub fn check(&self, decoder: &TransformerConfig) -> std::result::Result<(), String> {
        decoder.check()?;
        let longest = decoder.context;
        for (key, size, most) in [
            ("variables", self.variables, MOST),
            ("categories", self.categories, MOST),
            ("segment", self.segment.unwrap_or(longest), longest),
        ] {
            if !(1..=most).contains(&size) {
                return Err(format!("{key} is {size}; use 1 to {most}"));
            }
        }
        check_scale(self.scale)?;
        Encoder::check(decoder, self.encoder_layers)?;
        let codes = self.count(decoder);
        if codes > MOST {
            return Err(format!(
                "variables is {} for each of the segments, {codes} in all; use at most {MOST}",
                self.variables
            ));
        }
        self.prior(decoder).check().map_err(|error| format!("prior_{error}"))
    }

    /// How many codes the longest sequence has.
    #[must_use]
    pub fn count(&self, decoder: &TransformerConfig) -> usize {
        let segments = self.segment.map_or(1, |segment| decoder.context.div_ceil(segment));
        segments * self.variables
    }

    pub(super) fn prior(&self, decoder: &TransformerConfig) -> TransformerConfig {
        TransformerConfig {
            vocabulary: self.categories,
            layers: self.prior_layers,
            context: self.count(decoder),
            window: None,
            ..*decoder
        }
    }
}
