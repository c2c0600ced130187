//! A bound of the likelihood in closed form.
use candle_core::{D, DType, Result, Tensor};
use gumbel_kernels::{categorical_entropy, log_sum_exp, scale, softmax};

use super::SwitchLm;
use super::model::Chain;
use crate::Sequences;

impl SwitchLm {
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
            let sums = log_sums_of_steps(&gate.narrow(1, 1, n - 1)?, &self.transitions)?;
            bound = ((bound + steps.sum((1, 2))?)? - (before * sums)?.sum((1, 2))?)?;
        } else {
            // Where there is no step, the gradient of the transitions is 0, not missing.
            bound = bound.broadcast_add(&scale(&self.transitions.sum_all()?, 0.)?)?;
        }
        Ok(bound)
    }
}

/// `log Σ_k exp(A_jk + g_k)`, `[B, N, K]` over `j`, for gates `g: [B, N, K]` and transitions `A: [K, K]`.
fn log_sums_of_steps(gate: &Tensor, transitions: &Tensor) -> Result<Tensor> {
    // In `f64`, because the two may want different states.
    let wide = transitions.to_dtype(DType::F64)?;
    let top = wide.max_keepdim(1)?.detach();
    let powers = wide.broadcast_sub(&top)?.exp()?.t()?;
    let wide = gate.to_dtype(DType::F64)?;
    let most = wide.max_keepdim(D::Minus1)?.detach();
    let sums = wide.broadcast_sub(&most)?.exp()?.broadcast_matmul(&powers)?.log()?;
    sums.broadcast_add(&most)?.broadcast_add(&top.t()?)?.to_dtype(gate.dtype())
}
