//! What the latents of a model say about the text.
use candle_core::{D, DType, Device, Result, Tensor};
use gumbel_datasets::Dataset;
use gumbel_datasets::text::Corpus;
use gumbel_metrics::{Agreement, CodeUsage, Mean};

/// Sequences among which the mutual information of all codes together is taken, at most.
const MOST: usize = 2000;

/// Statistics of the posteriors of a split.
#[derive(Debug, Default)]
pub(crate) struct Codes {
    /// Of each variable, where all sequences have the same ones; else of one that stands for all.
    usage: CodeUsage,
    /// `log q` and a draw, `[n, M K]`, where all sequences have as many codes.
    joint: Vec<(Tensor, Tensor)>,
    /// `KL(q ‖ p)` of those.
    pub(crate) joint_kl: Mean,
    /// Rows: variables of the model; columns: what the text was made from.
    agreements: Vec<Vec<Agreement>>,
    /// Share of the symbols that are the most probable one given a draw of the codes.
    pub(crate) reconstruction: Mean,
    /// `KL(q ‖ p)` of all.
    pub(crate) kl: Mean,
}

/// A batch of posteriors, and what they are of.
pub(crate) struct Posteriors<'a> {
    /// `[B, M, K]`.
    pub(crate) probs: &'a Tensor,
    /// A draw of them, one-hot, and their divergence from the prior.
    pub(crate) draw: Option<(&'a Tensor, &'a Tensor)>,
    pub(crate) corpus: &'a Corpus,
    pub(crate) rows: &'a [u32],
    /// Variables of one segment, and whether there are several segments.
    pub(crate) layout: Layout,
}

/// How latents lie along a sequence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// Variables of a segment.
    pub(crate) variables: usize,
    /// Symbols of a segment; none where a sequence is one.
    pub(crate) segment: Option<usize>,
}

impl Layout {
    /// Latents `[B, M, K]`, those of each segment as a row of their own: `[B M/N, N, K]` with `N` variables of a segment.
    pub(crate) fn by_segment(self, latents: &Tensor) -> Result<Tensor> {
        let (b, m, k) = latents.dims3()?;
        latents.reshape((b * m / self.variables, self.variables, k))
    }
}

impl Codes {
    /// Takes in a batch.
    pub(crate) fn push(&mut self, batch: &Posteriors<'_>) -> Result<()> {
        self.usage.push(&batch.layout.by_segment(batch.probs)?)?;
        if batch.layout.segment.is_none() {
            // Rows evenly from all.
            let stride = batch.corpus.len().div_ceil(MOST) as u32;
            let some = batch.rows.iter().zip(0..).filter(|(row, _)| row.is_multiple_of(stride));
            let some: Vec<u32> = some.map(|(_, place)| place).collect();
            if let (Some((draw, kl)), false) = (batch.draw, some.is_empty()) {
                let some = Tensor::new(some, draw.device())?;
                let part = |x: &Tensor| x.index_select(&some, 0)?.to_dtype(DType::F64);
                let log_q = (part(batch.probs)? + 1e-30)?.log()?.flatten_from(1)?;
                self.joint.push((log_q, part(draw)?.flatten_from(1)?));
                self.joint_kl.push_tensor(&part(kl)?)?;
            }
        }
        self.agree(batch)
    }

    fn agree(&mut self, batch: &Posteriors<'_>) -> Result<()> {
        let host = batch.probs.to_device(&Device::Cpu)?;
        let labels = host.argmax(D::Minus1)?.to_vec2::<u32>()?;
        let Layout { variables, segment } = batch.layout;
        for (labels, row) in labels.iter().zip(batch.rows) {
            let gold = batch.corpus.latents(*row as usize);
            if gold.is_empty() {
                continue;
            }
            let length = batch.corpus.sentence(*row as usize).len();
            match segment {
                None => self.count_pairs(labels, gold),
                Some(segment) => {
                    for (s, labels) in labels.chunks(variables).enumerate() {
                        // One label of the text for each place, or all of the sentence.
                        let place = (s * segment + segment / 2).min(length - 1);
                        let own = gold.get(place * gold.len() / length..).unwrap_or_default();
                        let gold = if batch.corpus.latents_are_in_order() {
                            own.get(..1).unwrap_or_default()
                        } else {
                            gold
                        };
                        self.count_pairs(labels, gold);
                    }
                }
            }
        }
        Ok(())
    }

    fn count_pairs(&mut self, labels: &[u32], gold: &[u32]) {
        self.agreements.resize(labels.len().max(self.agreements.len()), vec![]);
        for (agreements, label) in self.agreements.iter_mut().zip(labels) {
            agreements.resize(gold.len().max(agreements.len()), Agreement::new());
            agreements
                .iter_mut()
                .zip(gold)
                .for_each(|(agreement, gold)| agreement.push(*label, *gold));
        }
    }

    /// Normalised mutual information of each latent of the language with the variable that says most about it, on average
    /// over those; none where they are not known.
    pub(crate) fn agreement(&self) -> Option<f64> {
        let columns = self.agreements.first().map_or(0, Vec::len);
        let best = |column: usize| {
            let each = self.agreements.iter().filter_map(|row| row.get(column));
            each.map(Agreement::normalised_mutual_information).fold(0., f64::max)
        };
        (columns > 0).then(|| (0..columns).map(best).sum::<f64>() / columns as f64)
    }

    /// `I(x; z)` under the posterior, of all codes of a sequence together, among the sequences seen; none for a chain, of
    /// which there is no telling without its aggregated posterior.
    pub(crate) fn mutual_information(&self) -> Result<Option<f64>> {
        if self.joint.is_empty() {
            return Ok(None);
        }
        let all = |part: fn(&(Tensor, Tensor)) -> &Tensor| {
            Tensor::cat(&self.joint.iter().map(part).collect::<Vec<_>>(), 0)
        };
        let (log_q, draws) = (all(|(log_q, _)| log_q)?, all(|(_, draw)| draw)?);
        let n = log_q.dim(0)?;
        let own = (&log_q * &draws)?.sum(1)?;
        // log q(z_i) of the aggregated posterior, q averaged over the n sequences.
        let scores = draws.matmul(&log_q.t()?.contiguous()?)?;
        let average = (scores.log_sum_exp(1)? - (n as f64).ln())?;
        (own - average)?.mean_all()?.to_scalar().map(Some)
    }

    pub(crate) fn usage(&self) -> &CodeUsage {
        &self.usage
    }
}
