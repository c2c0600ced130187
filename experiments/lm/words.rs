//! What a run says at its end.
use std::fmt::Write;

use gumbel_experiments::mark;
use gumbel_models::{Choice, LanguageModel, Written};
use gumbel_training::Result;

use crate::evaluate::Evaluator;
use crate::summary::{Measured, Summary};

/// Texts of each code, or in all.
const TEXTS: (usize, usize) = (2, 6);
/// Codes that texts are shown of, at most.
const CODES: u32 = 8;
/// Symbols of a text, at most.
const LENGTH: usize = 60;

/// The numbers of a run in words.
pub(crate) fn result(summary: &Summary) -> String {
    let mark = mark(summary.synthetic);
    let mut text = format!(
        "{mark}{}, test set, nats per sequence of {:.1} symbols, after {} steps with {} parameters ({} generative):\n",
        summary.corpus,
        summary.symbols,
        summary.steps,
        summary.parameters.all,
        summary.parameters.generative
    );
    for (name, measured) in [
        ("exact log-likelihood of the model", summary.log_prob),
        ("exact log-likelihood of the language", summary.truth),
        ("model gap", summary.model_gap),
        ("elbo", summary.elbo),
        ("inference gap", summary.inference_gap),
    ] {
        if let Some(Measured { mean, standard_error }) = measured {
            let _ = writeln!(text, "  {name:38} {mean:9.3} ± {standard_error:.3}");
        }
    }
    for bound in &summary.bounds {
        let name = format!("bound of {} samples ({} sequences)", bound.samples, bound.sequences);
        let _ = writeln!(text, "  {name:38} {:9.3} ± {:.3}", bound.mean, bound.standard_error);
    }
    // Where the likelihood is too much to sum, the best bound stands for it.
    let best = summary.bounds.iter().max_by_key(|bound| bound.samples);
    if let (None, Some(Measured { mean, standard_error })) =
        (summary.model_gap, best.and_then(|bound| bound.gap))
    {
        let name = "what that bound lacks to the language";
        let _ = writeln!(text, "  {name:38} {mean:9.3} ± {standard_error:.3}");
    }
    let codes = summary.codes.as_ref();
    for (name, number) in [
        ("divergence of posterior and prior", codes.and_then(|codes| codes.kl)),
        ("mutual information of text and codes", codes.and_then(|codes| codes.mutual_information)),
        ("perplexity of a code", codes.map(|codes| codes.code_perplexity)),
        (
            "agreement with the language's latents",
            codes.and_then(|codes| codes.normalised_mutual_information),
        ),
    ] {
        if let Some(number) = number {
            let _ = writeln!(text, "  {name:38} {number:9.3}");
        }
    }
    let of = summary.perplexity_samples.map_or_else(String::new, |n| format!(", {n} samples"));
    for (name, number) in [
        ("perplexity per symbol", Some(summary.perplexity)),
        ("perplexity per word", summary.word_perplexity),
        ("bits per character", summary.bits_per_character),
    ] {
        if let Some(number) = number {
            let _ = writeln!(text, "  {:38} {number:9.3}", format!("{name}{of}"));
        }
    }
    text
}

/// Texts that the model writes: some for each value of the first code, or of the state of a whole text.
pub(crate) fn samples(evaluator: &Evaluator<'_>) -> Result<String> {
    let mut text = String::new();
    let (data, model) = (evaluator.data, &evaluator.model);
    let (end, length) = (data.symbols.boundary, data.longest().min(LENGTH));
    // The first of many states says only how a text begins.
    let tells = |latents: usize| latents == 1 || matches!(model, LanguageModel::Codes(_));
    let codes: Vec<Vec<u32>> = match model.latents_of(length) {
        Some((latents, values)) if tells(latents) => {
            (0..CODES.min(values as u32)).map(|code| vec![code]).collect()
        }
        _ => vec![vec![]],
    };
    for code in codes {
        let count = if code.is_empty() { TEXTS.1 } else { TEXTS.0 };
        let prompts = vec![vec![data.symbols.start]; count];
        let key = evaluator.key.named("samples");
        let Written { symbols, codes } = model.write(
            &prompts,
            &code,
            (length, end),
            &Choice::default(),
            key,
            evaluator.device,
        )?;
        for (symbols, codes) in symbols.iter().zip(&codes) {
            let _ = writeln!(text, "{} {}", tag(codes), data.symbols.text(symbols));
        }
    }
    Ok(text)
}

/// `[3 0 7]`; nothing without codes.
pub(crate) fn tag(codes: &[u32]) -> String {
    if codes.is_empty() {
        return String::new();
    }
    let codes: Vec<String> = codes.iter().map(u32::to_string).collect();
    format!("[{}]", codes.join(" "))
}
