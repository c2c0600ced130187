//! A causal transformer with or without discrete latents.
use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use gumbel::estimators::Trace;
use gumbel::objectives::{exact_log_likelihood, exact_posterior};
use gumbel_kernels::softmax;
use serde::{Deserialize, Serialize};

use crate::{
    CodeLm, CodeLmConfig, LatentVariableModel, Sequences, SwitchLm, SwitchLmConfig, Transformer,
    TransformerConfig,
};

/// What a decoder has beside its words.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Latents {
    /// Nothing.
    None {},
    /// A chain of states: [`SwitchLm`].
    States(SwitchLmConfig),
    /// Codes with an autoregressive prior: [`CodeLm`].
    Codes(CodeLmConfig),
}

impl Latents {
    /// What is wrong with the sizes, if anything: key, value, what to do.
    ///
    /// # Errors
    /// Those of the latents' and the decoder's own checks.
    pub fn check(&self, decoder: &TransformerConfig) -> std::result::Result<(), String> {
        match self {
            Self::None {} => decoder.check(),
            Self::States(config) => config.check(decoder),
            Self::Codes(config) => config.check(decoder),
        }
    }
}

/// A decoder with the latents of a configuration; without any it is the same code, and what they are compared with.
#[derive(Clone, Debug)]
pub enum LanguageModel {
    /// A decoder by itself.
    Decoder(Transformer),
    /// With a chain of states.
    States(SwitchLm),
    /// With codes.
    Codes(CodeLm),
}

impl LanguageModel {
    /// Joint values of codes above which their sum is not taken.
    pub const MOST_JOINT_VALUES: usize = 1 << 12;

    /// How many joint values so many codes have; none if that is more than are summed over.
    #[must_use]
    pub fn joint_values(codes: usize, categories: usize) -> Option<usize> {
        let values = categories.checked_pow(u32::try_from(codes).ok()?)?;
        (values <= Self::MOST_JOINT_VALUES).then_some(values)
    }

    /// Builds the model on the parameters of `builder`; those of the decoder are under `decoder` in each.
    ///
    /// # Errors
    /// If [`Latents::check`] finds something.
    pub fn new(
        decoder: &TransformerConfig,
        latents: &Latents,
        builder: &VarBuilder<'_>,
    ) -> Result<Self> {
        Ok(match latents {
            Latents::None {} => Self::Decoder(Transformer::new(decoder, &builder.pp("decoder"))?),
            Latents::States(config) => Self::States(SwitchLm::new(decoder, config, builder)?),
            Latents::Codes(config) => Self::Codes(CodeLm::new(decoder, config, builder)?),
        })
    }

    /// Whether a parameter is one of the distribution over words. The others only infer, or help training.
    #[must_use]
    pub fn is_generative(parameter: &str) -> bool {
        !["encoder.", "posterior.", "bag.", "estimator."]
            .iter()
            .any(|other| parameter.starts_with(other))
    }

    /// How many rows of a batch [`Self::log_prob`] makes of one sequence of `length` symbols; none where there are too many
    /// joint values of the latents, more than 4096, to sum over.
    #[must_use]
    pub fn rows_of_exact(&self, length: usize) -> Option<usize> {
        match self {
            Self::Decoder(_) | Self::States(_) => Some(1),
            Self::Codes(model) => Self::joint_values(model.codes_of(length), model.categories()),
        }
    }

