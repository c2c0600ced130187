//! Row-wise work on CPU storage: what the operations of this crate share.
use candle_core::{CpuStorage, Layout, Result, Tensor, WithDType};
use rayon::prelude::*;

/// Numbers per parallel task. Fixed, so that no result depends on the number of threads.
const TASK: usize = 1 << 14;

/// The contiguous data behind a layout.
pub(crate) fn data<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let slice = storage.as_slice::<T>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&slice[start..end]),
        None => candle_core::bail!("expected a contiguous tensor, got {layout:?}"),
    }
}

/// Runs `f` compiled for the widest vector unit of this processor: what is inlined into `f` is compiled
/// for it, too, which is why the functions that kernels are made of are `inline(always)`.
///
/// The arithmetic is the same on all of them (Rust never contracts `a * b + c`), and so are the bits.
#[inline(always)]
pub(crate) fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        fn avx512<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        #[target_feature(enable = "avx2,fma")]
        fn avx2<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        let wide = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has the features that the called function is compiled for.
            #[expect(unsafe_code, reason = "the features were just detected")]
            return unsafe { if wide { avx512(f) } else { avx2(f) } };
        }
    }
    f()
}

/// Calls `f(first row, rows of out)` on runs of whole rows of `width` numbers, in parallel.
///
/// The runs are the same whatever the number of threads.
pub(crate) fn for_rows<T: Send>(
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
    if out.len() / width <= 2 * rows {
        return vectorised(|| f(0, out));
    }
    out.par_chunks_mut(rows * width)
        .enumerate()
        .try_for_each(|(task, out)| vectorised(|| f(task * rows, out)))
}

/// Width of the partial sums below; the order of a sum is fixed by it, on every processor.
const LANES: usize = 16;

/// Numbers per partial sum of a long row: a running sum of 262 144 numbers would have lost three digits.
const BLOCK: usize = 1024;

/// `Σ f(x_i)` in sixteen interleaved partial sums, block by block: a fixed order that vectorises.
#[inline(always)]
pub(crate) fn sum<T: WithDType>(x: &[T], f: impl Fn(T) -> T) -> T {
    if x.len() <= BLOCK {
        return sum_block(x, f);
    }
    x.chunks(BLOCK).fold(T::zero(), |total, x| total + sum_block(x, &f))
}

#[inline(always)]
fn sum_block<T: WithDType>(x: &[T], f: impl Fn(T) -> T) -> T {
    if x.len() < LANES {
        return x.iter().fold(T::zero(), |total, x| total + f(*x));
    }
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut lanes = [T::zero(); LANES];
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += f(*x);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += f(*x);
    }
    fold(lanes)
}

/// `Σ f(x_i, y_i)`, likewise.
#[inline(always)]
pub(crate) fn sum_zip<T: WithDType>(x: &[T], y: &[T], f: impl Fn(T, T) -> T) -> T {
    if x.len() <= BLOCK {
        return sum_zip_block(x, y, f);
    }
    let blocks = x.chunks(BLOCK).zip(y.chunks(BLOCK));
    blocks.fold(T::zero(), |total, (x, y)| total + sum_zip_block(x, y, &f))
}

#[inline(always)]
fn sum_zip_block<T: WithDType>(x: &[T], y: &[T], f: impl Fn(T, T) -> T) -> T {
    if x.len() < LANES {
        return x.iter().zip(y).fold(T::zero(), |total, (x, y)| total + f(*x, *y));
    }
    let ((xs, x_rest), (ys, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let mut lanes = [T::zero(); LANES];
    for (xs, ys) in xs.iter().zip(ys) {
        for ((lane, x), y) in lanes.iter_mut().zip(xs).zip(ys) {
            *lane += f(*x, *y);
        }
    }
    for ((lane, x), y) in lanes.iter_mut().zip(x_rest).zip(y_rest) {
        *lane += f(*x, *y);
    }
    fold(lanes)
}

#[inline(always)]
fn fold<T: WithDType>(mut lanes: [T; LANES]) -> T {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            let other = lanes[lane + half];
            lanes[lane] += other;
        }
        half /= 2;
    }
    lanes[0]
}

