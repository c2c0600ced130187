//! A run again, with the value of one site replaced.
use candle_core::{Result, Tensor};
use gumbel_kernels::Key;

use super::{Draw, GumbelSoftmax, Measure, Sampler, Site, SiteDraw};
use crate::distributions::Discrete;

/// Hands out the draws of an earlier run up to a site, another value for that site, and relaxed draws after it.
///
/// Later sites must be relaxed, too: with their noise held fixed, hard draws would make the bound jump where the
/// value moves a threshold, and its derivative in the value would miss the jumps. Under the key of the earlier
/// run their noise is the same: common random numbers.
pub(crate) struct Replay<'a> {
    /// Latent sites before the one that is replaced.
    before: std::slice::Iter<'a, &'a SiteDraw>,
    value: Option<Tensor>,
    after: GumbelSoftmax,
}

impl<'a> Replay<'a> {
    pub(crate) fn new(
        before: &'a [&'a SiteDraw],
        value: Tensor,
        samples: usize,
        temperature: f64,
    ) -> Self {
        let after = GumbelSoftmax::new(samples, temperature);
        Self { before: before.iter(), value: Some(value), after }
    }
}

impl Sampler for Replay<'_> {
    fn draw(&mut self, site: &Site, q: &Discrete, key: Key) -> Result<Draw> {
        let value = match self.before.next() {
            Some(earlier) => Some(earlier.draw.value.clone()),
            None => self.value.take(),
        };
        let value = match value {
            Some(value) => value,
            None => self.after.draw(site, q, key)?.value,
        };
        // The mass of the discrete law, linear in the value, goes on meaning something.
        Ok(Draw { value, measure: Measure::Discrete })
    }
}
