//! Gradients that go from node to node, past candle's sums.
//!
//! Candle adds each gradient that reaches a tensor to zeros that it makes first: memory is written and read four
//! times more than there is need for, by one thread. A node of this crate is therefore two nodes for candle. The
//! *link* is a scalar; it carries the gradient function, and depends on the links of the inputs. The *output* has the
//! numbers, and depends on the link. What comes after the output and is not of this crate depends on the output, a
//! node of this crate on the link. Gradients of the numbers are handed over here, and candle's gradient of the link
//! counts them:
//!
//! ```text
//!     link of x ──► link of y ──► link of z          (scalars)
//!         │             │             │
//!         ▼             ▼             ▼
//!         x             y             z ──► candle's operations
//! ```
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use candle_core::{Device, Result, Tensor, TensorId};

/// The links of the outputs that exist, by the identity of the output.
static LINKS: LazyLock<Mutex<HashMap<TensorId, Tensor>>> = LazyLock::new(Mutex::default);

fn links() -> MutexGuard<'static, HashMap<TensorId, Tensor>> {
    LINKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The link of an output.
pub(crate) fn of(output: &Tensor) -> Option<Tensor> {
    links().get(&output.id()).cloned()
}

/// From now on [`of`] finds the link of an output.
pub(crate) fn register(output: &Tensor, link: &Tensor) {
    links().insert(output.id(), link.clone());
}

thread_local! {
    /// Links that wait to be dropped, while one is being dropped on this thread.
    static GOING: RefCell<Option<Vec<Tensor>>> = const { RefCell::new(None) };
}

/// No more, for the output is going.
///
/// With a link go its inputs, and with those their links, and so on through the graph: one after the other, because
/// a deep graph would overflow the stack if each waited for the next.
pub(crate) fn forget(output: TensorId) {
    let Some(link) = links().remove(&output) else { return };
    // What was handed over to it in a pass that never came to it.
    let _ = HANDED_OVER.try_with(|all| all.borrow_mut().remove(&link.id()));
    let waits = |going: &RefCell<Option<Vec<Tensor>>>| match &mut *going.borrow_mut() {
        Some(waiting) => {
            waiting.push(link.clone());
            true
        }
        nothing => {
            *nothing = Some(Vec::new());
            false
        }
    };
    // On a thread that ends there may be no list any more.
    if GOING.try_with(waits).unwrap_or(false) {
        return;
    }
    let next = |going: &RefCell<Option<Vec<Tensor>>>| going.borrow_mut().as_mut()?.pop();
    let mut going = Some(link);
    while let Some(link) = going {
        drop(link);
        // The list is free again here: the drop may have come back to this function.
        going = GOING.try_with(next).ok().flatten();
    }
    let _ = GOING.try_with(|going| going.replace(None));
}

type Gradients = HashMap<TensorId, Vec<Tensor>>;

thread_local! {
    /// Gradients on their way, by link, while a backward pass runs on this thread.
    static HANDED_OVER: RefCell<Gradients> = RefCell::default();
}

/// Hands a gradient over to a link; returns what candle is to add to the gradient of the link.
pub(crate) fn hand_over(link: &Tensor, gradient: Tensor) -> Result<Tensor> {
    HANDED_OVER.with_borrow_mut(|all| all.entry(link.id()).or_default().push(gradient));
    Tensor::new(1f32, &Device::Cpu)
}

/// The sum of what was handed over to a link with candle's gradient `count`.
///
/// # Errors
/// If that is not the number of gradients.
pub(crate) fn receive(link: &Tensor, count: &Tensor) -> Result<Tensor> {
    let count = count.to_scalar::<f32>()? as usize;
    let mut gradients =
        HANDED_OVER.with_borrow_mut(|all| all.remove(&link.id()).unwrap_or_default());
    // A backward pass that failed half way may have left some.
    let stale = gradients.len().saturating_sub(count);
    gradients.drain(..stale);
    let lost = gradients.len() < count;
    let sum = gradients.into_iter().map(Ok).reduce(|sum, next| crate::add(&sum?, &next?));
    match sum {
        Some(sum) if !lost => sum,
        _ => candle_core::bail!("gradients of a node were lost: {count} were handed over"),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Var};

    use super::*;
    use crate::check::{close, irregular};
    use crate::graph::{compute, node};
    use crate::{gelu, log_softmax};

    fn variable() -> Result<Var> {
        Var::from_tensor(&irregular(&[3, 4], 1, DType::F64)?)
    }

    /// One tensor is used by two kernels and twice by candle.
    #[test]
    fn gradients_of_both_kinds_of_use_add_up() -> Result<()> {
        let (x, weights) = (variable()?, irregular(&[3, 4], 2, DType::F64)?);
        let loss = |h: Tensor, gelu: fn(&Tensor) -> Result<Tensor>| {
            let sum = (gelu(&h)? + crate::add(&h, &h.sqr()?)?)?;
            (sum * &weights)?.sum_all()
        };
        let ours = loss(gelu(&x)?, gelu)?.backward()?;
        let theirs = loss(crate::gelu::reference(&x)?, crate::gelu::reference)?.backward()?;
        close(ours.get(&x).unwrap(), theirs.get(&x).unwrap(), 1e-13)
    }

    #[test]
    fn a_link_is_forgotten_with_its_output_however_many_depend_on_it() -> Result<()> {
        let x = variable()?;
        let y = gelu(&x)?;
        let (id, link) = (y.id(), of(&y).unwrap().id());
        let mut z = y.clone();
        for _ in 0..20 {
            z = gelu(&z)?;
        }
        drop(y);
        assert!(links().contains_key(&id));
        let grads = z.sum_all()?.backward()?;
        assert!(grads.get(&x).is_some());
        drop(z);
        assert!(!links().contains_key(&id));
        assert!(HANDED_OVER.with_borrow(|all| !all.contains_key(&link)));
        Ok(())
    }

    /// A backward pass that fails half way leaves a gradient behind; the next one does not add it.
    #[test]
    fn what_a_failed_pass_left_is_not_counted() -> Result<()> {
        let x = variable()?;
        let h = log_softmax(&x)?;
        let failing = std::sync::atomic::AtomicBool::new(true);
        let value = compute!("broken", (3, 4), T, |h| h.iter().map(|h| 2. * h).collect::<Vec<T>>());
        let y = node("broken", [&h], value, move |_, _, g| {
            if failing.swap(false, std::sync::atomic::Ordering::Relaxed) {
                candle_core::bail!("as planned")
            }
            Ok([Some((g * 2.)?)])
        })?;
        // The sum hands a gradient to `h` before `y` fails.
        let loss = (y + (&h * 3.)?)?.sqr()?.sum_all()?;
        assert!(loss.backward().is_err());
        let again = loss.backward()?;
        let expected = (log_softmax(&x)? * 5.)?.sqr()?.sum_all()?.backward()?;
        close(again.get(&x).unwrap(), expected.get(&x).unwrap(), 1e-13)
    }

    /// A graph as deep as this overflowed the two megabytes of a thread, when each node dropped the next.
    #[test]
    fn a_deep_graph_is_dropped_without_recursion() -> Result<()> {
        let x = Var::from_tensor(&irregular(&[2, 3], 1, DType::F64)?)?;
        let mut y = x.as_tensor().clone();
        for _ in 0..20_000 {
            y = gelu(&y)?;
        }
        drop(y);
        Ok(())
    }
}
