//! Sums over all ranks, with the same bits for any number of them.
use std::ops::Range;

use candle_core::Tensor;

use crate::{Communicator, Result};

/// Elements that are on their way at a time: the memory that a sum takes beside its result, and below the counts of MPI.
const PIECE: usize = 1 << 24;

/// Sum over `range` of what `of` gives: that of the first half plus that of the second, and so on for each half.
///
/// The sum of several halves is that of the whole if they are halves of halves: a range that is shared by a power of two of ranks, each
/// with its own stretch, has the same bits as one that is summed by a single rank. It holds as many partial sums as the range can be halved.
pub fn halves<T, E>(
    range: Range<usize>,
    of: &mut impl FnMut(usize) -> Result<T, E>,
    add: &mut impl FnMut(T, T) -> Result<T, E>,
) -> Result<T, E> {
    if range.len() <= 1 {
        return of(range.start);
    }
    let middle = range.start + range.len() / 2;
    let first = halves(range.start..middle, of, add)?;
    let second = halves(middle..range.end, of, add)?;
    add(first, second)
}

/// What [`of_tensors`] asks of an engine.
pub(crate) trait Exchange: Communicator {
    /// Row `i` of `blocks`, `[size, n]`, goes to rank `i`; row `i` of the result came from there.
    fn all_to_all(&self, blocks: &Tensor) -> Result<Tensor>;

    /// The `part`, `[n]`, of every rank: `[size, n]`.
    fn all_gather(&self, part: &Tensor) -> Result<Tensor>;
}

/// [`Communicator::sum`] by operations on tensors, wherever they are.
pub(crate) fn of_tensors(world: &impl Exchange, tensor: &Tensor) -> Result<Tensor> {
    let size = world.size();
    if size == 1 {
        return Ok(tensor.clone());
    }
    let flat = tensor.flatten_all()?.contiguous()?;
    let mut pieces = Vec::new();
    for first in (0..flat.elem_count()).step_by(PIECE) {
        let length = PIECE.min(flat.elem_count() - first);
        let stretch = length.div_ceil(size);
        let piece = flat.narrow(0, first, length)?;
        let padded = piece.pad_with_zeros(0, 0, stretch * size - length)?.contiguous()?;
        let received = world.all_to_all(&padded.reshape((size, stretch))?)?;
        let own =
            halves(0..size, &mut |rank| received.get(rank), &mut |first, second| first + second)?;
        let whole = world.all_gather(&own)?.flatten_all()?;
        pieces.push(whole.narrow(0, 0, length)?);
    }
    Ok(Tensor::cat(&pieces, 0)?.reshape(tensor.shape())?)
}

/// The same sum over rows of `length` numbers each, which lie one after the other; it ends up in the first of them.
#[cfg(any(feature = "mpi", test))]
pub(crate) fn of_rows<T: Copy + std::ops::AddAssign>(rows: &mut [T], length: usize) {
    let count = rows.len() / length.max(1);
    if count <= 1 {
        return;
    }
    let (first, second) = rows.split_at_mut(count / 2 * length);
    of_rows(first, length);
    of_rows(second, length);
    for (sum, other) in first.iter_mut().zip(second).take(length) {
        *sum += *other;
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::on_threads;

    /// Numbers whose sums depend on the order.
    fn part(i: usize) -> Tensor {
        let numbers: Vec<f32> =
            (0..7).map(|j| (1. + (i * 7 + j) as f32).sin() * 1e3f32.powi((j % 3) as i32)).collect();
        Tensor::from_vec(numbers, 7, &Device::Cpu).unwrap()
    }

    fn bits(tensor: &Tensor) -> Vec<u32> {
        tensor
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap()
            .iter()
            .map(|x| x.to_bits())
            .collect()
    }

    /// The sum of `parts` by `ranks`, each with its own stretch.
    fn summed(parts: usize, ranks: usize) -> Vec<Vec<u32>> {
        on_threads(ranks, |world| {
            let each = parts / ranks;
            let own = world.rank() * each..(world.rank() + 1) * each;
            let own =
                halves(own, &mut |i| Ok::<_, crate::Error>(part(i)), &mut |a, b| Ok((a + b)?))
                    .unwrap();
            bits(&world.sum(&own.reshape((7, 1)).unwrap()).unwrap())
        })
    }

    #[test]
    fn any_power_of_two_of_ranks_gives_the_same_bits() {
        let alone = summed(8, 1);
        for ranks in [2, 4, 8] {
            for of_rank in summed(8, ranks) {
                assert_eq!(of_rank, alone[0], "{ranks} ranks");
            }
        }
        // Where stretches are no halves all ranks still agree, and the sum is right.
        let uneven = summed(6, 3);
        assert!(uneven.iter().all(|of_rank| *of_rank == uneven[0]));
        let (ours, whole) = (&uneven[0], &summed(6, 1)[0]);
        for (a, b) in ours.iter().zip(whole) {
            let (a, b) = (f32::from_bits(*a), f32::from_bits(*b));
            assert!((a - b).abs() <= 1e-5 * b.abs().max(1e3), "{a} {b}");
        }
    }

    #[test]
    fn rows_are_summed_in_the_same_order() {
        for count in [1, 2, 3, 5, 8] {
            let mut rows: Vec<f32> =
                (0..count).flat_map(|i| part(i).to_vec1::<f32>().unwrap()).collect();
            of_rows(&mut rows, 7);
            let whole =
                halves(0..count, &mut |i| Ok::<_, crate::Error>(part(i)), &mut |a, b| Ok((a + b)?));
            assert_eq!(
                rows[..7].iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
                bits(&whole.unwrap()),
                "{count}"
            );
        }
    }

    #[test]
    fn the_order_matters_to_the_numbers_of_this_test() {
        let one_by_one = (1..8).fold(part(0), |sum, i| (sum + part(i)).unwrap());
        assert_ne!(bits(&one_by_one), summed(8, 1)[0]);
    }

    #[test]
    fn double_precision_is_summed_and_integers_are_refused() {
        on_threads(2, |world| {
            let x = Tensor::full(world.rank() as f64 + 0.5, 3, &Device::Cpu).unwrap();
            assert_eq!(world.sum(&x).unwrap().to_vec1::<f64>().unwrap(), [2.; 3]);
            assert!(world.sum(&x.to_dtype(DType::U32).unwrap()).is_err());
        });
    }
}
