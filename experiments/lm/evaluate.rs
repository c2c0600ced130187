//! Judging the discrete model.
use candle_core::{D, DType, Device, Result as TensorResult, Tensor};
use gumbel::Key;
use gumbel::estimators::{Independent, Objective, Trace};
use gumbel::objectives::{Elbo, multi_sample_bound};
use gumbel_datasets::Dataset;
use gumbel_datasets::text::{Corpus, LengthBatches};
use gumbel_experiments::{loaded, print, write_report, write_summary};
use gumbel_metrics::{Mean, Report, bits_per_dim, perplexity};
use gumbel_models::{LanguageModel, LatentVariableModel, Latents, Sequences};
use gumbel_training::{Evaluation, Params, Result, Run};
use serde::Serialize;

use crate::codes::{Codes, Layout, Posteriors};
use crate::config::Config;
use crate::data::{Data, sequences};
use crate::{report, words};

/// Symbols (sequences × samples × length) in memory at a time.
const SYMBOLS: usize = 1 << 16;
/// Logits in memory at a time.
const LOGITS: usize = 1 << 24;

/// Evaluates a model in the course of training and at its end.
pub(crate) struct Evaluator<'a> {
    pub(crate) model: LanguageModel,
    pub(crate) config: &'a Config,
    pub(crate) data: &'a Data,
    parameters: Parameters,
    pub(crate) device: &'a Device,
    pub(crate) key: Key,
    summary: Option<Summary>,
}

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
    /// `exp` of minus the exact likelihood per symbol where it is known, else of minus the single-sample bound.
    pub(crate) perplexity: f64,
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

/// Averages over a split.
#[derive(Default)]
struct Averages {
    symbols: usize,
    log_prob: Mean,
    truth: Mean,
    model_gap: Mean,
    elbo: Mean,
    inference_gap: Mean,
    codes: Codes,
}

impl<'a> Evaluator<'a> {
    pub(crate) fn new(
        model: LanguageModel,
        config: &'a Config,
        data: &'a Data,
        params: &Params,
        device: &'a Device,
    ) -> Self {
        let count = |only: fn(&str) -> bool| {
            params.iter().iter().filter(|(name, _)| only(name)).map(|(_, v)| v.elem_count()).sum()
        };
        let parameters =
            Parameters { generative: count(LanguageModel::is_generative), all: count(|_| true) };
        let key = Key::from_seed(config.seed).named("evaluation");
        Self { model, config, data, parameters, device, key, summary: None }
    }

    /// The validation set; at the end the test set, and the report.
    pub(crate) fn evaluate(&mut self, evaluation: &mut Evaluation<'_>) -> Result<()> {
        let few = self.config.evaluation.valid_sequences;
        let valid = self.averages(&self.data.valid, few, evaluation)?;
        evaluation.record("valid", &self.record(&valid)?)?;
        if evaluation.is_last() {
            let test = self.averages(&self.data.test, usize::MAX, evaluation)?;
            evaluation.record("test", &self.record(&test)?)?;
            let bounds = self.bounds(evaluation)?;
            self.summary = Some(self.summary(&test, bounds, evaluation.step())?);
        }
        Ok(())
    }

    /// How the latents lie along a sequence.
    pub(crate) fn layout(&self) -> Option<Layout> {
        match self.config.latents {
            Latents::None {} => None,
            Latents::States(config) => Some(Layout { variables: 1, segment: Some(config.segment) }),
            Latents::Codes(config) => {
                Some(Layout { variables: config.variables, segment: config.segment })
            }
        }
    }

    /// Batches of at most so many symbols, of sequences of one length, with `rows` rows for each sequence; at most `most`
    /// sequences, evenly from all.
    pub(crate) fn batches(
        &self,
        corpus: &Corpus,
        most: usize,
        rows: usize,
    ) -> Result<Vec<Vec<u32>>> {
        let lengths: Vec<usize> = corpus.lengths().collect();
        let count = lengths.len().min(most);
        let chosen: Vec<usize> = (0..count).map(|i| i * lengths.len() / count).collect();
        let longest = lengths.iter().copied().max().unwrap_or(1);
        let size = (SYMBOLS / longest / rows).clamp(1, 500);
        let each = chosen.iter().filter_map(|row| lengths.get(*row).copied());
        let batches = loaded(LengthBatches::new(each, size, self.key))?;
        let row = |place: &u32| chosen.get(*place as usize).map(|row| *row as u32);
        Ok(batches.in_order().map(|rows| rows.iter().filter_map(row).collect()).collect())
    }