/// The largest of a row; `-∞` for an empty one.
#[inline(always)]
pub(crate) fn max<T: crate::Real>(row: &[T]) -> T {
    let larger = |a: T, b: T| if b > a { b } else { a };
    if row.len() < LANES {
        return row.iter().fold(T::NEG_INFINITY, |a, b| larger(a, *b));
    }
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut lanes = [T::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, *x);
        }
    }
    rest.iter().chain(&lanes).fold(T::NEG_INFINITY, |a, b| larger(a, *b))
}

/// Adds leading axes of size 1 to both until they have the same rank, and makes each a whole number of
/// repeats of its trailing axes: what row-modulo indexing needs. Returns the common leading shape.
pub(crate) fn align_rows(a: &Tensor, b: &Tensor) -> Result<(Tensor, Tensor, Vec<usize>)> {
    let rank = a.rank().max(b.rank());
    let padded = |t: &Tensor| {
        let mut dims = vec![1; rank - t.rank()];
        dims.extend(t.dims());
        t.reshape(dims)
    };
    let (a, b) = (padded(a)?, padded(b)?);
    let shape = a.shape().broadcast_shape_binary_op(b.shape(), "align_rows")?;
    let fit = |t: Tensor| {
        // A shape that equals the common one behind some leading 1s repeats as it lies in memory.
        let ones = t.dims().iter().take_while(|d| **d == 1).count();
        let suffix = t.dims()[ones..] == shape.dims()[ones..];
        if suffix { t.contiguous() } else { t.broadcast_as(&shape)?.contiguous() }
    };
    let leading = shape.dims()[..rank.saturating_sub(1)].to_vec();
    Ok((fit(a)?, fit(b)?, leading))
}

/// Storage that holds the `Vec<$t>` of `$body`, with `$t` the float type of `$storage`.
macro_rules! with_float {
    ($storage:expr, $name:expr, $t:ident => $body:expr) => {
        match $storage {
            candle_core::CpuStorage::F32(_) => {
                type $t = f32;
                candle_core::CpuStorage::F32($body)
            }
            candle_core::CpuStorage::F64(_) => {
                type $t = f64;
                candle_core::CpuStorage::F64($body)
            }
            _ => candle_core::bail!("{} is for float tensors; convert with to_dtype", $name),
        }
    };
}
pub(crate) use with_float;

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs under Miri, too, which has no vector units: the result is the same.
    #[test]
    fn sums_and_maxima_do_not_depend_on_the_vector_unit() {
        for n in [0usize, 1, 15, 16, 17, 100] {
            let x: Vec<f32> = (0..n).map(|i| 0.1 * i as f32 - 3.).collect();
            let plain = (sum(&x, |x| x * x), sum_zip(&x, &x, |x, y| x * y), max(&x));
            let wide = vectorised(|| (sum(&x, |x| x * x), sum_zip(&x, &x, |x, y| x * y), max(&x)));
            assert_eq!(plain, wide);
            let exact: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum();
            assert!((f64::from(plain.0) - exact).abs() <= 1e-5 * exact);
        }
    }

    #[test]
    fn long_sums_keep_their_digits() {
        let x = vec![0.3f32; 262_144];
        let exact = 262_144. * f64::from(0.3f32);
        let relative = |y: f32| (f64::from(y) / exact - 1.).abs();
        assert!(relative(sum(&x, |x| x)) < 2e-6, "{}", relative(sum(&x, |x| x)));
        assert!(relative(sum_zip(&x, &x, |x, _| x)) < 2e-6);
    }

    #[test]
    fn rows_are_whole_and_cover_everything_once() -> Result<()> {
        let mut out = vec![0u32; 7 * 9001];
        for_rows(&mut out, 7, 100, |first, rows| {
            assert_eq!(rows.len() % 7, 0);
            for (i, row) in rows.chunks_mut(7).enumerate() {
                row.fill((first + i) as u32 + 1);
            }
            Ok(())
        })?;
        assert!(out.chunks(7).enumerate().all(|(i, row)| row == [i as u32 + 1; 7]));
        let failed = for_rows(&mut out, 7, 100, |first, _| {
            if first > 0 { candle_core::bail!("row {first}") } else { Ok(()) }
        });
        assert!(failed.is_err());
        Ok(())
    }
}

