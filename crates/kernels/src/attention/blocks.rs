//! Attention on the processor: a block of queries at a time, with the keys that any of them sees.
use std::ops::Range;

use candle_core::{Result, Tensor};

use super::AttentionMask;
use crate::Real;
use crate::matmul::{Block, Matrix, multiply_into};
use crate::reduce::{max, sum};
use crate::rows::{for_units, make_rows};
use crate::softmax_rows::softmax_slopes_in_place;
use crate::vectorised::vectorised;

/// Queries whose scores are in memory at a time. Keys that none of them sees are left out.
const QUERIES: usize = 64;

#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) length: usize,
    pub(super) heads: usize,
    /// Numbers of a query of one head.
    pub(super) size: usize,
    mask: AttentionMask,
}

/// A block of queries, and the keys that any of them sees.
#[derive(Clone, Debug)]
struct Queries {
    rows: Range<usize>,
    keys: Range<usize>,
}

/// The numbers of one head of one sequence, `[T, size]` each.
#[derive(Clone, Copy)]
struct Head<'a, T> {
    queries: Matrix<'a, T>,
    keys: Matrix<'a, T>,
    values: Matrix<'a, T>,
}

impl Sizes {
    pub(super) fn new(qkv: &Tensor, heads: usize, mask: AttentionMask) -> Result<Self> {
        if mask == AttentionMask::SlidingWindow(0) {
            candle_core::bail!("attention: a window of 0 places; use at least 1, the place itself")
        }
        match *qkv.dims() {
            [_, length, width]
                if length > 0 && heads > 0 && width > 0 && width.is_multiple_of(3 * heads) =>
            {
                Ok(Self { length, heads, size: width / 3 / heads, mask })
            }
            _ => candle_core::bail!(
                "attention: expected qkv [B, T, 3·D] with D a multiple of {heads} heads, got {:?}",
                qkv.shape()
            ),
        }
    }

    /// The head of number `unit`, counted over sequences and heads.
    fn head<'a, T: Real>(&self, qkv: &'a [T], unit: usize) -> Head<'a, T> {
        let width = self.heads * self.size;
        let row = 3 * width;
        let start = unit / self.heads * self.length * row + unit % self.heads * self.size;
        let part =
            |i: usize| Matrix::strided(&qkv[start + i * width..], self.length, self.size, row);
        Head { queries: part(0), keys: part(1), values: part(2) }
    }

    fn scale<T: Real>(&self) -> T {
        T::of((self.size as f64).sqrt().recip())
    }

    /// Blocks of queries.
    fn blocks(self) -> impl Iterator<Item = Queries> {
        let Self { length, mask, .. } = self;
        (0..length).step_by(QUERIES).map(move |first| {
            let rows = first..(first + QUERIES).min(length);
            let keys = mask.seen(first, length).start..mask.seen(rows.end - 1, length).end;
            Queries { rows, keys }
        })
    }

    /// The most scores of a block.
    fn scores(self) -> usize {
        self.blocks().map(|block| block.rows.len() * block.keys.len()).max().unwrap_or(0)
    }

    /// Softmax of the scores of a block over the keys that each of its queries sees.
    fn normalise<T: Real>(self, scores: &mut [T], block: &Queries) {
        let start = block.keys.start;
        for (row, query) in scores.chunks_exact_mut(block.keys.len()).zip(block.rows.clone()) {
            let seen = self.mask.seen(query, self.length);
            softmax(row, seen.start - start, seen.end - start);
        }
    }
}

pub(super) fn forward<T: Real>(qkv: &[T], sizes: Sizes) -> Result<Vec<T>> {
    let (length, width) = (sizes.length, sizes.heads * sizes.size);
    let mut y = zeros(qkv.len() / 3)?;
    let blocks = y.chunks_mut(length * width);
    let units = blocks.flat_map(|y| Block::split(y, width, sizes.size)).collect();
    for_units(units, |unit, mut y: Block<'_, T>| {
        let head = sizes.head(qkv, unit);
        let mut scores = vec![T::zero(); sizes.scores()];
        for block in sizes.blocks() {
            let scores = &mut scores[..block.rows.len() * block.keys.len()];
            head.scores(&block, sizes.scale(), scores);
            sizes.normalise(scores, &block);
            let weights = Matrix::new(scores, block.keys.len());
            let values = head.values.rows(block.keys);
            multiply_into(T::one(), weights, values, y.rows(block.rows), false);
        }
    });
    Ok(y)
}

