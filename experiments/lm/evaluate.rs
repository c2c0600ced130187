//! Judging the discrete model.
use candle_core::{DType, Device};
use gumbel::Key;
use gumbel::estimators::Trace;
use gumbel::objectives::multi_sample_bound;
use gumbel_datasets::text::{Corpus, LengthBatches};
use gumbel_experiments::{loaded, print, write_report, write_summary};
use gumbel_metrics::Mean;
use gumbel_models::{LanguageModel, LatentVariableModel, Latents};
use gumbel_training::{Evaluation, Params, Result, Run};

use crate::averages::Averages;
use crate::codes::Layout;
use crate::config::Config;
use crate::data::{Data, sequences};
use crate::summary::{Bound, Parameters, Summary};
use crate::{report, words};

/// Symbols (sequences × samples × length) in memory at a time.
const SYMBOLS: usize = 1 << 16;

/// Evaluates a model in the course of training and at its end.
pub(crate) struct Evaluator<'a> {
    pub(crate) model: LanguageModel,
    pub(crate) config: &'a Config,
    pub(crate) data: &'a Data,
    pub(crate) parameters: Parameters,
    pub(crate) device: &'a Device,
    pub(crate) key: Key,
    summary: Option<Summary>,
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
        let valid = Averages::of(self, &self.data.valid, few, evaluation)?;
        evaluation.record("valid", &valid.report()?)?;
        if evaluation.is_last() {
            let test = Averages::of(self, &self.data.test, usize::MAX, evaluation)?;
            evaluation.record("test", &test.report()?)?;
            let bounds = self.bounds(evaluation)?;
            self.summary = Some(Summary::of(self, &test, bounds, evaluation.step())?);
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

    /// `log p(x)` of the language for some sentences; nothing of a text.
    pub(crate) fn truth(&self, corpus: &Corpus, rows: &[u32]) -> Option<Vec<f64>> {
        let language = self.data.symbols.language()?;
        Some(rows.iter().map(|row| language.log_prob(corpus.words(*row as usize))).collect())
    }

    /// The bounds of many samples on the test set.
    fn bounds(&self, evaluation: &Evaluation<'_>) -> Result<Vec<Bound>> {
        let settings = &self.config.evaluation;
        if !self.model.infers() {
            return Ok(vec![]);
        }
        let mut bounds = Vec::new();
        for samples in &settings.samples {
            let (mut mean, mut gap) = (Mean::new(), Mean::new());
            let corpus = &self.data.test;
            let chunk = (*samples).min(20);
            let batches = self.batches(corpus, settings.bound_sequences, chunk)?;
            let of = |index: usize| {
                let x = sequences(corpus, &batches[index], self.device)?;
                let program = |trace: &mut Trace<'_>| self.model.log_likelihood(&x, trace);
                let key = self.key.named("bound").fold_in(index as u64);
                Ok(vec![multi_sample_bound(&program, *samples, chunk, key)?])
            };
            let mut rows = batches.iter();
            evaluation.share(batches.len(), of, |all| {
                for (bound, rows) in all.iter().zip(&mut rows) {
                    mean.push_tensor(bound)?;
                    if let Some(truth) = self.truth(corpus, rows) {
                        let bound = bound.to_dtype(DType::F64)?.to_vec1::<f64>()?;
                        gap.extend(truth.iter().zip(bound).map(|(truth, bound)| truth - bound));
                    }
                }
                Ok(())
            })?;
            bounds.push(Bound {
                samples: *samples,
                sequences: mean.count(),
                mean: mean.mean(),
                standard_error: mean.standard_error(),
                gap: (gap.count() > 0).then(|| (&gap).into()),
            });
        }
        Ok(bounds)
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
