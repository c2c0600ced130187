//! The result of a run.
use gumbel_datasets::Dataset;
use gumbel_metrics::{Mean, bits_per_dim, perplexity};
use gumbel_training::Result;
use serde::Serialize;

use crate::averages::Averages;
use crate::codes::Codes;
use crate::evaluate::Evaluator;

/// Numbers that are trained.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Parameters {
    /// Of the distribution over words: what models are compared at.
    pub(crate) generative: usize,
    /// With those of inference.
    pub(crate) all: usize,
}

/// A mean with its standard error.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) mean: f64,
    pub(crate) standard_error: f64,
}

impl From<&Mean> for Measured {
    fn from(mean: &Mean) -> Self {
        Self { mean: mean.mean(), standard_error: mean.standard_error() }
    }
}

/// The result of a run: `summary.json`. Nats per sequence of the test set, unless a name says otherwise.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) corpus: String,
    pub(crate) synthetic: bool,
    pub(crate) steps: u64,
    pub(crate) parameters: Parameters,
    /// Mean number of symbols of a sequence, its end included.
    pub(crate) symbols: f64,
    /// `log p(x)`, summed over all latents.
    pub(crate) log_prob: Option<Measured>,
    /// The best that is known of `log p(x)`: itself, or its bound of the most samples.
    pub(crate) bound: f64,
    pub(crate) standard_error: f64,
    /// Samples of that bound; none where it is `log p(x)` itself.
    pub(crate) samples: Option<usize>,
    /// `exp` of minus the exact likelihood per symbol where it is known, else of minus the best bound that is of all test
    /// sequences.
    pub(crate) perplexity: f64,
    /// Samples of that bound; none where it is the likelihood.
    pub(crate) perplexity_samples: Option<usize>,
    /// The same per word of the original text, ends of lines among them; nothing of a language.
    pub(crate) word_perplexity: Option<f64>,
    /// Bits per character of the original text.
    pub(crate) bits_per_character: Option<f64>,
    /// `log p(x)` of the language itself.
    pub(crate) truth: Option<Measured>,
    /// `truth - log_prob`: what the model does not know.
    pub(crate) model_gap: Option<Measured>,
    /// Single-sample bound.
    pub(crate) elbo: Option<Measured>,
    /// `log_prob - elbo`: what the posterior does not know.
    pub(crate) inference_gap: Option<Measured>,
    /// Bounds of many samples, of some sequences.
    pub(crate) bounds: Vec<Bound>,
    pub(crate) codes: Option<CodeSummary>,
}

/// A bound of many samples.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Bound {
    pub(crate) samples: usize,
    pub(crate) sequences: u64,
    pub(crate) mean: f64,
    pub(crate) standard_error: f64,
    /// What it lacks to `log p(x)` of the language on these sequences, where that is known: gap of the model, of its
    /// posterior, and of the bound together.
    pub(crate) gap: Option<Measured>,
}

/// What the latents say.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CodeSummary {
    /// `KL(q(z|x) ‖ p(z))`.
    pub(crate) kl: Option<f64>,
    /// `I(x; z)` under the posterior, of all codes of a sequence together.
    pub(crate) mutual_information: Option<f64>,
    /// `KL(q(z) ‖ p(z))` of the aggregated posterior: `kl - mutual_information`.
    aggregated_posterior_kl: Option<f64>,
    /// Of each variable by itself.
    mutual_information_per_variable: Vec<f64>,
    active_variables: usize,
    codes_used: Vec<usize>,
    pub(crate) code_perplexity: f64,
    /// Share of symbols that are the most probable ones given a draw of the codes.
    reconstruction_accuracy: Option<f64>,
    /// Agreement with the latents of the language, normalised mutual information.
    pub(crate) normalised_mutual_information: Option<f64>,
}

impl Summary {
    /// From the averages over the test set.
    pub(crate) fn of(
        evaluator: &Evaluator<'_>,
        test: &Averages,
        bounds: Vec<Bound>,
        steps: u64,
    ) -> Result<Self> {
        let data = evaluator.data;
        let measured = |mean: &Mean| (mean.count() > 0).then(|| mean.into());
        let sequences = data.test.len() as f64;
        let symbols = test.symbols as f64 / sequences;
        let original = data.test.original();
        let codes =
            (test.codes.usage().count() > 0).then(|| CodeSummary::of(&test.codes)).transpose()?;
        let most = bounds.iter().max_by_key(|bound| bound.samples);
        let whole = most.filter(|bound| bound.sequences == data.test.len() as u64);
        let (best, perplexity_samples) = match (test.log_prob.count(), whole) {
            (0, Some(bound)) => (bound.mean, Some(bound.samples)),
            (0, None) => (test.elbo.mean(), Some(1)),
            _ => (test.log_prob.mean(), None),
        };
        let nats = -best * sequences;
        let (bound, standard_error, samples) = match (most, test.log_prob.count()) {
            (Some(bound), 0) => (bound.mean, bound.standard_error, Some(bound.samples)),
            (None, 0) => (test.elbo.mean(), test.elbo.standard_error(), Some(1)),
            _ => (test.log_prob.mean(), test.log_prob.standard_error(), None),
        };
        Ok(Self {
            corpus: data.symbols.name.clone(),
            synthetic: data.symbols.is_synthetic(),
            steps,
            parameters: evaluator.parameters,
            symbols,
            log_prob: measured(&test.log_prob),
            bound,
            standard_error,
            samples,
            perplexity: perplexity(-best / symbols),
            perplexity_samples,
            word_perplexity: original.map(|text| perplexity(nats / text.words as f64)),
            bits_per_character: original.map(|text| bits_per_dim(nats, text.characters)),
            truth: measured(&test.truth),
            model_gap: measured(&test.model_gap),
            elbo: measured(&test.elbo),
            inference_gap: measured(&test.inference_gap),
            bounds,
            codes,
        })
    }
}

impl CodeSummary {
    fn of(codes: &Codes) -> Result<Self> {
        let (kl, information) = (mean(&codes.kl), codes.mutual_information()?);
        Ok(Self {
            kl,
            mutual_information: information,
            aggregated_posterior_kl: mean(&codes.joint_kl)
                .zip(information)
                .map(|(kl, information)| kl - information),
            mutual_information_per_variable: codes.usage().mutual_information(),
            active_variables: codes.usage().active_variables(0.01),
            codes_used: codes.usage().codes_used(),
            code_perplexity: codes.usage().perplexity(),
            reconstruction_accuracy: mean(&codes.reconstruction),
            normalised_mutual_information: codes.agreement(),
        })
    }
}

/// The mean of what was measured at all.
fn mean(mean: &Mean) -> Option<f64> {
    (mean.count() > 0).then(|| mean.mean())
}
