//! Averages over a split, and what they say.
use candle_core::{D, DType, Result as TensorResult, Tensor};
use gumbel::Key;
use gumbel::estimators::{Independent, Objective, Trace};
use gumbel::objectives::Elbo;
use gumbel_datasets::text::Corpus;
use gumbel_metrics::{Mean, Report, perplexity};
use gumbel_models::{LanguageModel, LatentVariableModel, Sequences};
use gumbel_training::{Evaluation, Result};

use crate::codes::{Codes, Posteriors};
use crate::data::sequences;
use crate::evaluate::Evaluator;

/// Logits in memory at a time.
const LOGITS: usize = 1 << 24;

/// Averages over a split.
#[derive(Default)]
pub(crate) struct Averages {
    pub(crate) symbols: usize,
    pub(crate) log_prob: Mean,
    pub(crate) truth: Mean,
    pub(crate) model_gap: Mean,
    pub(crate) elbo: Mean,
    pub(crate) inference_gap: Mean,
    pub(crate) codes: Codes,
}

impl Averages {
    /// Of at most so many sequences, evenly from all.
    pub(crate) fn of(
        evaluator: &Evaluator<'_>,
        corpus: &Corpus,
        most: usize,
        evaluation: &Evaluation<'_>,
    ) -> Result<Self> {
        let longest = corpus.lengths().max().unwrap_or(1);
        let exact = evaluator.model.rows_of_exact(longest);
        let mut averages = Self::default();
        let batches = evaluator.batches(corpus, most, exact.unwrap_or(1))?;
        for (index, rows) in batches.iter().enumerate() {
            evaluation.check_stop()?;
            let x = sequences(corpus, rows, evaluator.device)?;
            averages.symbols += x.targets.elem_count();
            let log_prob = exact.map(|_| evaluator.model.log_prob(&x)).transpose()?;
            if let Some(log_prob) = &log_prob {
                averages.log_prob.push_tensor(log_prob)?;
            }
            if let Some(truth) = evaluator.truth(corpus, rows) {
                if let Some(log_prob) = &log_prob {
                    let log_prob = log_prob.to_dtype(DType::F64)?.to_vec1::<f64>()?;
                    averages.model_gap.extend(truth.iter().zip(log_prob).map(|(a, b)| a - b));
                }
                averages.truth.extend(truth);
            }
            let key = evaluator.key.fold_in(index as u64);
            averages.look_at_latents(evaluator, (corpus, rows), &x, log_prob.as_ref(), key)?;
        }
        Ok(averages)
    }

    /// The single-sample bound, and what the posterior says.
    fn look_at_latents(
        &mut self,
        evaluator: &Evaluator<'_>,
        (corpus, rows): (&Corpus, &[u32]),
        x: &Sequences,
        log_prob: Option<&Tensor>,
        key: Key,
    ) -> Result<()> {
        let Some(layout) = evaluator.layout() else { return Ok(()) };
        if !evaluator.model.infers() {
            if let Some(probs) = evaluator.model.posterior(x)? {
                let batch = Posteriors { probs: &probs, draw: None, corpus, rows, layout };
                self.codes.push(&batch)?;
            }
            return Ok(());
        }
        let program = |trace: &mut Trace<'_>| evaluator.model.log_likelihood(x, trace);
        let (log_px, sites) = Trace::run(&program, &mut Independent { samples: 1 }, key)?;
        let elbo = match &evaluator.model {
            LanguageModel::States(model) => model.mean_field_bound(x)?,
            _ => Elbo::default().log_weights(&log_px, &sites)?.squeeze(0)?,
        };
        self.elbo.push_tensor(&elbo)?;
        if let Some(log_prob) = log_prob {
            self.inference_gap.push_tensor(&(log_prob - &elbo)?)?;
        }
        for site in &sites {
            let kl = site.prior.as_ref().map(|prior| site.posterior.kl(prior)?.squeeze(0));
            let kl = kl.transpose()?;
            if let Some(kl) = &kl {
                self.codes.kl.push_tensor(kl)?;
            }
            let (draw, probs) = (site.draw.value.squeeze(0)?, site.posterior.probs()?.squeeze(0)?);
            let batch = Posteriors {
                probs: &probs,
                draw: Some(&draw).zip(kl.as_ref()),
                corpus,
                rows,
                layout,
            };
            self.codes.push(&batch)?;
            self.codes.reconstruction.push_tensor(&right(evaluator, x, &draw)?)?;
        }
        Ok(())
    }

    /// In numbers.
    pub(crate) fn report(&self) -> Result<Report> {
        let mut report = Report::new();
        let per_symbol = self.symbols as f64;
        for (name, mean) in [
            ("log_prob", &self.log_prob),
            ("truth", &self.truth),
            ("model_gap", &self.model_gap),
            ("elbo", &self.elbo),
            ("inference_gap", &self.inference_gap),
            ("kl", &self.codes.kl),
            ("reconstruction_accuracy", &self.codes.reconstruction),
        ] {
            if mean.count() > 0 {
                report = report.number(name, mean.mean());
            }
        }
        let best = self.best();
        report = report.number("bound", best.mean());
        report = report
            .number("perplexity", perplexity(-best.mean() * best.count() as f64 / per_symbol));
        if self.codes.usage().count() > 0 {
            report = report.number("code_perplexity", self.codes.usage().perplexity());
        }
        if let Some(information) = self.codes.mutual_information()? {
            report = report.number("mutual_information", information);
        }
        if let Some(agreement) = self.codes.agreement() {
            report = report.number("normalised_mutual_information", agreement);
        }
        Ok(report)
    }

    /// The exact likelihood where it is known, else the bound.
    pub(crate) fn best(&self) -> &Mean {
        if self.log_prob.count() > 0 { &self.log_prob } else { &self.elbo }
    }
}

/// 1 where the most probable symbol is the right one, `[B, T]`.
fn right(evaluator: &Evaluator<'_>, x: &Sequences, z: &Tensor) -> TensorResult<Tensor> {
    let (b, t) = x.inputs.dims2()?;
    // Logits of few rows at a time: the likelihood never needs those of all.
    let rows = (LOGITS / (t * evaluator.data.symbols.count())).clamp(1, b);
    let mut right = Vec::new();
    for first in (0..b).step_by(rows) {
        let count = rows.min(b - first);
        let part = |x: &Tensor| x.narrow(0, first, count)?.contiguous();
        let logits = evaluator.model.logits(&part(&x.inputs)?, &part(z)?, t)?;
        let found = logits.argmax(D::Minus1)?;
        right.push(found.eq(&part(&x.targets)?)?.to_dtype(DType::F32)?);
    }
    Tensor::cat(&right, 0)
}