/// Checks that gradients of a kernel equal those of its twin and of finite differences.
#[cfg(test)]
pub(crate) mod check {
    use candle_core::{DType, Device, Result, Tensor, Var};

    use crate::Key;

    /// A fixed, irregular `[..shape]` tensor.
    pub(crate) fn irregular(shape: &[usize], seed: u64, dtype: DType) -> Result<Tensor> {
        Key::from_seed(seed).normal(shape, dtype, &Device::Cpu)
    }

    fn flat(t: &Tensor) -> Result<Vec<f64>> {
        t.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
    }

    pub(crate) fn close(a: &Tensor, b: &Tensor, tolerance: f64) -> Result<()> {
        assert_eq!(a.dims(), b.dims());
        for (i, (x, y)) in flat(a)?.iter().zip(flat(b)?).enumerate() {
            let same = *x == y || (x - y).abs() <= tolerance * y.abs().max(1.);
            assert!(same, "element {i}: {x} against {y}");
        }
        Ok(())
    }

    /// Values and gradients (under a fixed irregular cotangent) of `f` and `twin` at `inputs`.
    pub(crate) fn twins(
        inputs: &[Tensor],
        tolerance: f64,
        f: impl Fn(&[Tensor]) -> Result<Tensor>,
        twin: impl Fn(&[Tensor]) -> Result<Tensor>,
    ) -> Result<()> {
        let run = |f: &dyn Fn(&[Tensor]) -> Result<Tensor>| {
            let vars = inputs.iter().map(Var::from_tensor).collect::<Result<Vec<_>>>()?;
            let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
            let y = f(&tensors)?;
            let cotangent = irregular(y.dims(), 99, y.dtype())?;
            let grads = (&y * cotangent)?.sum_all()?.backward()?;
            let grads = tensors.iter().map(|t| grads.get(t).cloned()).collect::<Vec<_>>();
            Ok::<_, candle_core::Error>((y, grads))
        };
        let ((y, gradients), (y_twin, gradients_twin)) = (run(&f)?, run(&twin)?);
        close(&y, &y_twin, tolerance)?;
        for (a, b) in gradients.iter().zip(&gradients_twin) {
            match (a, b) {
                (Some(a), Some(b)) => close(a, b, tolerance)?,
                (None, None) => {}
                _ => panic!("one twin has a gradient, the other has none"),
            }
        }
        Ok(())
    }

    /// Gradient of `Σ cotangent · f` against central differences; `inputs` in `f64`.
    pub(crate) fn finite_differences(
        inputs: &[Tensor],
        f: impl Fn(&[Tensor]) -> Result<Tensor>,
    ) -> Result<()> {
        let value = |tensors: &[Tensor]| {
            let y = f(tensors)?;
            (&y * irregular(y.dims(), 98, y.dtype())?)?.sum_all()
        };
        let vars = inputs.iter().map(Var::from_tensor).collect::<Result<Vec<_>>>()?;
        let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let grads = value(&tensors)?.backward()?;
        for (which, input) in inputs.iter().enumerate() {
            let Some(grad) = grads.get(&tensors[which]) else { panic!("no gradient {which}") };
            let (x, grad) = (flat(input)?, flat(grad)?);
            for i in 0..x.len() {
                let at = |h: f64| {
                    let mut x = x.clone();
                    x[i] += h;
                    let mut moved = inputs.to_vec();
                    moved[which] = Tensor::from_vec(x, input.shape(), &Device::Cpu)?;
                    value(&moved)?.to_scalar::<f64>()
                };
                let numeric = (at(1e-6)? - at(-1e-6)?) / 2e-6;
                let same = (numeric - grad[i]).abs() < 1e-6 * grad[i].abs().max(1.);
                assert!(same, "input {which}, element {i}: {} against {numeric}", grad[i]);
            }
        }
        Ok(())
    }
}
