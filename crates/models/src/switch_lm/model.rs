//! The model: a decoder, a chain of states, and what infers them.
use candle_core::{Result, Tensor, Var};
use candle_nn::{Init, VarBuilder};
use gumbel::distributions::Categorical;
use gumbel::estimators::Trace;
use gumbel_kernels::{add, markov_chain_log_likelihood};

use super::{Emission, SwitchLmConfig};
use crate::encoder::Encoder;
use crate::segments::{spread, sum_segments};
use crate::stack::Linear;
use crate::{LatentVariableModel, Sequences, Transformer, TransformerConfig};

/// `p(x) = Σ_z Π_s p(z_s | z_{s-1}, x before s) Π_{t in s} p(x_t | x_{<t}, z_s)`: a causal transformer, and for each
/// segment a state that adds to its logits.
///
/// `p(x_t | x_{<t}, z = k) ∝ exp(a_t + b_k)` with the decoder's logits `a_t = W h_t` and `b_k = 4 tanh(W u_k / 4)`, or,
/// with [`Emission::Readout`], `∝ exp(W (h_t ⊙ (1 + v_k) + u_k))`; `p(z_s = k | z_{s-1} = j) ∝ exp(A_jk + g_s[k])`, where the gate `g_s` is a linear map of what the decoder knows before
/// the segment. Given the words, the states are a Markov chain, so [`log_prob`](Self::log_prob) is exact, and every bound
/// and estimator of it can be held against it. As a [`LatentVariableModel`] its posterior is `Π_s q(z_s | x)`, of a
/// bidirectional transformer that reads each symbol with the one before, or of it and the likelihoods of the segments
/// under each state; there is one site, `z`, of `N` segments of `K` states. Under a relaxation a mixture of
/// states has the mixture of their log-probabilities.
///
/// Parameters: those of [`Transformer`] under `decoder`, `states.{embedding, gain, transitions, start}`, `gate.*`, and those of
/// the posterior under `encoder` and `posterior`. With a small scale states start nearly alike.
#[derive(Clone, Debug)]
pub struct SwitchLm {
    pub(super) decoder: Transformer,
    /// What infers states.
    encoder: Option<Encoder>,
    pub(super) embedding: Tensor,
    /// Of states that have a readout of their own.
    pub(super) gain: Option<Tensor>,
    pub(super) transitions: Tensor,
    start: Tensor,
    gate: Option<Linear>,
    pub(super) states: usize,
    segment: usize,
    evidence: bool,
}

/// What the chain is made of, for some sequences.
pub(super) struct Chain {
    /// `[B, N, K]`: log-likelihoods of the segments under each state.
    pub(super) emission: Tensor,
    /// `[B, N, K]`.
    pub(super) gate: Tensor,
}

impl SwitchLm {
    /// Builds the model on the parameters of `builder`.
    ///
    /// # Errors
    /// If [`SwitchLmConfig::check`] finds something.
    pub fn new(
        decoder: &TransformerConfig,
        config: &SwitchLmConfig,
        builder: &VarBuilder<'_>,
    ) -> Result<Self> {
        config.check(decoder).map_err(candle_core::Error::msg)?;
        let (k, d) = (config.states, decoder.width);
        let states = builder.pp("states");
        let small = Init::Randn { mean: 0., stdev: 0.01 };
        let vectors = |name: &str| {
            let start = Init::Randn { mean: 0., stdev: config.scale };
            states.get_with_hints((k, d), name, start)
        };
        let gain = || vectors("gain");
        let gain = (config.emission == Emission::Readout).then(gain);
        let gate = config.gated.then(|| Linear::new(d, k, &builder.pp("gate")));
        Ok(Self {
            decoder: Transformer::new(decoder, &builder.pp("decoder"))?,
            encoder: Encoder::new(decoder, config.encoder_layers, k, builder)?,
            embedding: vectors("embedding")?,
            gain: gain.transpose()?,
            transitions: states.get_with_hints((k, k), "transitions", small)?,
            start: states.get_with_hints(k, "start", Init::Const(0.))?,
            gate: gate.transpose()?,
            states: k,
            segment: config.segment,
            evidence: config.evidence,
        })
    }

    /// `log p(x): [B]` in nats, summed over all paths of states.
    pub fn log_prob(&self, x: &Sequences) -> Result<Tensor> {
        let Chain { emission, gate } = self.chain(x)?;
        markov_chain_log_likelihood(&emission, &gate, &self.transitions)
    }

    /// Logits `[B, N, K]` of `q(z_s | x)`.
    pub fn posterior_logits(&self, x: &Sequences) -> Result<Tensor> {
        self.infer(x, &self.chain(x)?.emission)
    }

