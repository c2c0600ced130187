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

/// Makes a link findable until the returned guard is dropped.
pub(crate) fn register(output: &Tensor, link: &Tensor) -> Registered {
    links().insert(output.id(), link.clone());
    Registered(output.id())
}

#[derive(Debug)]
pub(crate) struct Registered(TensorId);

impl Drop for Registered {
    fn drop(&mut self) {
        // The link goes once the lock is free: with it may go others, which come here, too.
        let link = links().remove(&self.0);
        drop(link);
    }
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
