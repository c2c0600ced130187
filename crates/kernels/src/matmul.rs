//! Matrix products on the CPU.
use std::marker::PhantomData;
use std::mem::MaybeUninit;

use gemm::Parallelism;

use crate::Real;
use crate::threads::parallel;

/// A matrix whose element `(i, j)` is number `i · row_stride + j · column_stride` of a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a, T> {
    numbers: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T: Real> Matrix<'a, T> {
    /// Rows of `columns` numbers, one after the other.
    pub(crate) fn new(numbers: &'a [T], columns: usize) -> Self {
        let rows = numbers.len() / columns.max(1);
        Self { numbers, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// `rows` rows of `columns` numbers, each `stride` numbers after the one before.
    pub(crate) fn strided(numbers: &'a [T], rows: usize, columns: usize, stride: usize) -> Self {
        Self { numbers, rows, columns, row_stride: stride, column_stride: 1 }
    }

    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// Rows `range` of it.
    pub(crate) fn rows(self, range: std::ops::Range<usize>) -> Self {
        let start = (range.start * self.row_stride).min(self.numbers.len());
        let rows = range.end.min(self.rows).saturating_sub(range.start);
        Self { numbers: &self.numbers[start..], rows, ..self }
    }

    /// Whether every element lies in the slice.
    fn is_inside(&self) -> bool {
        let last = |n: usize, stride: usize| n.saturating_sub(1).checked_mul(stride);
        let end = last(self.rows, self.row_stride)
            .zip(last(self.columns, self.column_stride))
            .and_then(|(row, column)| row.checked_add(column));
        self.rows * self.columns == 0 || end.is_some_and(|end| end < self.numbers.len())
    }
}

/// A block of columns of rows that lie one after the other: a matrix that is written to.
///
/// Blocks of the same rows can be filled by different threads.
#[derive(Debug)]
pub(crate) struct Block<'a, T> {
    first: *mut T,
    rows: usize,
    columns: usize,
    row_stride: usize,
    numbers: PhantomData<&'a mut [T]>,
}

// SAFETY: a block is the only way to its numbers while it lives, as a mutable slice would be.
#[expect(unsafe_code, reason = "a pointer says nothing about who else has it")]
unsafe impl<T: Send> Send for Block<'_, T> {}

impl<'a, T> Block<'a, T> {
    /// Rows of `width` numbers, cut into blocks of `columns` columns, of which `width` is a multiple.
    pub(crate) fn split(numbers: &'a mut [T], width: usize, columns: usize) -> Vec<Self> {
        assert!(
            columns > 0 && width.is_multiple_of(columns) && numbers.len().is_multiple_of(width),
            "rows that do not split into blocks: this is a bug of the calling kernel"
        );
        let (first, rows) = (numbers.as_mut_ptr(), numbers.len() / width);
        let block = |i: usize| Self {
            first: first.wrapping_add(i * columns),
            rows,
            columns,
            row_stride: width,
            numbers: PhantomData,
        };
        (0..width / columns).map(block).collect()
    }

    /// Rows of `columns` numbers, one after the other.
    pub(crate) fn new(numbers: &'a mut [T], columns: usize) -> Self {
        let (first, rows) = (numbers.as_mut_ptr(), numbers.len() / columns.max(1));
        Self { first, rows, columns, row_stride: columns, numbers: PhantomData }
    }

    /// Rows `range` of it.
    pub(crate) fn rows(&mut self, range: std::ops::Range<usize>) -> Block<'_, T> {
        assert!(range.start <= range.end && range.end <= self.rows, "rows outside of a block");
        let first = self.first.wrapping_add(range.start * self.row_stride);
        Block { first, rows: range.len(), numbers: PhantomData, ..*self }
    }
}

/// Writes `factor · a b` to `out`, or with `add` adds it, on this thread alone: for small products of which many
/// are computed side by side.
pub(crate) fn multiply_into<T: Real>(
    factor: T,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    out: Block<'_, T>,
    add: bool,
) {
    let fits = (a.rows, a.columns, b.columns) == (out.rows, b.rows, out.columns);
    assert!(
        a.is_inside() && b.is_inside() && fits,
        "a matrix product whose sizes do not fit: this is a bug of the calling kernel"
    );
    let (first, row_stride) = (out.first, out.row_stride);
    // SAFETY: the elements of `a` and `b` lie in their slices, as asserted; those of `out` lie in the slice that
    // it was made of, which nothing else refers to while it is borrowed.
    #[expect(unsafe_code, reason = "the library for matrix products takes pointers")]
    unsafe {
        gemm_into(factor, a, b, first, row_stride, add, Parallelism::None);
    }
}

