//! Stochastic gradient descent with momentum.
use candle_core::{DType, Result, Tensor, Var};
use rayon::prelude::*;

use super::inplace::{Apart, CHUNK, Float, PARALLEL_ABOVE, fused_dtype, read, same_kind, write};
use crate::threads::parallel;
use crate::vectorised::vectorised;

/// One step of stochastic gradient descent with momentum, in place; any shape, the same for all three.
///
/// With momentum `μ`, and the second of the two for the parameter where it is Nesterov's (Sutskever et al., 2013, in
/// the form that needs no look-ahead point):
///
/// ```math
/// \begin{aligned}
/// m &\leftarrow \mu m + g \\
/// \theta &\leftarrow \theta - \mathrm{learning\_rate} \cdot m
/// \quad \text{or} \quad \theta - \mathrm{learning\_rate} \cdot (g + \mu m)
/// \end{aligned}
/// ```
pub fn sgd_update(
    parameter: &Var,
    m: &Var,
    gradient: &Tensor,
    learning_rate: f64,
    momentum: f64,
    nesterov: bool,
) -> Result<()> {
    same_kind("sgd_update", parameter, &[m, gradient])?;
    if parameter.elem_count() == 0 {
        return Ok(());
    }
    let fused = match fused_dtype(parameter) {
        Some(DType::F32) => sgd_fused::<f32>,
        Some(_) => sgd_fused::<f64>,
        None => sgd_update_reference,
    };
    fused(parameter, m, gradient, learning_rate, momentum, nesterov)
}

/// The twin of [`sgd_update`] from plain candle operations.
pub fn sgd_update_reference(
    parameter: &Var,
    m: &Var,
    gradient: &Tensor,
    learning_rate: f64,
    momentum: f64,
    nesterov: bool,
) -> Result<()> {
    let g = gradient.detach();
    let next_m = (m.as_detached_tensor().affine(momentum, 0.)? + &g)?;
    let direction = if nesterov { (next_m.affine(momentum, 0.)? + &g)? } else { next_m.clone() };
    let next = (parameter.as_detached_tensor() - direction.affine(learning_rate, 0.)?)?;
    m.set(&next_m)?;
    parameter.set(&next)
}

fn sgd_fused<T: Float>(
    p: &Var,
    m: &Var,
    g: &Tensor,
    learning_rate: f64,
    momentum: f64,
    nesterov: bool,
) -> Result<()> {
    let g = g.contiguous()?;
    p.inplace_op3(m, &g, &Apart)?;
    m.inplace_op2(&g, &Apart)?;
    let [rate, mu] = [learning_rate, momentum].map(T::of);
    write::<T>(p, |p| {
        write::<T>(m, |m| {
            read(&g, |g| {
                if p.len() <= PARALLEL_ABOVE || !parallel() {
                    sgd_run(p, m, g, [rate, mu], nesterov);
                    return Ok(());
                }
                let tasks = p.par_chunks_mut(CHUNK).zip(m.par_chunks_mut(CHUNK));
                tasks
                    .zip(g.par_chunks(CHUNK))
                    .for_each(|((p, m), g)| sgd_run(p, m, g, [rate, mu], nesterov));
                Ok(())
            })
        })
    })
}

vectorised! {
    fn sgd_run<T: Float>(p: &mut [T], m: &mut [T], g: &[T], rate_and_momentum: [T; 2], nesterov: bool) {
        let [rate, mu] = rate_and_momentum;
        for ((p, m), g) in p.iter_mut().zip(m).zip(g) {
            *m = mu * *m + *g;
            *p -= rate * if nesterov { mu * *m + *g } else { *m };
        }
    }
}
