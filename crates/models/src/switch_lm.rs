//! A language model whose words are ruled by a chain of discrete states, with an exact likelihood.
use candle_core::{D, DType, Result, Tensor, Var};
use candle_nn::{Init, VarBuilder};
use gumbel::distributions::Categorical;
use gumbel::estimators::Trace;
use gumbel_kernels::{
    add, categorical_entropy, expert_log_probs, log_sum_exp, markov_chain_log_likelihood, scale,
    softmax,
};
use serde::{Deserialize, Serialize};

use crate::defaults::{check_scale, is_false, is_usual_scale, usual_scale};
use crate::encoder::Encoder;
use crate::segments::{spread, sum_segments};
use crate::stack::Linear;
use crate::{LatentVariableModel, Sequences, Transformer, TransformerConfig};

/// How far a state moves a logit at most, either way, in nats.
const REACH: f64 = 4.;
/// The most states.
const MOST_STATES: usize = 1 << 12;

/// How a state rules the words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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

/// Sizes and choices of a [`SwitchLm`], beside its decoder's.
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
    decoder: Transformer,
    /// What infers states.
    encoder: Option<Encoder>,
    embedding: Tensor,
    /// Of states that have a readout of their own.
    gain: Option<Tensor>,
    transitions: Tensor,
    start: Tensor,
    gate: Option<Linear>,
    states: usize,
    segment: usize,
    evidence: bool,
}

/// What the chain is made of, for some sequences.
struct Chain {
    /// `[B, N, K]`: log-likelihoods of the segments under each state.
    emission: Tensor,
    /// `[B, N, K]`.
    gate: Tensor,
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

