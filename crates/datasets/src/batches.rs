//! Which rows are in which batch: a pure function of key and step.
use std::sync::{Arc, Mutex, PoisonError};

use gumbel_kernels::Key;

use crate::{Error, Result};

/// The most rows that a batch may have.
const MAX_SIZE: usize = 1 << 24;

/// The batches of a training run: the endless concatenation of one uniform permutation per epoch.
///
/// The rows of batch `step` are a pure function of (key, step): there is no state to save, and steps
/// may be asked for in any order. Every batch has exactly `size` rows, no row is lost at the end of
/// an epoch, and a batch may therefore cross it.
///
/// ```
/// use gumbel_datasets::Batches;
/// use gumbel_kernels::Key;
/// let batches = Batches::new(10, 4, Key::from_seed(1))?;
/// let mut epoch = [batches.rows(0), batches.rows(1), batches.rows(2)].concat();
/// epoch.truncate(10);
/// epoch.sort_unstable();
/// assert_eq!(epoch, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
/// # Ok::<(), gumbel_datasets::Error>(())
/// ```
#[derive(Debug)]
pub struct Batches {
    len: usize,
    size: usize,
    key: Key,
    epochs: Epochs,
}

impl Batches {
    /// Batches of `size` rows out of `len`, both at least 1.
    pub fn new(len: usize, size: usize, key: Key) -> Result<Self> {
        check(len, size)?;
        Ok(Self { len, size, key, epochs: Epochs::default() })
    }

    /// The rows of batch `step`, exactly `size` of them.
    #[must_use]
    pub fn rows(&self, step: u64) -> Vec<u32> {
        self.epochs.rows(self.len, self.size, self.key, step)
    }

    /// The epoch, as a real number, at the beginning of batch `step`.
    #[must_use]
    pub fn epoch(&self, step: u64) -> f64 {
        step as f64 * self.size as f64 / self.len as f64
    }
}

/// Refuses sizes for which there is no batch.
pub(crate) fn check(len: usize, size: usize) -> Result<()> {
    if len == 0 || u32::try_from(len).is_err() {
        return Err(Error::Argument(format!("a data set of {len} rows, use 1 to {}", u32::MAX)));
    }
    if size == 0 || size > MAX_SIZE {
        return Err(Error::Argument(format!("a batch size of {size}, use 1 to {MAX_SIZE}")));
    }
    Ok(())
}

/// Rows in order, `size` at a time, for evaluation: the last batch is as short as it has to be.
///
/// A `size` of 0 is taken as 1.
///
/// ```
/// let batches: Vec<_> = gumbel_datasets::in_order(5, 2).collect();
/// assert_eq!(batches, [vec![0, 1], vec![2, 3], vec![4]]);
/// ```
pub fn in_order(len: usize, size: usize) -> impl Iterator<Item = Vec<u32>> {
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    let size = u32::try_from(size).unwrap_or(u32::MAX).max(1);
    (0..len)
        .step_by(size as usize)
        .map(move |first| (first..first.saturating_add(size).min(len)).collect())
}

/// What names a permutation: its key and the number of rows.
type Name = (Key, usize);

/// Remembers the permutation last asked for, such as that of an epoch, which nobody can observe but by the clock.
#[derive(Debug, Default)]
pub(crate) struct Epochs(Mutex<Option<(Name, Arc<[u32]>)>>);

impl Epochs {
    /// Elements `step * size` to `(step + 1) * size` of the concatenated permutations.
    ///
    /// `len` and `size` have passed [`check`].
    pub(crate) fn rows(&self, len: usize, size: usize, key: Key, step: u64) -> Vec<u32> {
        let mut rows = Vec::with_capacity(size);
        // 128 bits, because the product of a step and a size may need them.
        let first = u128::from(step) * size as u128;
        let mut epoch = (first / len.max(1) as u128) as u64;
        let mut skip = (first % len.max(1) as u128) as usize;
        while rows.len() < size {
            let order = self.order(key.fold_in(epoch), len);
            rows.extend(order.iter().skip(skip).take(size - rows.len()));
            epoch = epoch.wrapping_add(1);
            skip = 0;
        }
        rows
    }

    /// The permutation of `0..len` that `key` names.
    pub(crate) fn order(&self, key: Key, len: usize) -> Arc<[u32]> {
        let name = (key, len);
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, order)) = last.as_ref().filter(|(known, _)| *known == name) {
            return Arc::clone(order);
        }
        let order: Arc<[u32]> = key.permutation(len).into();
        *last = Some((name, Arc::clone(&order)));
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_of_rows_is_a_permutation_per_epoch_whatever_the_size() {
        let key = Key::from_seed(1);
        let expected: Vec<u32> = (0..6).flat_map(|e| key.fold_in(e).permutation(10)).collect();
        for size in [1, 3, 10, 25, 60] {
            let batches = Batches::new(10, size, key).unwrap();
            let steps = (60 / size) as u64;
            let rows: Vec<u32> = (0..steps).flat_map(|step| batches.rows(step)).collect();
            assert_eq!(rows, expected[..rows.len()], "size {size}");
        }
    }

    #[test]
    fn the_order_in_which_steps_are_asked_for_does_not_matter() {
        let batches = Batches::new(7, 3, Key::from_seed(2)).unwrap();
        let forward: Vec<_> = (0..20).map(|step| batches.rows(step)).collect();
        let mut backward: Vec<_> = (0..20).rev().map(|step| batches.rows(step)).collect();
        backward.reverse();
        assert_eq!(forward, backward);
    }

    #[test]
    fn the_last_step_there_is_has_a_batch() {
        assert_eq!(Batches::new(3, 5, Key::from_seed(3)).unwrap().rows(u64::MAX).len(), 5);
    }

    #[test]
    fn impossible_sizes_are_usage_errors() {
        for (len, size) in [(0, 1), (1, 0), (1, MAX_SIZE + 1), (1 << 33, 1)] {
            assert_eq!(Batches::new(len, size, Key::from_seed(4)).unwrap_err().exit_code(), 2);
        }
    }

    #[test]
    fn evaluation_sees_each_row_once_in_order() {
        for (len, size, count) in [(10, 3, 4), (9, 3, 3), (0, 3, 0), (2, 100, 1), (3, 0, 3)] {
            let batches: Vec<_> = in_order(len, size).collect();
            assert_eq!(batches.len(), count);
            assert!(batches.concat().into_iter().eq(0..len as u32));
        }
    }
}
