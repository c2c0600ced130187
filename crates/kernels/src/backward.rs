//! The way back through a graph.
use std::cell::RefCell;

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, Result, Shape, Tensor, TensorId};

use crate::graph::{Value, node};
use crate::links;

thread_local! {
    /// Gradients of variables, while [`backward`] runs on this thread.
    static VARIABLES: RefCell<Option<Variables>> = const { RefCell::new(None) };
}

/// Hands the gradient of an input over to its link, if it has one, or to the store of the running [`backward`], if it
/// is a variable and there is one; else back to candle. Returns what candle is to add.
pub(crate) fn deliver(input: &Tensor, gradient: Tensor) -> Result<Option<Tensor>> {
    if let Some(link) = links::of(input) {
        return links::hand_over(&link, gradient).map(Some);
    }
    if !input.is_variable() {
        return Ok(Some(gradient));
    }
    VARIABLES.with_borrow_mut(|variables| {
        let Some(variables) = variables else { return Ok(Some(gradient)) };
        match variables.iter_mut().find(|(id, _)| *id == input.id()) {
            Some((_, sum)) => *sum = sum.add(&gradient)?,
            None => variables.push((input.id(), gradient)),
        }
        Ok(None)
    })
}

/// The gradients of a loss, as `loss.backward()` gives them, in less time.
///
/// Candle adds each gradient to zeros that it makes first: three passes over the memory of every parameter. Here a
/// kernel's gradient of a variable is stored as it is, and added to only where the variable was used again. Gradients
/// may share memory with each other. A pass that a custom operation makes inside of this one, to compute its own
/// gradient, has to be made with this function, too.
///
/// # Errors
/// Those of `loss.backward()`.
pub fn backward(loss: &Tensor) -> Result<GradStore> {
    let _outer = Outer(VARIABLES.replace(Some(Vec::new())));
    let mut gradients = loss.backward()?;
    for (id, gradient) in VARIABLES.take().unwrap_or_default() {
        let gradient = match gradients.get_id(id) {
            Some(other) => (other + gradient)?,
            None => gradient,
        };
        gradients.insert_id(id, gradient);
    }
    Ok(gradients)
}

type Variables = Vec<(TensorId, Tensor)>;

/// What [`VARIABLES`] was before a pass and is again after it, however it ends.
struct Outer(Option<Variables>);

impl Drop for Outer {
    fn drop(&mut self) {
        VARIABLES.set(self.0.take());
    }
}

/// The gradients of all variables that `y` depends on, from the gradient of `y`.
///
/// Of a variable `v`, where `g = gradient` has the shape of `y`:
///
/// ```math
/// \sum_i g_i \frac{\partial y_i}{\partial v}
/// ```
///
/// They are those of the loss `Σ y g`, without computing it.
///
/// # Errors
/// If the shapes or the types of numbers differ, and those of `y.backward()`.
pub fn backward_with(y: &Tensor, gradient: &Tensor) -> Result<GradStore> {
    if y.shape() != gradient.shape() || y.dtype() != gradient.dtype() {
        candle_core::bail!(
            "a gradient has shape and type of its tensor, {:?} {:?}; got {:?} {:?}",
            y.shape(),
            y.dtype(),
            gradient.shape(),
            gradient.dtype()
        )
    }
    if !y.device().is_cpu() {
        return backward(&(y * gradient)?.sum_all()?);
    }
    let (loss, gradient) = (Value(CpuStorage::F32(vec![0.]), Shape::from(())), gradient.clone());
    backward(&node("backward_with", [y], loss, move |_, _, _| Ok([Some(gradient.clone())]))?)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Var};

    use super::*;
    use crate::check::{close, irregular};
    use crate::{linear, log_softmax};

    /// One variable is used by two kernels and by candle, one by candle alone, one by a kernel alone.
    #[test]
    fn gradients_are_those_of_candle() -> Result<()> {
        let variable =
            |shape: &[usize], seed| Var::from_tensor(&irregular(shape, seed, DType::F64)?);
        let (w, b, c) = (variable(&[3, 3], 1)?, variable(&[3], 2)?, variable(&[3], 3)?);
        let x = irregular(&[5, 3], 4, DType::F64)?;
        let h = linear(&linear(&x, &w, &b)?, &w, &b)?;
        let loss = (log_softmax(&h)?.broadcast_mul(&c)?.sum_all()? + w.sqr()?.sum_all()?)?;
        let (ours, theirs) = (backward(&loss)?, loss.backward()?);
        for v in [&w, &b, &c] {
            close(ours.get(v).unwrap(), theirs.get(v).unwrap(), 1e-13)?;
        }
        Ok(())
    }

    #[test]
    fn a_given_gradient_is_the_one_of_the_weighted_sum() -> Result<()> {
        let x = Var::from_tensor(&irregular(&[3, 4], 1, DType::F64)?)?;
        let g = irregular(&[3, 4], 2, DType::F64)?;
        for y in [log_softmax(&x)?, x.sqr()?, x.as_tensor().clone()] {
            let (ours, theirs) = (backward_with(&y, &g)?, (&y * &g)?.sum_all()?.backward()?);
            close(ours.get(&x).unwrap(), theirs.get(&x).unwrap(), 1e-14)?;
        }
        assert!(backward_with(&x, &g.sum(0)?).is_err());
        assert!(backward_with(&x, &g.to_dtype(DType::F32)?).is_err());
        Ok(())
    }
}