/// `factor · a b` to the rows that begin at `first`.
///
/// # Safety
/// Every element that the sizes and strides of `a` and `b` lead to lies in its slice, and `a.rows` rows of `b.columns`
/// elements, `row_stride` apart, may be written from `first` on, and read if `add`.
#[expect(unsafe_code, reason = "the library for matrix products takes pointers")]
unsafe fn gemm_into<T: Real>(
    factor: T,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    first: *mut T,
    row_stride: usize,
    add: bool,
    parallelism: Parallelism,
) {
    // SAFETY: the caller's; strides of slices fit an `isize`.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            first,
            1,
            row_stride as isize,
            add,
            a.numbers.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.numbers.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            T::one(),
            factor,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// `a b`, as rows.
pub(crate) fn product<T: Real>(a: Matrix<'_, T>, b: Matrix<'_, T>) -> Vec<T> {
    let mut out = Vec::new();
    append_product(a, b, &mut out);
    out
}

/// Appends the rows of `a b`.
pub(crate) fn append_product<T: Real>(a: Matrix<'_, T>, b: Matrix<'_, T>, out: &mut Vec<T>) {
    let n = a.rows * b.columns;
    out.reserve_exact(n);
    multiply(a, b, &mut out.spare_capacity_mut()[..n], false);
    // SAFETY: `multiply` wrote the `n` elements behind the old ones.
    #[expect(unsafe_code, reason = "filling the vector first would be one more pass over memory")]
    unsafe {
        out.set_len(out.len() + n);
    }
}

/// Adds `a b` to the rows of `out`.
pub(crate) fn add_product<T: Real>(a: Matrix<'_, T>, b: Matrix<'_, T>, out: &mut [T]) {
    // SAFETY: numbers that are written stay written: `multiply` puts nothing but numbers there.
    #[expect(unsafe_code, reason = "one function writes to fresh memory and to old")]
    let out = unsafe { &mut *(std::ptr::from_mut(out) as *mut [MaybeUninit<T>]) };
    multiply(a, b, out, true);
}

/// Writes `a b`, or with `add` adds it, to the rows of `out`, which must hold numbers then.
fn multiply<T: Real>(a: Matrix<'_, T>, b: Matrix<'_, T>, out: &mut [MaybeUninit<T>], add: bool) {
    assert!(
        a.is_inside() && b.is_inside() && a.columns == b.rows && out.len() == a.rows * b.columns,
        "a matrix product whose sizes do not fit: this is a bug of the calling kernel"
    );
    // The library computes small products alone, see `threads::configure`.
    let parallelism = if parallel() {
        Parallelism::Rayon(rayon::current_num_threads())
    } else {
        Parallelism::None
    };
    let first = out.as_mut_ptr().cast::<T>();
    // SAFETY: the assertion above says that every element that the sizes and strides lead to lies in its slice,
    // and that `out` has room for the product.
    #[expect(unsafe_code, reason = "the library for matrix products takes pointers")]
    unsafe {
        gemm_into(T::one(), a, b, first, b.columns, add, parallelism);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_every_orientation_equal_the_sum() {
        let number = |i: usize| (0.37 * i as f64).sin();
        for (m, n, k) in [(1, 1, 1), (3, 5, 7), (20, 17, 33), (4, 3, 0), (130, 140, 150)] {
            let a: Vec<f64> = (0..m * k).map(number).collect();
            let b: Vec<f64> = (0..k * n).map(|i| number(i + 7)).collect();
            let (mut a_t, mut b_t) = (a.clone(), b.clone());
            for (i, x) in a.iter().enumerate() {
                a_t[i % k * m + i / k] = *x;
            }
            for (i, x) in b.iter().enumerate() {
                b_t[i % n * k + i / n] = *x;
            }
            let sizes = |numbers, rows, columns| Matrix::strided(numbers, rows, columns, columns);
            for left in [sizes(&a, m, k), sizes(&a_t, k, m).transposed()] {
                for right in [sizes(&b, k, n), sizes(&b_t, n, k).transposed()] {
                    let mut y = product(left, right);
                    add_product(left, right, &mut y);
                    for (i, y) in y.iter().enumerate() {
                        let terms = (0..k).map(|j| a[i / n * k + j] * b[j * n + i % n]);
                        assert!((y - 2. * terms.sum::<f64>()).abs() < 1e-12 * (1. + k as f64));
                    }
                }
            }
        }
    }

    #[test]
    fn blocks_of_columns_are_written_where_they_lie() {
        let a: Vec<f64> = (0..15).map(f64::from).collect();
        let b: Vec<f64> = (0..10).map(|i| f64::from(i).sqrt()).collect();
        let (a, b) = (Matrix::new(&a, 5).rows(1..3), Matrix::new(&b, 2));
        let mut out = vec![1.; 3 * 6];
        let mut blocks = Block::split(&mut out, 6, 2);
        multiply_into(2., a, b, blocks[1].rows(1..3), false);
        multiply_into(3., a, b, blocks[2].rows(0..2), true);
        let y = product(a, b);
        let expected = [
            [1., 1., 1., 1., 1. + 3. * y[0], 1. + 3. * y[1]],
            [1., 1., 2. * y[0], 2. * y[1], 1. + 3. * y[2], 1. + 3. * y[3]],
            [1., 1., 2. * y[2], 2. * y[3], 1., 1.],
        ];
        for (x, y) in out.iter().zip(expected.as_flattened()) {
            assert!((x - y).abs() < 1e-12 * y, "{x} {y}");
        }
    }

    #[test]
    fn sizes_that_do_not_fit_do_not_reach_the_library() {
        let wrong = || product(Matrix::new(&[1f32; 6], 3), Matrix::new(&[1f32; 6], 3));
        let panic = std::panic::catch_unwind(wrong).unwrap_err();
        assert!(panic.downcast_ref::<&str>().is_some_and(|text| text.contains("do not fit")));
    }
}