    /// The mean-field bound `[B]`, `E_q[log p(x, z) - log q(z)]`, in closed form: what samples of the posterior estimate.
    pub fn mean_field_bound(&self, x: &Sequences) -> Result<Tensor> {
        let chain = self.chain(x)?;
        let logits = self.infer(x, &chain.emission)?;
        let Chain { emission, gate } = chain;
        let q = softmax(&logits)?;
        let n = q.dim(1)?;
        let mut bound = ((&q * emission)?.sum((1, 2))? + categorical_entropy(&logits)?.sum(1)?)?;
        bound = (bound + (&q * &gate)?.sum((1, 2))?)?;
        bound = (bound - log_sum_exp(&gate.narrow(1, 0, 1)?, D::Minus1)?.sum(1)?)?;
        if n > 1 {
            let (before, after) = (q.narrow(1, 0, n - 1)?, q.narrow(1, 1, n - 1)?);
            let steps = (before.contiguous()?.broadcast_matmul(&self.transitions)? * after)?;
            // log Σ_k exp(A_jk + g_k); in `f64`, because the two may want different states.
            let wide = self.transitions.to_dtype(DType::F64)?;
            let top = wide.max_keepdim(1)?.detach();
            let powers = wide.broadcast_sub(&top)?.exp()?.t()?;
            let gate = gate.narrow(1, 1, n - 1)?.to_dtype(DType::F64)?;
            let most = gate.max_keepdim(D::Minus1)?.detach();
            let sums = gate.broadcast_sub(&most)?.exp()?.broadcast_matmul(&powers)?.log()?;
            let sums = sums.broadcast_add(&most)?.broadcast_add(&top.t()?)?;
            let sums = sums.to_dtype(before.dtype())?;
            bound = ((bound + steps.sum((1, 2))?)? - (before * sums)?.sum((1, 2))?)?;
        } else {
            // Where there is no step, the gradient of the transitions is 0, not missing.
            bound = bound.broadcast_add(&scale(&self.transitions.sum_all()?, 0.)?)?;
        }
        Ok(bound)
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

    /// What each state adds to the logits, `[K, V]`.
    fn experts(&self) -> Result<Tensor> {
        let w = self.decoder.output();
        (self.embedding.matmul(&w.t()?)? / REACH)?.tanh()?.affine(REACH, 0.)
    }

    /// `log p(x_t | x_{<t}, z = k)`: `[B, T, K]`.
    fn emission(&self, h: &Tensor, x: &Sequences) -> Result<Tensor> {
        let Some(gain) = &self.gain else {
            return expert_log_probs(h, self.decoder.output(), &self.experts()?, &x.targets);
        };
        // A state's readout of all places is a product with weights of its own; what it adds is one column more.
        let w = self.decoder.output();
        let (v, _) = w.dims2()?;
        let added = w.matmul(&self.embedding.t()?)?;
        let alone = Tensor::zeros((1, v), w.dtype(), w.device())?;
        let (b, t, _) = h.dims3()?;
        let h = Tensor::cat(&[h, &Tensor::ones((b, t, 1), h.dtype(), h.device())?], D::Minus1)?;
        let of_state = |k: usize| {
            let weight = w.broadcast_mul(&(gain.narrow(0, k, 1)? + 1.)?)?;
            let weight = Tensor::cat(&[&weight, &added.narrow(1, k, 1)?], 1)?;
            expert_log_probs(&h, &weight, &alone, &x.targets)
        };
        Tensor::cat(&(0..self.states).map(of_state).collect::<Result<Vec<_>>>()?, D::Minus1)
    }

    /// Logits of `q(z_s | x)`, given what each state says of the segments; uniform where nothing infers.
    fn infer(&self, x: &Sequences, emission: &Tensor) -> Result<Tensor> {
        match &self.encoder {
            Some(encoder) if self.evidence => add(&encoder.forward(x, self.segment)?, emission),
            Some(encoder) => encoder.forward(x, self.segment),
            None => emission.zeros_like(),
        }
    }

    fn chain(&self, x: &Sequences) -> Result<Chain> {
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

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};
    use candle_nn::VarMap;
    use gumbel::Key;
    use gumbel::distributions::Discrete;
    use gumbel::estimators::{
        Draw, Enumerate, Estimator, GumbelSoftmax, LeaveOneOut, Measure, Sampler, Site,
    };
    use gumbel::objectives::Elbo;
    use gumbel_kernels::cross_entropy;

    use super::*;

    const DECODER: TransformerConfig = TransformerConfig {
        vocabulary: 7,
        width: 8,
        heads: 2,
        layers: 1,
        context: 9,
        window: Some(2),
    };

    fn config(states: usize, segment: usize, gated: bool) -> SwitchLmConfig {
        SwitchLmConfig {
            states,
            segment,
            emission: if states == 3 { Emission::Readout } else { Emission::Product },
            gated,
            scale: usual_scale(),
            encoder_layers: 1,
            evidence: states == 3,
        }
    }

    /// A model whose parameters are irregular numbers.
    fn model(config: &SwitchLmConfig) -> Result<(SwitchLm, Vec<Var>)> {
        let (model, map) = named(config)?;
        Ok((model, map.all_vars()))
    }

    /// The same, with the names of the parameters.
    #[expect(clippy::iter_over_hash_type, reason = "each variable is set by its own name")]
    fn named(config: &SwitchLmConfig) -> Result<(SwitchLm, VarMap)> {
        let map = VarMap::new();
        let builder = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
        let model = SwitchLm::new(&DECODER, config, &builder)?;
        for (name, var) in map.data().lock().unwrap().iter() {
            let key = Key::from_seed(1).named(name);
            var.set(&(key.normal(var.shape(), DType::F32, &Device::Cpu)? * 0.7)?)?;
        }
        Ok((model, map))
    }

    fn sequences(b: usize, t: usize) -> Result<Sequences> {
        let ids = |shift: usize| {
            let ids: Vec<u32> = (0..b * t).map(|i| ((i * 5 + shift * i / t) % 7) as u32).collect();
            Tensor::from_vec(ids, (b, t), &Device::Cpu)
        };
        Ok(Sequences { inputs: ids(1)?, targets: ids(2)? })
    }

    fn numbers(x: &Tensor) -> Result<Vec<f32>> {
        x.flatten_all()?.to_vec1()
    }

    /// Each path of the states as one sample.
    struct Paths;

    impl Sampler for Paths {
        fn draw(&mut self, _: &Site, posterior: &Discrete, _: Key) -> Result<Draw> {
            let (_, b, n, k) = posterior.logits().dims4()?;
            let mut value = Vec::new();
            for path in 0..k.pow(n as u32) {
                for place in (0..b).flat_map(|_| 0..n) {
                    let state = path / k.pow(place as u32) % k;
                    value.extend((0..k).map(|z| f32::from(u8::from(z == state))));
                }
            }
            let value = Tensor::from_vec(value, (k.pow(n as u32), b, n, k), &Device::Cpu)?;
            Ok(Draw { value, measure: Measure::Discrete })
        }
    }

    /// Against the sum over all paths, each as the story of the model has it.
    #[test]
    fn likelihood_and_bound_in_closed_form_are_those_of_all_paths() -> Result<()> {
        for (states, segment, gated, t) in
            [(3, 1, true, 4), (2, 3, true, 8), (3, 2, false, 5), (2, 9, true, 4)]
        {
            let (model, _) = model(&config(states, segment, gated))?;
            let x = sequences(2, t)?;
            let program = |trace: &mut Trace<'_>| model.log_likelihood(&x, trace);
            let (log_px, sites) = Trace::run(&program, &mut Paths, Key::from_seed(1))?;
            let z = &sites[0].draw.value;
            let prior = sites[0].prior.as_ref().unwrap().log_prob(z)?;
            let paths = (&log_px + prior)?;
            let share = paths.broadcast_sub(&log_sum_exp(&paths, 0)?)?.exp()?;
            let counted = z.broadcast_mul(&share.unsqueeze(2)?.unsqueeze(3)?)?.sum(0)?;
            let off = (counted - model.smoothed(&x)?)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(off < 1e-4, "{off}");
            let exact = numbers(&model.log_prob(&x)?)?;
            // What writes is what is summed over.
            let path = z.get(1)?;
            let logits = model.logits(&x.inputs, &path, t)?;
            let chosen = cross_entropy(&logits, &x.targets)?.sum(1)?;
            let off = (chosen + log_px.get(1)?)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(off < 1e-4, "{off}");
            let closed = numbers(&model.mean_field_bound(&x)?)?;
            let log_q = sites[0].posterior.log_prob(z)?;
            let bound = numbers(&(log_q.exp()? * (&paths - &log_q)?)?.sum(0)?)?;
            for (i, sum) in numbers(&log_sum_exp(&paths, 0)?)?.into_iter().enumerate() {
                assert!((exact[i] - sum).abs() < 1e-4, "{} {sum}", exact[i]);
                assert!((closed[i] - bound[i]).abs() < 1e-4, "{} {}", closed[i], bound[i]);
                assert!(closed[i] <= exact[i]);
            }
        }
        Ok(())
    }

    /// `Σ_x p(x) = 1` over all sequences of three symbols after a start.
    #[test]
    fn it_is_a_distribution_over_sequences() -> Result<()> {
        for (segment, gated) in [(1, true), (2, true), (1, false)] {
            let (model, _) = model(&config(3, segment, gated))?;
            let (mut inputs, mut targets) = (Vec::new(), Vec::new());
            for code in 0..343u32 {
                let x = [code % 7, code / 7 % 7, code / 49];
                inputs.extend([0, x[0], x[1]]);
                targets.extend(x);
            }
            let tensor = |ids| Tensor::from_vec(ids, (343, 3), &Device::Cpu);
            let x = Sequences { inputs: tensor(inputs)?, targets: tensor(targets)? };
            let total = model.log_prob(&x)?.exp()?.sum_all()?.to_scalar::<f32>()?;
            assert!((total - 1.).abs() < 1e-4, "{total}");
        }
        Ok(())
    }

    /// The gradient of the mean-field bound is that of enumeration, and an unbiased estimator has it on average.
    #[test]
    fn gradients_of_the_closed_form_are_those_of_enumeration() -> Result<()> {
        // An encoder alone, and one with the likelihoods in view.
        for states in [2, 3] {
            let (model, variables) = model(&config(states, 2, true))?;
            let x = sequences(1, 5)?;
            let flat = |loss: &Tensor| -> Result<Tensor> {
                let grads = loss.backward()?;
                let parts = variables.iter().map(|v| match grads.get(v) {
                    Some(g) => g.flatten_all(),
                    None => v.zeros_like()?.flatten_all(),
                });
                Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0)
            };
            let closed = flat(&model.mean_field_bound(&x)?.mean_all()?.neg()?)?;
            let program = |trace: &mut Trace<'_>| model.log_likelihood(&x, trace);
            let run = |estimator: &dyn Estimator, key: u64| {
                flat(&estimator.surrogate(&program, &Elbo::default(), Key::from_seed(key))?.loss)
            };
            let length = |x: &Tensor| x.sqr()?.sum_all()?.to_scalar::<f32>();
            let exact = run(&Enumerate { samples: 1 }, 1)?;
            assert!(length(&(&closed - &exact)?)? < 1e-8 * length(&exact)?);
            let estimate = run(&LeaveOneOut { samples: 5_000 }, 2)?;
            assert!(length(&(&exact - &estimate)?)? < 4e-3 * length(&exact)?);
        }
        Ok(())
    }