    /// Probabilities `[B, N, K]` of each state given all the words, `p(z_s | x)`: the true posterior's, not `q`'s.
    pub fn smoothed(&self, x: &Sequences) -> Result<Tensor> {
        let Chain { emission, gate } = self.chain(x)?;
        // The derivative of log p(x) in the log-likelihood of a segment under a state is the state's probability.
        let emission = Var::from_tensor(&emission.detach())?;
        let transitions = self.transitions.detach();
        let log_prob = markov_chain_log_likelihood(&emission, &gate.detach(), &transitions)?;
        match log_prob.sum_all()?.backward()?.get(&emission) {
            Some(probs) => Ok(probs.clone()),
            None => candle_core::bail!("no probability reaches the states"),
        }
    }

    /// Logits `[R, T, V]` of the symbol after each of the last `T` places of `ids: [R, _]`, given the states of all
    /// segments so far, one-hot `z: [R, N, K]`.
    pub fn logits(&self, ids: &Tensor, z: &Tensor, last: usize) -> Result<Tensor> {
        let length = ids.dim(1)?;
        let part = |x: &Tensor| x.narrow(1, length - last, last)?.contiguous();
        let h = part(&self.decoder.hidden(ids)?)?;
        let z = part(&spread(z, self.segment, length)?)?;
        match &self.gain {
            None => self.decoder.logits_after(&h, last)? + z.broadcast_matmul(&self.experts()?)?,
            Some(gain) => {
                let own = (h * (z.broadcast_matmul(gain)? + 1.)?)?;
                let moved = (own + z.broadcast_matmul(&self.embedding)?)?;
                self.decoder.logits_after(&moved, last)
            }
        }
    }

    /// Logits `[R, K]` of the state of the segment that starts after `ids: [R, T]`, given that of the one before, one-hot
    /// `[R, K]`; none at the first.
    pub fn next_state_logits(&self, ids: &Tensor, before: Option<&Tensor>) -> Result<Tensor> {
        let (rows, length) = ids.dims2()?;
        let gate = match &self.gate {
            Some(gate) => {
                let h = self.decoder.hidden(ids)?.narrow(1, length - 1, 1)?.squeeze(1)?;
                gate.forward(&h.contiguous()?)?
            }
            None => {
                self.start.zeros_like()?.unsqueeze(0)?.broadcast_as((rows, self.start.dim(0)?))?
            }
        };
        match before {
            Some(state) => gate + state.matmul(&self.transitions)?,
            None => gate.broadcast_add(&self.start),
        }
    }

    /// Whether states are inferred.
    #[must_use]
    pub fn infers(&self) -> bool {
        self.encoder.is_some()
    }

    /// Symbols of a segment.
    #[must_use]
    pub fn segment(&self) -> usize {
        self.segment
    }

    /// Number of states `K`.
    #[must_use]
    pub fn states(&self) -> usize {
        self.states
    }

    /// Logits of `q(z_s | x)`, given what each state says of the segments; uniform where nothing infers.
    pub(super) fn infer(&self, x: &Sequences, emission: &Tensor) -> Result<Tensor> {
        match &self.encoder {
            Some(encoder) if self.evidence => add(&encoder.forward(x, self.segment)?, emission),
            Some(encoder) => encoder.forward(x, self.segment),
            None => emission.zeros_like(),
        }
    }

    pub(super) fn chain(&self, x: &Sequences) -> Result<Chain> {
        let h = self.decoder.hidden(&x.inputs)?;
        let emission = sum_segments(&self.emission(&h, x)?, self.segment)?;
        let (b, n, k) = emission.dims3()?;
        let gate = match &self.gate {
            Some(gate) => {
                let first: Vec<u32> = (0..n).map(|s| (s * self.segment) as u32).collect();
                let first = Tensor::from_vec(first, n, h.device())?;
                gate.forward(&h.index_select(&first, 1)?)?
            }
            None => Tensor::zeros((b, n, k), h.dtype(), h.device())?,
        };
        let start = self.start.unsqueeze(0)?.pad_with_zeros(0, 0, n - 1)?;
        Ok(Chain { emission, gate: add(&gate, &start)? })
    }
}

impl LatentVariableModel for SwitchLm {
    type Batch = Sequences;

    fn log_likelihood(&self, x: &Sequences, trace: &mut Trace<'_>) -> Result<Tensor> {
        let Chain { emission, gate } = self.chain(x)?;
        let posterior = self.infer(x, &emission)?.unsqueeze(0)?;
        let z = trace.infer("z", &Categorical::from_logits(&posterior)?)?; // [S, B, N, K]
        let (s, b, n, k) = z.dims4()?;
        let before = z.narrow(2, 0, n - 1)?.reshape((s * b * (n - 1), k))?;
        let steps = before.matmul(&self.transitions)?.reshape((s, b, n - 1, k))?;
        let prior = steps.pad_with_zeros(2, 1, 0)?.broadcast_add(&gate)?;
        trace.prior("z", &Categorical::from_logits(&prior)?)?;
        z.broadcast_mul(&emission)?.sum((2, 3)) // [S, B]
    }
}
