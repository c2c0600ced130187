//! Sums and maxima of rows, in an order that is fixed and vectorises.
use candle_core::WithDType;

use crate::Real;

/// Width of the partial sums below; the order of a sum is fixed by it, on every processor.
pub(crate) const LANES: usize = 16;

/// Numbers per partial sum of a long row: a running sum of 262 144 numbers would have lost three digits.
pub(crate) const BLOCK: usize = 1024;

/// `Σ f(x_i)` in sixteen interleaved partial sums, block by block.
#[inline(always)]
pub(crate) fn sum<T: WithDType>(x: &[T], f: impl Fn(T) -> T) -> T {
    sum_zip(x, x, |x, _| f(x))
}

/// `Σ f(x_i, y_i)`, likewise.
#[inline(always)]
pub(crate) fn sum_zip<T: WithDType>(x: &[T], y: &[T], f: impl Fn(T, T) -> T) -> T {
    if x.len() <= BLOCK {
        return sum_block(x, y, &f);
    }
    let mut total = T::zero();
    for (x, y) in x.chunks(BLOCK).zip(y.chunks(BLOCK)) {
        total += sum_block(x, y, &f);
    }
    total
}

#[inline(always)]
fn sum_block<T: WithDType>(x: &[T], y: &[T], f: &impl Fn(T, T) -> T) -> T {
    // Loops here, not `fold`: what the compiler leaves out of line is compiled for the oldest processor.
    if x.len() < LANES {
        let mut total = T::zero();
        for (x, y) in x.iter().zip(y) {
            total += f(*x, *y);
        }
        return total;
    }
    let ((xs, x_rest), (ys, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let mut lanes = [T::zero(); LANES];
    for (xs, ys) in xs.iter().zip(ys) {
        lanes = std::array::from_fn(|i| lanes[i] + f(xs[i], ys[i]));
    }
    for ((lane, x), y) in lanes.iter_mut().zip(x_rest).zip(y_rest) {
        *lane += f(*x, *y);
    }
    fold(lanes)
}

/// The sum of partial sums, by halves.
#[inline(always)]
pub(crate) fn fold<T: WithDType>(lanes: [T; LANES]) -> T {
    by_halves(lanes, |a, b| a + b)
}

#[inline(always)]
fn by_halves<T: Copy>(mut lanes: [T; LANES], f: impl Fn(T, T) -> T) -> T {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = f(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// The largest of a row; `-∞` for an empty one.
#[inline(always)]
pub(crate) fn max<T: Real>(row: &[T]) -> T {
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut lanes = [T::NEG_INFINITY; LANES];
    for chunk in chunks {
        lanes = std::array::from_fn(|i| larger(lanes[i], chunk[i]));
    }
    let mut top = if chunks.is_empty() { T::NEG_INFINITY } else { by_halves(lanes, larger) };
    for x in rest {
        top = larger(top, *x);
    }
    top
}

#[inline(always)]
pub(crate) fn larger<T: Real>(a: T, b: T) -> T {
    if b > a { b } else { a }
}

/// Place of the first entry of a row that equals `x`.
#[inline(always)]
pub(crate) fn position<T: Real>(row: &[T], x: T) -> Option<usize> {
    let (chunks, rest) = row.as_chunks::<LANES>();
    for (i, chunk) in chunks.iter().enumerate() {
        let mut found = false;
        for y in chunk {
            found |= *y == x;
        }
        if found {
            return chunk.iter().position(|y| *y == x).map(|j| i * LANES + j);
        }
    }
    rest.iter().position(|y| *y == x).map(|j| chunks.len() * LANES + j)
}

/// Short rows whose reductions run side by side: one by one, each step would wait for the one before.
const SIDE_BY_SIDE: usize = 8;

/// `out_r = f(.. f(f(start, x_0, y_0), x_1, y_1) ..)` of each pair of rows of `k` numbers.
#[inline(always)]
fn short_rows<T: Real>(
    (x, y): (&[T], &[T]),
    k: usize,
    out: &mut [T],
    start: T,
    f: impl Fn(T, T, T) -> T,
) {
    let (groups, rest) = out.as_chunks_mut::<SIDE_BY_SIDE>();
    let done = groups.len() * SIDE_BY_SIDE;
    for (i, group) in groups.iter_mut().enumerate() {
        let first = i * SIDE_BY_SIDE * k;
        let xs: [&[T]; SIDE_BY_SIDE] = std::array::from_fn(|r| &x[first + r * k..][..k]);
        let ys: [&[T]; SIDE_BY_SIDE] = std::array::from_fn(|r| &y[first + r * k..][..k]);
        let mut lanes = [start; SIDE_BY_SIDE];
        for j in 0..k {
            for (lane, (x, y)) in lanes.iter_mut().zip(xs.iter().zip(&ys)) {
                *lane = f(*lane, x[j], y[j]);
            }
        }
        *group = lanes;
    }
    let (x, y) = (x[done * k..].chunks_exact(k), y[done * k..].chunks_exact(k));
    for (out, (x, y)) in rest.iter_mut().zip(x.zip(y)) {
        *out = start;
        for (x, y) in x.iter().zip(y) {
            *out = f(*out, *x, *y);
        }
    }
}

/// The largest of each row of `k` numbers.
#[inline(always)]
pub(crate) fn max_of_rows<T: Real>(x: &[T], k: usize, out: &mut [T]) {
    if k < LANES {
        return short_rows((x, x), k, out, T::NEG_INFINITY, |top, x, _| larger(top, x));
    }
    for (out, x) in out.iter_mut().zip(x.chunks_exact(k)) {
        *out = max(x);
    }
}

/// `Σ_k x_k` of each row of `k` numbers; the bits are those of [`sum`].
#[inline(always)]
pub(crate) fn sum_of_rows<T: Real>(x: &[T], k: usize, out: &mut [T]) {
    sum_zip_of_rows(x, x, k, out, |x, _| x);
}

/// `Σ_k f(x_k, y_k)` of each pair of rows of `k` numbers; the bits are those of [`sum_zip`].
#[inline(always)]
pub(crate) fn sum_zip_of_rows<T: Real>(
    x: &[T],
    y: &[T],
    k: usize,
    out: &mut [T],
    f: impl Fn(T, T) -> T,
) {
    if k < LANES {
        return short_rows((x, y), k, out, T::zero(), |total, x, y| total + f(x, y));
    }
    for (out, (x, y)) in out.iter_mut().zip(x.chunks_exact(k).zip(y.chunks_exact(k))) {
        *out = sum_zip(x, y, &f);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectorised::vectorised;

    vectorised! {
        fn wide(x: &[f32]) -> (f32, f32, f32) {
            (sum(x, |x| x * x), sum_zip(x, x, |x, y| x * y), max(x))
        }
    }

    #[test]
    fn sums_and_maxima_do_not_depend_on_the_vector_unit() {
        for n in [0usize, 1, 15, 16, 17, 100] {
            let x: Vec<f32> = (0..n).map(|i| 0.1 * i as f32 - 3.).collect();
            let plain = (sum(&x, |x| x * x), sum_zip(&x, &x, |x, y| x * y), max(&x));
            assert_eq!(plain, wide(&x));
            let exact: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum();
            assert!((f64::from(plain.0) - exact).abs() <= 1e-5 * exact);
        }
    }

    #[test]
    fn reductions_of_rows_are_those_of_each_row() {
        for (k, rows) in [(1usize, 9usize), (3, 21), (10, 8), (15, 17), (16, 3), (40, 5)] {
            let x: Vec<f32> = (0..k * rows).map(|i| (0.7 * i as f32).sin()).collect();
            let y: Vec<f32> = (0..k * rows).map(|i| (1.3 * i as f32).cos()).collect();
            let mut out = [vec![0.; rows], vec![0.; rows], vec![0.; rows]];
            max_of_rows(&x, k, &mut out[0]);
            sum_of_rows(&x, k, &mut out[1]);
            sum_zip_of_rows(&x, &y, k, &mut out[2], |x, y| x * y);
            for (i, (x, y)) in x.chunks(k).zip(y.chunks(k)).enumerate() {
                let expected = [max(x), sum(x, |x| x), sum_zip(x, y, |x, y| x * y)];
                assert_eq!([out[0][i], out[1][i], out[2][i]], expected);
                assert_eq!(position(x, max(x)), x.iter().position(|z| *z == max(x)));
            }
            assert_eq!(position(&x, 9.), None);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "half a million numbers")]
    fn long_sums_keep_their_digits() {
        let x = vec![0.3f32; 262_144];
        let exact = 262_144. * f64::from(0.3f32);
        let relative = |y: f32| (f64::from(y) / exact - 1.).abs();
        assert!(relative(sum(&x, |x| x)) < 2e-6, "{}", relative(sum(&x, |x| x)));
        assert!(relative(sum_zip(&x, &x, |x, _| x)) < 2e-6);
    }
}