    /// `log p(x): [B]` in nats, summed over all values of the latents.
    ///
    /// # Errors
    /// If there are more than 2¹⁶ joint values of codes.
    pub fn log_prob(&self, x: &Sequences) -> Result<Tensor> {
        match self {
            Self::Decoder(model) => model.log_probs(x)?.sum(1),
            Self::States(model) => model.log_prob(x),
            Self::Codes(model) => {
                exact_log_likelihood(&|trace: &mut Trace<'_>| model.log_likelihood(x, trace))
            }
        }
    }

    /// How many latents a sequence of `length` symbols has, and how many values each; none without latents.
    #[must_use]
    pub fn latents_of(&self, length: usize) -> Option<(usize, usize)> {
        match self {
            Self::Decoder(_) => None,
            Self::States(model) => Some((length.div_ceil(model.segment()), model.states())),
            Self::Codes(model) => Some((model.codes_of(length), model.categories())),
        }
    }

    /// Whether there is a `q(z|x)` beside the true posterior.
    #[must_use]
    pub fn infers(&self) -> bool {
        match self {
            Self::Decoder(_) => false,
            Self::States(model) => model.infers(),
            Self::Codes(model) => model.infers(),
        }
    }

    /// Probabilities `[B, M, K]` of the latents: under `q(z|x)` of a model that infers, else under the true posterior. None
    /// without latents, or where there are too many values to sum over.
    pub fn posterior(&self, x: &Sequences) -> Result<Option<Tensor>> {
        match self {
            Self::Decoder(_) => Ok(None),
            Self::States(model) if model.infers() => softmax(&model.posterior_logits(x)?).map(Some),
            Self::States(model) => model.smoothed(x).map(Some),
            Self::Codes(model) if model.infers() => softmax(&model.posterior_logits(x)?).map(Some),
            Self::Codes(_) if self.rows_of_exact(x.targets.dim(1)?).is_none() => Ok(None),
            Self::Codes(model) => {
                let program = |trace: &mut Trace<'_>| model.log_likelihood(x, trace);
                Ok(exact_posterior(&program)?.into_iter().next())
            }
        }
    }

    /// Logits `[R, T, V]` of the symbol after each of the last `T` places of `ids: [R, _]`, given one-hot latents `z: [R,
    /// M, K]`, of all segments so far at least, which a decoder by itself does not look at.
    pub fn logits(&self, ids: &Tensor, z: &Tensor, last: usize) -> Result<Tensor> {
        match self {
            Self::Decoder(model) => model.logits(ids, last),
            Self::States(model) => model.logits(ids, z, last),
            Self::Codes(model) => model.logits(ids, z, last),
        }
    }
}

impl LatentVariableModel for LanguageModel {
    type Batch = Sequences;

    fn log_likelihood(&self, x: &Sequences, trace: &mut Trace<'_>) -> Result<Tensor> {
        match self {
            Self::Decoder(model) => model.log_probs(x)?.sum(1)?.unsqueeze(0),
            Self::States(model) => model.log_likelihood(x, trace),
            Self::Codes(model) => model.log_likelihood(x, trace),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Emission;

    #[test]
    fn latents_have_names_in_a_configuration_and_no_key_too_many() {
        let states: Latents =
            toml::from_str("kind = \"states\"\nstates = 4\nencoder_layers = 1").unwrap();
        let expected = SwitchLmConfig {
            states: 4,
            segment: 1,
            emission: Emission::Product,
            gated: true,
            scale: 0.02,
            encoder_layers: 1,
            evidence: false,
        };
        assert_eq!(states, Latents::States(expected));
        let again: Latents = toml::from_str(&toml::to_string(&states).unwrap()).unwrap();
        assert_eq!(again, states);
        assert_eq!(toml::from_str::<Latents>("kind = \"none\""), Ok(Latents::None {}));
        for unknown in ["kind = \"states\"\nstate = 4", "kind = \"none\"\nstate = 4"] {
            let error = toml::from_str::<Latents>(unknown).unwrap_err();
            assert!(error.to_string().contains("unknown field `state`"), "{error}");
        }
    }

    #[test]
    fn parameters_of_inference_are_told_from_those_of_the_words() {
        for (name, generative) in [
            ("decoder.blocks.0.attention.qkv.weight", true),
            ("states.transitions", true),
            ("prior.norm.scale", true),
            ("encoder.norm.scale", false),
            ("posterior.weight", false),
            ("bag.weight", false),
            ("estimator.z.0.log_temperature", false),
        ] {
            assert_eq!(LanguageModel::is_generative(name), generative, "{name}");
        }
    }
}