    fn averages(
        &self,
        corpus: &Corpus,
        most: usize,
        evaluation: &Evaluation<'_>,
    ) -> Result<Averages> {
        let longest = corpus.lengths().max().unwrap_or(1);
        let exact = self.model.rows_of_exact(longest);
        let mut averages = Averages::default();
        let batches = self.batches(corpus, most, exact.unwrap_or(1))?;
        for (index, rows) in batches.iter().enumerate() {
            evaluation.check_stop()?;
            let x = sequences(corpus, rows, self.device)?;
            averages.symbols += x.targets.elem_count();
            let log_prob = exact.map(|_| self.model.log_prob(&x)).transpose()?;
            if let Some(log_prob) = &log_prob {
                averages.log_prob.push_tensor(log_prob)?;
            }
            if let Some(language) = self.data.language() {
                let truth = rows.iter().map(|row| language.log_prob(corpus.words(*row as usize)));
                let truth: Vec<f64> = truth.collect();
                if let Some(log_prob) = &log_prob {
                    let log_prob = log_prob.to_dtype(DType::F64)?.to_vec1::<f64>()?;
                    averages.model_gap.extend(truth.iter().zip(log_prob).map(|(a, b)| a - b));
                }
                averages.truth.extend(truth);
            }
            let key = self.key.fold_in(index as u64);
            self.look_at_latents((corpus, rows), &x, log_prob.as_ref(), key, &mut averages)?;
        }
        Ok(averages)
    }

    /// The single-sample bound, and what the posterior says.
    fn look_at_latents(
        &self,
        (corpus, rows): (&Corpus, &[u32]),
        x: &Sequences,
        log_prob: Option<&Tensor>,
        key: Key,
        averages: &mut Averages,
    ) -> Result<()> {
        let Some(layout) = self.layout() else { return Ok(()) };
        if !self.model.infers() {
            if let Some(probs) = self.model.posterior(x)? {
                let batch = Posteriors { probs: &probs, draw: None, corpus, rows, layout };
                averages.codes.push(&batch)?;
            }
            return Ok(());
        }
        let program = |trace: &mut Trace<'_>| self.model.log_likelihood(x, trace);
        let (log_px, sites) = Trace::run(&program, &mut Independent { samples: 1 }, key)?;
        let elbo = match &self.model {
            LanguageModel::States(model) => model.mean_field_bound(x)?,
            _ => Elbo::default().log_weights(&log_px, &sites)?.squeeze(0)?,
        };
        averages.elbo.push_tensor(&elbo)?;
        if let Some(log_prob) = log_prob {
            averages.inference_gap.push_tensor(&(log_prob - &elbo)?)?;
        }
        for site in &sites {
            let kl = site.prior.as_ref().map(|prior| site.posterior.kl(prior)?.squeeze(0));
            let kl = kl.transpose()?;
            if let Some(kl) = &kl {
                averages.codes.kl.push_tensor(kl)?;
            }
            let (draw, probs) = (site.draw.value.squeeze(0)?, site.posterior.probs()?.squeeze(0)?);
            let batch = Posteriors {
                probs: &probs,
                draw: Some(&draw).zip(kl.as_ref()),
                corpus,
                rows,
                layout,
            };
            averages.codes.push(&batch)?;
            averages.codes.reconstruction.push_tensor(&self.right(x, &draw)?)?;
        }
        Ok(())
    }

    /// 1 where the most probable symbol is the right one, `[B, T]`.
    fn right(&self, x: &Sequences, z: &Tensor) -> TensorResult<Tensor> {
        let (b, t) = x.inputs.dims2()?;
        // Logits of few rows at a time: the likelihood never needs those of all.
        let rows = (LOGITS / (t * self.data.train.vocabulary())).clamp(1, b);
        let mut right = Vec::new();
        for first in (0..b).step_by(rows) {
            let count = rows.min(b - first);
            let part = |x: &Tensor| x.narrow(0, first, count)?.contiguous();
            let logits = self.model.logits(&part(&x.inputs)?, &part(z)?, t)?;
            let found = logits.argmax(D::Minus1)?;
            right.push(found.eq(&part(&x.targets)?)?.to_dtype(DType::F32)?);
        }
        Tensor::cat(&right, 0)
    }

