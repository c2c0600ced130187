//! Adam and its relatives.
use candle_core::{DType, Result, Tensor, Var};
use rayon::prelude::*;

use super::inplace::{Apart, CHUNK, Float, PARALLEL_ABOVE, fused_dtype, read, same_kind, write};
use crate::threads::parallel;
use crate::vectorised::vectorised;

/// The coefficients of one update by [`adam_update`], with the bias corrections worked in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Decay rate `β₁` of the first moment.
    pub beta1: f64,
    /// Decay rate `β₂` of the second moment.
    pub beta2: f64,
    /// Factor of the parameter before the step: `1 - learning rate · weight decay`.
    pub shrink: f64,
    /// Factor of the first moment.
    pub rate: f64,
    /// Factor of the root of the second moment; 0 with `epsilon = 1` takes a step that ignores it.
    pub scale: f64,
    /// Added to the denominator.
    pub epsilon: f64,
}

/// What a step of Adam changes and reads: a parameter, its two moments and its gradient, all of one shape.
#[derive(Clone, Copy, Debug)]
pub struct AdamTensors<'a> {
    /// `θ`.
    pub parameter: &'a Var,
    /// The first moment.
    pub m: &'a Var,
    /// The second moment.
    pub v: &'a Var,
    /// `g`.
    pub gradient: &'a Tensor,
}

/// [`adam_update`] of many parameters; on an NVIDIA GPU 96 of them in a launch.
///
/// # Errors
/// Those of [`adam_update`]; the first may come after a part of the parameters was changed.
pub fn adam_update_all(tensors: &[AdamTensors<'_>], step: &AdamStep) -> Result<()> {
    #[cfg(feature = "cuda")]
    if tensors
        .iter()
        .all(|t| crate::cuda::takes([tensors[0].parameter, t.parameter, t.m, t.v, t.gradient]))
    {
        for t in tensors {
            same_kind("adam_update_all", t.parameter, &[t.m, t.v, t.gradient])?;
            apart(t.parameter, t.m, t.v, t.gradient)?;
        }
        return crate::cuda::adam(tensors, step);
    }
    tensors.iter().try_for_each(|t| adam_update(t.parameter, t.m, t.v, t.gradient, step))
}

/// One step of Adam (Kingma and Ba, 2015) and its relatives, in place; any shape, the same for all four.
///
/// The moments first, then the parameter:
///
/// ```math
/// \begin{aligned}
/// m &\leftarrow \beta_1 m + (1 - \beta_1)\, g \\
/// v &\leftarrow \beta_2 v + (1 - \beta_2)\, g^2 \\
/// \theta &\leftarrow \mathrm{shrink} \cdot \theta
/// - \frac{\mathrm{rate} \cdot m}{\mathrm{scale} \cdot \sqrt{v} + \varepsilon}
/// \end{aligned}
/// ```
pub fn adam_update(
    parameter: &Var,
    m: &Var,
    v: &Var,
    gradient: &Tensor,
    step: &AdamStep,
) -> Result<()> {
    same_kind("adam_update", parameter, &[m, v, gradient])?;
    if parameter.elem_count() == 0 {
        return Ok(());
    }
    #[cfg(feature = "cuda")]
    if crate::cuda::takes([parameter, m, v, gradient]) {
        apart(parameter, m, v, gradient)?;
        return crate::cuda::adam(&[AdamTensors { parameter, m, v, gradient }], step);
    }
    match fused_dtype(parameter) {
        Some(DType::F32) => adam_fused::<f32>(parameter, m, v, gradient, step),
        Some(_) => adam_fused::<f64>(parameter, m, v, gradient, step),
        None => adam_update_reference(parameter, m, v, gradient, step),
    }
}

/// The twin of [`adam_update`] from plain candle operations.
pub fn adam_update_reference(
    parameter: &Var,
    m: &Var,
    v: &Var,
    gradient: &Tensor,
    step: &AdamStep,
) -> Result<()> {
    let g = gradient.detach();
    let next_m =
        (m.as_detached_tensor().affine(step.beta1, 0.)? + g.affine(1. - step.beta1, 0.)?)?;
    let next_v =
        (v.as_detached_tensor().affine(step.beta2, 0.)? + g.sqr()?.affine(1. - step.beta2, 0.)?)?;
    let denominator = next_v.sqrt()?.affine(step.scale, step.epsilon)?;
    let change = next_m.affine(step.rate, 0.)?.div(&denominator)?;
    let next = (parameter.as_detached_tensor().affine(step.shrink, 0.)? - change)?;
    m.set(&next_m)?;
    v.set(&next_v)?;
    parameter.set(&next)
}

/// An error if one shares memory with another: each is locked while it is written.
fn apart(p: &Var, m: &Var, v: &Var, g: &Tensor) -> Result<()> {
    p.inplace_op3(m, v, &Apart)?;
    p.inplace_op2(g, &Apart)?;
    m.inplace_op3(v, g, &Apart)?;
    v.inplace_op2(g, &Apart)
}

fn adam_fused<T: Float>(p: &Var, m: &Var, v: &Var, g: &Tensor, step: &AdamStep) -> Result<()> {
    let g = g.contiguous()?;
    apart(p, m, v, &g)?;
    write::<T>(p, |p| {
        write::<T>(m, |m| write::<T>(v, |v| read(&g, |g| adam_slices(p, m, v, g, step))))
    })
}

fn adam_slices<T: Float>(
    p: &mut [T],
    m: &mut [T],
    v: &mut [T],
    g: &[T],
    step: &AdamStep,
) -> Result<()> {
    if p.len() <= PARALLEL_ABOVE || !parallel() {
        adam_run(p, m, v, g, *step);
        return Ok(());
    }
    let tasks = p.par_chunks_mut(CHUNK).zip(m.par_chunks_mut(CHUNK));
    let tasks = tasks.zip(v.par_chunks_mut(CHUNK)).zip(g.par_chunks(CHUNK));
    tasks.for_each(|(((p, m), v), g)| adam_run(p, m, v, g, *step));
    Ok(())
}

vectorised! {
    fn adam_run<T: Float>(p: &mut [T], m: &mut [T], v: &mut [T], g: &[T], step: AdamStep) {
        let [b1, c1] = [step.beta1, 1. - step.beta1].map(T::of);
        let [b2, c2] = [step.beta2, 1. - step.beta2].map(T::of);
        let [shrink, rate, scale, epsilon] =
            [step.shrink, step.rate, step.scale, step.epsilon].map(T::of);
        for (((p, m), v), g) in p.iter_mut().zip(m).zip(v).zip(g) {
            *m = b1 * *m + c1 * *g;
            *v = b2 * *v + c2 * (*g * *g);
            *p = shrink * *p - rate * *m / (scale * v.sqrt() + epsilon);
        }
    }
}