/// Written by all threads, for memory that nobody used before is slow to write to.
fn zeros<T: Real>(n: usize) -> Result<Vec<T>> {
    make_rows(n, 1, 1, |_, _| Ok(()))
}

/// Where the gradients of one head of one sequence go.
struct Slopes<'a, T> {
    queries: Block<'a, T>,
    keys: Block<'a, T>,
    values: Block<'a, T>,
}

/// The gradient of `qkv`.
pub(super) fn backward<T: Real>(qkv: &[T], g: &[T], sizes: Sizes) -> Result<Vec<T>> {
    let (length, width, heads) = (sizes.length, sizes.heads * sizes.size, sizes.heads);
    let mut d = zeros(qkv.len())?;
    let mut units = Vec::with_capacity(g.len() / width / length * heads);
    for d in d.chunks_mut(length * 3 * width) {
        let mut queries = Block::split(d, 3 * width, sizes.size);
        let values = queries.split_off(2 * heads);
        let keys = queries.split_off(heads);
        for ((queries, keys), values) in queries.into_iter().zip(keys).zip(values) {
            units.push(Slopes { queries, keys, values });
        }
    }
    for_units(units, |unit, mut d: Slopes<'_, T>| {
        let start = unit / heads * length * width + unit % heads * sizes.size;
        let g = Matrix::strided(&g[start..], length, sizes.size, width);
        d.add(sizes.head(qkv, unit), g, sizes);
    });
    Ok(d)
}

impl<T: Real> Head<'_, T> {
    fn scores(&self, block: &Queries, scale: T, scores: &mut [T]) {
        let queries = self.queries.rows(block.rows.clone());
        let keys = self.keys.rows(block.keys.clone()).transposed();
        multiply_into(scale, queries, keys, Block::new(scores, block.keys.len()), false);
    }
}

impl<T: Real> Slopes<'_, T> {
    /// Adds the gradients that come from the gradient `g` of a head's result.
    fn add(&mut self, head: Head<'_, T>, g: Matrix<'_, T>, sizes: Sizes) {
        let most = sizes.scores();
        let (mut weights, mut slopes) = (vec![T::zero(); most], vec![T::zero(); most]);
        for block in sizes.blocks() {
            let (keys, seen) = (block.keys.len(), block.keys.clone());
            let (one, scale, n) = (T::one(), sizes.scale(), block.rows.len() * keys);
            let (weights, slopes) = (&mut weights[..n], &mut slopes[..n]);
            let g = g.rows(block.rows.clone());

            head.scores(&block, scale, weights);
            sizes.normalise(weights, &block);
            let values = head.values.rows(seen.clone()).transposed();
            multiply_into(one, g, values, Block::new(slopes, keys), false);
            softmax_slopes_in_place(weights, keys, slopes);

            let (weights, slopes) = (Matrix::new(weights, keys), Matrix::new(slopes, keys));
            multiply_into(one, weights.transposed(), g, self.values.rows(seen.clone()), true);
            let of_queries = self.queries.rows(block.rows.clone());
            multiply_into(scale, slopes, head.keys.rows(seen.clone()), of_queries, false);
            let queries = head.queries.rows(block.rows);
            multiply_into(scale, slopes.transposed(), queries, self.keys.rows(seen), true);
        }
    }
}

vectorised! {
    /// Softmax over the places from `start` to `end`; the others become 0.
    fn softmax<T: Real>(row: &mut [T], start: usize, end: usize) {
        row[..start].fill(T::zero());
        row[end..].fill(T::zero());
        let row = &mut row[start..end];
        let top = max(row);
        for x in row.iter_mut() {
            *x = Real::exp(*x - top);
        }
        let factor = T::one() / sum(row, |x| x);
        for x in row.iter_mut() {
            *x *= factor;
        }
    }
}