    /// The bounds of many samples on the test set.
    fn bounds(&self, evaluation: &Evaluation<'_>) -> Result<Vec<Bound>> {
        let settings = &self.config.evaluation;
        if !self.model.infers() {
            return Ok(vec![]);
        }
        let mut bounds = Vec::new();
        for samples in &settings.samples {
            let mut mean = Mean::new();
            let corpus = &self.data.test;
            let chunk = (*samples).min(20);
            let batches = self.batches(corpus, settings.bound_sequences, chunk)?;
            let of = |index: usize| {
                let x = sequences(corpus, &batches[index], self.device)?;
                let program = |trace: &mut Trace<'_>| self.model.log_likelihood(&x, trace);
                let key = self.key.named("bound").fold_in(index as u64);
                Ok(vec![multi_sample_bound(&program, *samples, chunk, key)?])
            };
            evaluation.share(batches.len(), of, |all| {
                Ok(all.iter().try_for_each(|bound| mean.push_tensor(bound))?)
            })?;
            bounds.push(Bound {
                samples: *samples,
                sequences: mean.count(),
                mean: mean.mean(),
                standard_error: mean.standard_error(),
            });
        }
        Ok(bounds)
    }

    fn record(&self, averages: &Averages) -> Result<Report> {
        let mut report = Report::new();
        let per_symbol = averages.symbols as f64;
        for (name, mean) in [
            ("log_prob", &averages.log_prob),
            ("truth", &averages.truth),
            ("model_gap", &averages.model_gap),
            ("elbo", &averages.elbo),
            ("inference_gap", &averages.inference_gap),
            ("kl", &averages.codes.kl),
            ("reconstruction_accuracy", &averages.codes.reconstruction),
        ] {
            if mean.count() > 0 {
                report = report.number(name, mean.mean());
            }
        }
        let best = best(averages);
        report = report.number("bound", best.mean());
        report = report
            .number("perplexity", perplexity(-best.mean() * best.count() as f64 / per_symbol));
        if averages.codes.usage().count() > 0 {
            report = report.number("code_perplexity", averages.codes.usage().perplexity());
        }
        if let Some(information) = averages.codes.mutual_information()? {
            report = report.number("mutual_information", information);
        }
        if let Some(agreement) = averages.codes.agreement() {
            report = report.number("normalised_mutual_information", agreement);
        }
        Ok(report)
    }

    fn summary(&self, test: &Averages, bounds: Vec<Bound>, steps: u64) -> Result<Summary> {
        let measured = |mean: &Mean| (mean.count() > 0).then(|| mean.into());
        let sequences = self.data.test.len() as f64;
        let symbols = test.symbols as f64 / sequences;
        let nats = -best(test).mean() * sequences;
        let original = self.data.test.original();
        let codes =
            (test.codes.usage().count() > 0).then(|| self.codes(&test.codes)).transpose()?;
        let most = bounds.iter().max_by_key(|bound| bound.samples);
        let (bound, standard_error, samples) = match (most, test.log_prob.count()) {
            (Some(bound), 0) => (bound.mean, bound.standard_error, Some(bound.samples)),
            (None, 0) => (test.elbo.mean(), test.elbo.standard_error(), Some(1)),
            _ => (test.log_prob.mean(), test.log_prob.standard_error(), None),
        };
        Ok(Summary {
            corpus: self.data.name.clone(),
            synthetic: self.data.is_synthetic(),
            steps,
            parameters: self.parameters,
            symbols,
            log_prob: measured(&test.log_prob),
            bound,
            standard_error,
            samples,
            perplexity: perplexity(-best(test).mean() / symbols),
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

    fn codes(&self, codes: &Codes) -> Result<CodeSummary> {
        let mean = |mean: &Mean| (mean.count() > 0).then(|| mean.mean());
        let (kl, information) = (mean(&codes.kl), codes.mutual_information()?);
        Ok(CodeSummary {
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

    /// Writes `summary.json` and the report, and prints the result and where it is: the last lines of a run.
    pub(crate) fn summarise(&self, run: &Run) -> Result<()> {
        let directory = run.directory().display();
        let Some(summary) = write_summary(run, self.summary.as_ref())? else { return Ok(()) };
        let samples = words::samples(self)?;
        run.write_file("samples.txt", samples.as_bytes())?;
        write_report(run, &report::sections(self, summary, &samples)?)?;
        print(&format!(
            "{}{samples}in {directory}: report.html, samples.txt, metrics.jsonl, summary.json; write more with lm sample {directory}\n",
            words::result(summary)
        ))
    }
}

/// The exact likelihood where it is known, else the bound.
fn best(averages: &Averages) -> &Mean {
    if averages.log_prob.count() > 0 { &averages.log_prob } else { &averages.elbo }
}
