//! Row-wise work on CPU storage: what the operations of this crate share.
use std::mem::MaybeUninit;

use candle_core::{CpuStorage, Layout, Result, Tensor, WithDType};
use rayon::prelude::*;

use crate::threads::parallel;

/// Cost of a parallel task, in numbers of average work. Fixed, so that no result depends on the number of
/// threads.
pub(crate) const TASK: usize = 1 << 14;

/// The contiguous data behind a layout.
pub(crate) fn data<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let slice = storage.as_slice::<T>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&slice[start..end]),
        None => candle_core::bail!("expected a contiguous tensor, got {layout:?}"),
    }
}

/// A vector of `rows` rows of `width` numbers, made by `f(first row, rows)` on runs of whole rows, in parallel.
///
/// The runs are the same whatever the number of threads: as many rows as add up to one task at `cost` numbers
/// of work per row. `f` finds zeros in its rows; they are written right before it runs, while they stay in the
/// cache.
pub(crate) fn make_rows<T: Copy + Default + Send>(
    rows: usize,
    width: usize,
    cost: usize,
    f: impl Fn(usize, &mut [T]) -> Result<()> + Sync,
) -> Result<Vec<T>> {
    let n = rows * width;
    let mut numbers = Vec::with_capacity(n);
    for_runs(&mut numbers.spare_capacity_mut()[..n], width, cost, |first, run| {
        f(first, zeroed(run))
    })?;
    // SAFETY: the runs cover all `n` elements of the spare capacity, and each was filled.
    #[expect(unsafe_code, reason = "filling the vector first would be one more pass over memory")]
    unsafe {
        numbers.set_len(n);
    }
    Ok(numbers)
}

fn zeroed<T: Copy + Default>(run: &mut [MaybeUninit<T>]) -> &mut [T] {
    run.fill(MaybeUninit::new(T::default()));
    // SAFETY: every element was just written.
    #[expect(unsafe_code, reason = "the standard library's version is not stable")]
    unsafe {
        &mut *(std::ptr::from_mut(run) as *mut [T])
    }
}

fn for_runs<T: Send>(
    out: &mut [T],
    width: usize,
    cost: usize,
    f: impl Fn(usize, &mut [T]) -> Result<()> + Sync,
) -> Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let width = width.max(1);
    let rows = (TASK / cost.max(1)).max(1);
    let tasks = out.chunks_mut(rows * width);
    if tasks.len() == 1 || !parallel() {
        return tasks.enumerate().try_for_each(|(task, run)| f(task * rows, run));
    }
    out.par_chunks_mut(rows * width).enumerate().try_for_each(|(task, run)| f(task * rows, run))
}

/// How many numbers two tensors have where the shorter is repeated; none if one is empty.
pub(crate) fn numbers_of_both(a: &Tensor, b: &Tensor) -> usize {
    let (a, b) = (a.elem_count(), b.elem_count());
    if a.min(b) == 0 { 0 } else { a.max(b) }
}

/// Row number `row` of rows of `width` numbers, counted modulo how many there are.
#[inline(always)]
pub(crate) fn cyclic<T>(x: &[T], row: usize, width: usize) -> &[T] {
    &x[row % (x.len() / width) * width..][..width]
}

/// `f(number, unit)` for each unit of work, in parallel.
pub(crate) fn for_units<U: Send>(units: Vec<U>, f: impl Fn(usize, U) + Sync) {
    if parallel() {
        units.into_par_iter().enumerate().for_each(|(i, unit)| f(i, unit));
    } else {
        units.into_iter().enumerate().for_each(|(i, unit)| f(i, unit));
    }
}

/// Adds leading axes of size 1 to both until they have the same rank, and makes each a whole number of
/// repeats of its trailing axes: what row-modulo indexing needs. Returns the common leading shape.
pub(crate) fn align_rows(a: &Tensor, b: &Tensor) -> Result<(Tensor, Tensor, Vec<usize>)> {
    let rank = a.rank().max(b.rank());
    let padded = |t: &Tensor| {
        // A node more, even one that changes nothing, is two passes over the gradient.
        if t.rank() == rank {
            return Ok(t.clone());
        }
        let mut dims = vec![1; rank - t.rank()];
        dims.extend(t.dims());
        t.reshape(dims)
    };
    let (a, b) = (padded(a)?, padded(b)?);
    let shape = a.shape().broadcast_shape_binary_op(b.shape(), "align_rows")?;
    let fit = |t: Tensor| {
        // A shape that equals the common one behind some leading 1s repeats as it lies in memory.
        let ones = t.dims().iter().take_while(|d| **d == 1).count();
        let suffix =
            t.dims()[ones..] == shape.dims()[ones..] && t.dims().last() == shape.dims().last();
        if suffix { t.contiguous() } else { t.broadcast_as(&shape)?.contiguous() }
    };
    let leading = shape.dims()[..rank.saturating_sub(1)].to_vec();
    Ok((fit(a)?, fit(b)?, leading))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_whole_and_cover_everything_once() -> Result<()> {
        let fill = |first: usize, rows: &mut [u32]| {
            assert_eq!(rows.len() % 7, 0);
            for (i, row) in rows.chunks_mut(7).enumerate() {
                row.iter_mut().for_each(|x| *x += (first + i) as u32 + 1);
            }
            Ok(())
        };
        let whole =
            |out: &[u32]| out.chunks(7).enumerate().all(|(i, row)| row == [i as u32 + 1; 7]);
        assert!(whole(&make_rows(901, 7, 100, fill)?));
        assert!(make_rows(0, 7, 100, fill)?.is_empty());
        let failed = make_rows(901, 7, 100, |first, _: &mut [u32]| {
            if first > 0 { candle_core::bail!("row {first}") } else { Ok(()) }
        });
        assert!(failed.is_err());
        Ok(())
    }
}
