//! What states say of the words.
use candle_core::{D, Result, Tensor};
use gumbel_kernels::expert_log_probs;

use super::SwitchLm;
use crate::Sequences;

/// How far a state moves a logit at most, either way, in nats.
const REACH: f64 = 4.;
impl SwitchLm {
    /// What each state adds to the logits, `[K, V]`.
    pub(super) fn experts(&self) -> Result<Tensor> {
        let w = self.decoder.output();
        (self.embedding.matmul(&w.t()?)? / REACH)?.tanh()?.affine(REACH, 0.)
    }

    /// `log p(x_t | x_{<t}, z = k)`: `[B, T, K]`.
    pub(super) fn emission(&self, h: &Tensor, x: &Sequences) -> Result<Tensor> {
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
}
