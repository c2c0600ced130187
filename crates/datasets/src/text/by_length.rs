//! Batches of sequences of one length, so that none has to be filled up.
use std::collections::BTreeMap;

use gumbel_kernels::Key;

use crate::Result;
use crate::batches::{self, Epochs};

/// The batches of a training run over sequences of several lengths.
///
/// An epoch has each sequence once. Within a batch all are of one length; of the sequences of a length the last batch is
/// as short as it has to be, so that nothing is lost and nothing is padded. Which batches there are and their order are
/// drawn anew for each epoch; the rows of batch `step` are a pure function of (key, step).
#[derive(Debug)]
pub struct LengthBatches {
    /// Rows of each length.
    buckets: Vec<Vec<u32>>,
    size: usize,
    /// Of each batch of an epoch: bucket, and first place in its order.
    parts: Vec<(usize, usize)>,
    key: Key,
    /// The orders of the parts, and of the rows of each bucket.
    order: Epochs,
    orders: Vec<Epochs>,
}

impl LengthBatches {
    /// Batches of at most `size` of the sequences whose lengths are given.
    ///
    /// # Errors
    /// If there is no sequence, or `size` is 0 or above 2²⁴.
    pub fn new(lengths: impl IntoIterator<Item = usize>, size: usize, key: Key) -> Result<Self> {
        let mut buckets: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        let mut count = 0;
        for (row, length) in lengths.into_iter().enumerate() {
            buckets.entry(length).or_default().push(row as u32);
            count += 1;
        }
        batches::check(count, size)?;
        let buckets: Vec<Vec<u32>> = buckets.into_values().collect();
        let parts = |(bucket, rows): (usize, &Vec<u32>)| {
            (0..rows.len()).step_by(size).map(move |first| (bucket, first)).collect::<Vec<_>>()
        };
        let parts = buckets.iter().enumerate().flat_map(parts).collect();
        let orders = buckets.iter().map(|_| Epochs::default()).collect();
        Ok(Self { buckets, size, parts, key, order: Epochs::default(), orders })
    }

    /// Batches of an epoch.
    #[must_use]
    pub fn per_epoch(&self) -> usize {
        self.parts.len()
    }

    /// The rows of batch `step`, all of one length, at most as many as a batch may have.
    #[must_use]
    pub fn rows(&self, step: u64) -> Vec<u32> {
        let count = self.parts.len() as u64;
        let (epoch, place) = (step / count, (step % count) as usize);
        let key = self.key.fold_in(epoch);
        let order = self.order.order(key.named("batches"), self.parts.len());
        let part = order.get(place).and_then(|part| self.parts.get(*part as usize));
        let Some((bucket, first)) = part else { return Vec::new() };
        let (Some(rows), Some(order)) = (self.buckets.get(*bucket), self.orders.get(*bucket))
        else {
            return Vec::new();
        };
        let order = order.order(key.named("rows").fold_in(*bucket as u64), rows.len());
        let chosen = order.iter().skip(*first).take(self.size);
        chosen.filter_map(|place| rows.get(*place as usize).copied()).collect()
    }

    /// Each sequence once, for evaluation: batches of one length, the shortest first, rows in order.
    pub fn in_order(&self) -> impl Iterator<Item = &[u32]> {
        self.buckets.iter().flat_map(|rows| rows.chunks(self.size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTHS: [usize; 11] = [3, 5, 3, 3, 7, 5, 3, 3, 7, 5, 3];

    #[test]
    fn an_epoch_has_each_sequence_once_in_batches_of_one_length() {
        let batches = LengthBatches::new(LENGTHS, 2, Key::from_seed(1)).unwrap();
        assert_eq!(batches.per_epoch(), 3 + 2 + 1);
        let mut orders = Vec::new();
        for epoch in 0..3 {
            let mut seen = Vec::new();
            for step in 0..6 {
                let rows = batches.rows(epoch * 6 + step);
                assert!((1..=2).contains(&rows.len()));
                let length = LENGTHS[rows[0] as usize];
                assert!(rows.iter().all(|row| LENGTHS[*row as usize] == length));
                seen.extend(rows);
            }
            orders.push(seen.clone());
            seen.sort_unstable();
            assert_eq!(seen, (0..11).collect::<Vec<_>>());
        }
        assert!(orders[0] != orders[1] && orders[1] != orders[2]);
        assert_eq!(batches.rows(u64::MAX), batches.rows(u64::MAX));
    }

    #[test]
    fn evaluation_sees_each_sequence_once_in_order() {
        let batches = LengthBatches::new(LENGTHS, 4, Key::from_seed(1)).unwrap();
        let seen: Vec<&[u32]> = batches.in_order().collect();
        assert_eq!(seen, [&[0, 2, 3, 6][..], &[7, 10], &[1, 5, 9], &[4, 8]]);
    }

    #[test]
    fn impossible_sizes_are_usage_errors() {
        assert_eq!(LengthBatches::new([], 2, Key::from_seed(1)).unwrap_err().exit_code(), 2);
        assert_eq!(LengthBatches::new([1], 0, Key::from_seed(1)).unwrap_err().exit_code(), 2);
    }
}