    /// Where the chain and the encoder say nothing, likelihoods in view are the true posterior.
    #[test]
    fn the_evidence_is_what_the_true_posterior_has_of_each_segment() -> Result<()> {
        let gap = |evidence: bool| -> Result<f32> {
            let config = SwitchLmConfig { evidence, ..config(3, 2, false) };
            let (model, map) = named(&config)?;
            let silent =
                ["states.transitions", "states.start", "posterior.weight", "posterior.bias"];
            #[expect(clippy::iter_over_hash_type, reason = "each is set to the same")]
            for (name, variable) in map.data().lock().unwrap().iter() {
                if silent.contains(&name.as_str()) {
                    variable.set(&variable.zeros_like()?)?;
                }
            }
            let x = sequences(4, 6)?;
            (model.log_prob(&x)? - model.mean_field_bound(&x)?)?.max_all()?.to_scalar()
        };
        assert!(gap(true)?.abs() < 1e-4, "{}", gap(true)?);
        assert!(gap(false)? > 0.1);
        Ok(())
    }

    #[test]
    fn every_parameter_is_reached_and_mistakes_are_named() -> Result<()> {
        let (model, variables) = model(&config(4, 2, true))?;
        let x = sequences(3, 6)?;
        let program = |trace: &mut Trace<'_>| model.log_likelihood(&x, trace);
        let estimator = GumbelSoftmax::new(2, 0.5);
        let loss = estimator.surrogate(&program, &Elbo::default(), Key::from_seed(2))?.loss;
        let grads = loss.backward()?;
        assert!(variables.iter().all(|v| grads.get(v).is_some()));
        for (bad, key) in [
            (SwitchLmConfig { states: 0, ..config(2, 1, true) }, "states"),
            (SwitchLmConfig { segment: 0, ..config(2, 1, true) }, "segment is 0"),
            (SwitchLmConfig { segment: 10, ..config(2, 1, true) }, "use 1 to 9"),
            (SwitchLmConfig { scale: -1., ..config(2, 1, true) }, "scale is -1"),
            (SwitchLmConfig { encoder_layers: 0, ..config(3, 1, true) }, "evidence is true"),
        ] {
            assert!(bad.check(&DECODER).unwrap_err().contains(key));
        }
        Ok(())
    }
}
