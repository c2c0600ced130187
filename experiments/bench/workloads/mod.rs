//! The workloads that are compared with other libraries, one per file.
//!
//! Each is written as a user of this library writes it; what it computes, shapes and loss, is the same as in
//! `peers_torch.py` and `peers_jax.py`; the peers have no S.
mod example;
mod micro;
mod semi;
mod training;
mod w1;
mod w2;
mod w3;
mod w4;

use anyhow::{Result, bail};
use candle_core::Device;
use gumbel::Key;
use gumbel_kernels::Forward;

pub(crate) use example::Example;

/// Something that is done over and over.
pub(crate) trait Workload {
    /// One step; its loss, read back from the tensor, or 0 where there is none.
    fn step(&mut self) -> Result<f64>;

    /// One evaluation of the loss with everything it depends on; none where there is no loss.
    fn example(&mut self) -> Result<Option<Example>> {
        Ok(None)
    }
}

type New = fn(&Device) -> Result<Box<dyn Workload>>;

/// Every workload by the name it has in the protocol.
const ALL: &[(&str, New)] = &[
    ("W1", w1::new),
    ("W2", w2::new),
    ("W3a", |device| w3::new(device, 64, 50257, Forward::Soft)),
    ("W3b", |device| w3::new(device, 4096, 32, Forward::Soft)),
    ("W3c", |device| w3::new(device, 3000, 10, Forward::Soft)),
    ("W3ah", |device| w3::new(device, 64, 50257, Forward::Hard)),
    ("W3bh", |device| w3::new(device, 4096, 32, Forward::Hard)),
    ("W3ch", |device| w3::new(device, 3000, 10, Forward::Hard)),
    ("W4", w4::new),
    ("S10", |device| semi::drawn(device, 10)),
    ("S10-sum", |device| semi::summed(device, 10)),
    ("S100", |device| semi::drawn(device, 100)),
    ("S100-sum", |device| semi::summed(device, 100)),
    ("ADAM", micro::adam),
    ("RNG", |device| micro::noise(device, Key::uniform)),
    ("GUMBEL", |device| micro::noise(device, Key::gumbel)),
];

/// The names of all workloads.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|(name, _)| *name)
}

/// A new instance of a workload on a device, before its first step.
///
/// # Errors
/// If there is none of that name.
pub(crate) fn by_name(name: &str, device: &Device) -> Result<Box<dyn Workload>> {
    match ALL.iter().find(|(known, _)| *known == name) {
        Some((_, new)) => new(device),
        None => {
            let known: Vec<&str> = names().collect();
            bail!("there is no workload `{name}`; there are {}", known.join(", "))
        }
    }
}
