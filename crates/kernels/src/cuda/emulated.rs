//! The source of the GPU's kernels, run on the CPU one thread after the other, against the CPU's own kernels.
//!
//! What is not tested here is what a GPU does at once: exchange between the threads of a row. A row is one thread's.
#![expect(unsafe_code, reason = "the kernels are functions of C")]
use std::path::Path;
use std::process::Command;

use candle_core::{DType, Device, Result, Tensor, Var};
use libloading::{Library, Symbol};

use super::SOURCE;
use crate::check::irregular;
use crate::embedding::{Indices, Segments};
use crate::optimizer::{AdamStep, adam_update};
use crate::{
    Forward, Key, Real, bernoulli_log_prob, categorical_kl, cross_entropy, embedding,
    gumbel_softmax, layer_norm, log_softmax, softmax,
};

/// What a C++ compiler needs to take the source.
const PRELUDE: &str = include_str!("emulated.h");

/// Functions of one number, which no kernel has for itself.
const FUNCTIONS: &str = "
extern \"C\" void functions(const float* x, float* y, u64 n) {
    for (u64 i = 0; i < n; i++) {
        y[i * 4] = exponential(x[i]), y[i * 4 + 1] = ln_1p(absolute(x[i]));
        y[i * 4 + 2] = sigmoid(x[i]), y[i * 4 + 3] = softplus(x[i]);
    }
}
";

/// The kernels, as functions of one thread.
struct Kernels {
    library: Library,
    _directory: tempfile::TempDir,
}

/// None where there is no C++ compiler.
fn compiled() -> Option<Kernels> {
    let directory = tempfile::tempdir().unwrap();
    let (source, library) =
        (directory.path().join("kernels.cpp"), directory.path().join("kernels.so"));
    std::fs::write(&source, format!("{PRELUDE}{SOURCE}{FUNCTIONS}")).unwrap();
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let options = ["-std=c++17", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-o"];
    let run = Command::new(compiler).args(options).args([&library as &Path, &source]).output();
    let Ok(output) = run else { return None };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // SAFETY: the library was just made from the source above; it does nothing when it is loaded.
    let library = unsafe { Library::new(&library) }.unwrap();
    Some(Kernels { library, _directory: directory })
}

/// Calls a kernel for every thread of some blocks.
macro_rules! run {
    ($kernels:ident, $blocks:expr, $name:literal, ($($t:ty),+), ($($argument:expr),+)) => {{
        let (blocks, threads): (u32, u32) = $blocks;
        // SAFETY: the types are those of the kernel in `kernels.cu`, and every pointer is to as many numbers as the sizes
        // beside it say; one thread runs at a time, and tests do not share a library.
        unsafe {
            let at: Symbol<'_, unsafe extern "C" fn(u32, u32, u32, u32)> = $kernels.library.get(b"at").unwrap();
            let kernel: Symbol<'_, unsafe extern "C" fn($($t),+)> = $kernels.library.get($name).unwrap();
            for (block, thread) in (0..blocks).flat_map(|b| (0..threads).map(move |t| (b, t))) {
                at(block, blocks, thread, threads);
                kernel($($argument),+);
            }
        }
    }};
}

type From = *const f32;
type To = *mut f32;

#[repr(C)]
#[derive(Clone, Copy)]
struct Stream([u32; 4]);

#[repr(C)]
#[derive(Clone, Copy)]
struct Step([f32; 8]);

fn numbers(x: &Tensor) -> Result<Vec<f32>> {
    x.flatten_all()?.to_vec1()
}

fn close(ours: &[f32], theirs: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), theirs.len());
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= tolerance * b.abs().max(1.), "{i}: {a} {b}");
    }
}

/// Blocks for rows, a thread each, and more threads than rows.
fn for_rows(rows: usize) -> (u32, u32) {
    (rows as u32 / 7 + 1, 7)
}

#[test]
fn noise_has_the_bits_of_the_cpu() -> Result<()> {
    let Some(kernels) = compiled() else { return Ok(()) };
    type Draw = fn(Key, usize, DType, &Device) -> Result<Tensor>;
    let draws = [Key::uniform as Draw, Key::gumbel, Key::logistic, Key::normal];
    for (noise, draw) in draws.into_iter().enumerate() {
        for n in [1, 4, 10_007] {
            let key = Key::from_seed(n as u64).named("noise");
            let mut out = vec![f32::NAN; n];
            run!(
                kernels,
                (3, 5),
                b"fill",
                (To, u64, u32, Stream),
                (out.as_mut_ptr(), n as u64, noise as u32, Stream(key.words()))
            );
            let ours = numbers(&draw(key, n, DType::F32, &Device::Cpu)?)?;
            // The normal deviates are those of the system's library of mathematics.
            if noise == 3 { close(&out, &ours, 1e-6) } else { assert_eq!(out, ours, "{noise}") }
        }
    }
    Ok(())
}

#[test]
fn functions_have_the_bits_of_the_cpu() -> Result<()> {
    let Some(kernels) = compiled() else { return Ok(()) };
    let x: Vec<f32> = (-4000..4000).map(|i| i as f32 * 0.03).collect();
    let mut y = vec![f32::NAN; 4 * x.len()];
    let n = x.len() as u64;
    run!(kernels, (1, 1), b"functions", (From, To, u64), (x.as_ptr(), y.as_mut_ptr(), n));
    for (x, y) in x.iter().zip(y.chunks(4)) {
        let ours = [Real::exp(*x), Real::ln_1p(x.abs()), Real::sigmoid(*x), Real::softplus(*x)];
        assert_eq!(y, ours, "{x}");
    }
    Ok(())
}

/// A masked category has no gradient, and gives none.
#[test]
fn masked_categories_take_no_part() -> Result<()> {
    let Some(kernels) = compiled() else { return Ok(()) };
    let x = Var::new(&[[1f32, f32::NEG_INFINITY, 0.5]], &Device::Cpu)?;
    let g = [0.3f32, f32::NAN, -2.];
    let (y, mut d) = (numbers(&log_softmax(&x)?)?, [f32::NAN; 3]);
    run!(
        kernels,
        (1, 1),
        b"log_softmax_slopes",
        (From, From, To, u64, u32, u32),
        (y.as_ptr(), g.as_ptr(), d.as_mut_ptr(), 1, 3, 1)
    );
    let open = log_softmax(&Tensor::new(&[1f32, 0.5], &Device::Cpu)?)?.exp()?.to_vec1::<f32>()?;
    close(&d, &[0.3 + 1.7 * open[0], 0., -2. + 1.7 * open[1]], 1e-6);
    Ok(())
}

#[test]
fn softmax_and_its_gradients_are_those_of_the_cpu() -> Result<()> {
    let Some(kernels) = compiled() else { return Ok(()) };
    for (rows, k) in [(1, 1), (11, 10), (3, 2000)] {
        let x = (irregular(&[rows, k], 1, DType::F32)? * 5.)?;
        let g = irregular(&[rows, k], 2, DType::F32)?;
        let (from, weights) = (numbers(&x)?, numbers(&g)?);
        for (logarithm, ours) in [(0, softmax as fn(&Tensor) -> Result<Tensor>), (1, log_softmax)] {
            let (mut y, mut d) = (vec![f32::NAN; rows * k], vec![f32::NAN; rows * k]);
            let (n, width, at) = (rows as u64, k as u32, for_rows(rows));
            run!(
                kernels,
                at,
                b"softmax",
                (From, To, u64, u32, u32, u32),
                (from.as_ptr(), y.as_mut_ptr(), n, width, 1, logarithm)
            );
            let variable = Var::from_tensor(&x)?;
            let value = ours(&variable)?;
            close(&y, &numbers(&value)?, 1e-5);
            let gradient = (value * &g)?.sum_all()?.backward()?;
            if logarithm == 1 {
                run!(
                    kernels,
                    at,
                    b"log_softmax_slopes",
                    (From, From, To, u64, u32, u32),
                    (y.as_ptr(), weights.as_ptr(), d.as_mut_ptr(), n, width, 1)
                );
            } else {
                run!(
                    kernels,
                    at,
                    b"softmax_slopes",
                    (From, From, To, u64, u64, u32, u32, f32),
                    (y.as_ptr(), weights.as_ptr(), d.as_mut_ptr(), n, 1, width, 1, 1.)
                );
            }
            close(&d, &numbers(gradient.get(&variable).unwrap())?, 1e-5);
        }
    }
    Ok(())
}

#[test]
fn gumbel_softmax_and_its_gradient_are_those_of_the_cpu() -> Result<()> {
    let Some(kernels) = compiled() else { return Ok(()) };
    let key = Key::from_seed(5).named("gumbel_softmax");
    for (inputs, samples, k) in [(4, 3, 10), (1, 2, 3000)] {
        let logits = Var::from_tensor(&irregular(&[1, inputs, k], 1, DType::F32)?)?;
        let g = irregular(&[samples, inputs, k], 2, DType::F32)?;
        let (from, weights) = (numbers(&logits)?, numbers(&g)?);
        let (rows, inverse) = (samples * inputs, 1f32 / 0.7);
        let mut soft = Vec::new();
        for (hard, forward) in [(0, Forward::Soft), (1, Forward::Hard)] {
            let mut y = vec![f32::NAN; rows * k];
            run!(
                kernels,
                for_rows(rows),
                b"gumbel_softmax",
                (From, To, u64, u64, u32, u32, f32, u32, Stream),
                (
                    from.as_ptr(),
                    y.as_mut_ptr(),
                    rows as u64,
                    inputs as u64,
                    k as u32,
                    1,
                    inverse,
                    hard,
                    Stream(key.words())
                )
            );
            let ours = gumbel_softmax(&logits, samples, 0.7, forward, key)?;
            close(&y, &numbers(&ours)?, 3e-6);
            if hard == 0 {
                soft = y;
            }
            let gradient = (ours * &g)?.sum_all()?.backward()?;
            let mut d = vec![f32::NAN; inputs * k];
            run!(
                kernels,
                for_rows(inputs),
                b"softmax_slopes",
                (From, From, To, u64, u64, u32, u32, f32),
                (
                    soft.as_ptr(),
                    weights.as_ptr(),
                    d.as_mut_ptr(),
                    inputs as u64,
                    samples as u64,
                    k as u32,
                    1,
                    inverse
                )
            );
            close(&d, &numbers(gradient.get(&logits).unwrap())?, 1e-5);
        }
    }
    // Where no category is left.
    let (masked, mut y) = ([f32::NEG_INFINITY; 3], [0f32; 3]);
    for hard in [0, 1] {
        run!(
            kernels,
            (1, 1),
            b"gumbel_softmax",
            (From, To, u64, u64, u32, u32, f32, u32, Stream),
            (masked.as_ptr(), y.as_mut_ptr(), 1, 1, 3, 1, 1., hard, Stream(key.words()))
        );
        assert!(y.iter().all(|y| y.is_nan()), "{y:?}");
    }
    Ok(())
}

#[test]
fn bernoulli_and_its_gradients_are_those_of_the_cpu() -> Result<()> {
    let Some(kernels) = compiled() else { return Ok(()) };
    for (of_logits, of_data, d) in [(6, 2, 19), (2, 6, 7), (3, 3, 784)] {
        let shape = |n: usize| if n == 6 { vec![3, 2, d] } else { vec![n, d] };
        let l = Var::from_tensor(&(irregular(&shape(of_logits), 1, DType::F32)? * 3.)?)?;
        let x = Var::from_tensor(&irregular(&shape(of_data), 2, DType::F32)?)?;
        let n = of_logits.max(of_data);
        let value = bernoulli_log_prob(&l, &x)?;
        let g = irregular(value.dims(), 3, DType::F32)?;
        let (logits, data, weights) = (numbers(&l)?, numbers(&x)?, numbers(&g)?);
        let size = (n as u64, of_logits as u64, of_data as u64, d as u32);
        let mut y = vec![f32::NAN; n];
        run!(
            kernels,
            for_rows(n),
            b"bernoulli_log_prob",
            (From, From, To, u64, u64, u64, u32, u32),
            (logits.as_ptr(), data.as_ptr(), y.as_mut_ptr(), size.0, size.1, size.2, size.3, 1)
        );
        close(&y, &numbers(&value)?, 1e-5);
        let gradient = (value * &g)?.sum_all()?.backward()?;
        let (mut of_l, mut of_x) = (vec![f32::NAN; of_logits * d], vec![f32::NAN; of_data * d]);
        run!(
            kernels,
            (3, 5),
            b"bernoulli_slopes_of_logits",
            (From, From, From, To, u64, u64, u64, u32),
            (
                logits.as_ptr(),
                data.as_ptr(),
                weights.as_ptr(),
                of_l.as_mut_ptr(),
                size.0,
                size.1,
                size.2,
                size.3
            )
        );
        run!(
            kernels,
            (3, 5),
            b"bernoulli_slopes_of_data",
            (From, From, To, u64, u64, u64, u32),
            (logits.as_ptr(), weights.as_ptr(), of_x.as_mut_ptr(), size.0, size.1, size.2, size.3)
        );
        close(&of_l, &numbers(gradient.get(&l).unwrap())?, 1e-5);
        close(&of_x, &numbers(gradient.get(&x).unwrap())?, 1e-5);
    }
    Ok(())
}

#[test]
fn a_step_of_adam_is_that_of_the_cpu() -> Result<()> {
    let Some(kernels) = compiled() else { return Ok(()) };
    let n = 1003;
    let of = |seed| irregular(&[n], seed, DType::F32);
    let (p, m) = (Var::from_tensor(&of(1)?)?, Var::from_tensor(&of(2)?)?);
    let (v, g) = (Var::from_tensor(&of(3)?.abs()?)?, of(4)?);
    let (mut of_p, mut of_m, mut of_v) = (numbers(&p)?, numbers(&m)?, numbers(&v)?);
    let gradient = numbers(&g)?;
    let step =
        AdamStep { beta1: 0.9, beta2: 0.999, shrink: 0.98, rate: 0.1, scale: 1.5, epsilon: 1e-3 };
    let AdamStep { beta1, beta2, shrink, rate, scale, epsilon } = step;
    let coefficients = Step(
        [beta1, 1. - beta1, beta2, 1. - beta2, shrink, rate, scale, epsilon].map(|x| x as f32),
    );
    run!(
        kernels,
        (3, 5),
        b"adam",
        (To, To, To, From, u64, Step),
        (
            of_p.as_mut_ptr(),
            of_m.as_mut_ptr(),
            of_v.as_mut_ptr(),
            gradient.as_ptr(),
            n as u64,
            coefficients
        )
    );
    adam_update(&p, &m, &v, &g, &step)?;
    for (theirs, ours) in [(of_p, &p), (of_m, &m), (of_v, &v)] {
        close(&theirs, &numbers(ours)?, 2e-6);
    }
    Ok(())
}

#[test]
fn the_divergence_and_its_gradients_are_those_of_the_cpu() -> Result<()> {
    let Some(kernels) = compiled() else { return Ok(()) };
    for (of_q, of_p, k) in [(6, 2, 10), (2, 6, 3), (3, 3, 900)] {
        let shape = |n: usize| if n == 6 { vec![3, 2, k] } else { vec![n, k] };
        let q = Var::from_tensor(&(irregular(&shape(of_q), 1, DType::F32)? * 3.)?)?;
        let p = Var::from_tensor(&irregular(&shape(of_p), 2, DType::F32)?)?;
        let value = categorical_kl(&q, &p)?;
        let g = irregular(value.dims(), 3, DType::F32)?;
        let (to, from, weights) = (numbers(&q)?, numbers(&p)?, numbers(&g)?);
        let n = of_q.max(of_p);
        let (rows, q_rows, p_rows, width) = (n as u64, of_q as u64, of_p as u64, k as u32);
        let mut y = vec![f32::NAN; n];
        run!(
            kernels,
            for_rows(n),
            b"categorical_kl",
            (From, From, To, u64, u64, u64, u32, u32),
            (to.as_ptr(), from.as_ptr(), y.as_mut_ptr(), rows, q_rows, p_rows, width, 1)
        );
        close(&y, &numbers(&value)?, 1e-5);
        let gradient = (value * &g)?.sum_all()?.backward()?;
        let (mut of_to, mut of_from) = (vec![f32::NAN; of_q * k], vec![f32::NAN; of_p * k]);
        run!(
            kernels,
            for_rows(of_q),
            b"categorical_kl_slopes_of_q",
            (From, From, From, From, To, u64, u64, u64, u32, u32),
            (
                to.as_ptr(),
                from.as_ptr(),
                y.as_ptr(),
                weights.as_ptr(),
                of_to.as_mut_ptr(),
                rows,
                q_rows,
                p_rows,
                width,
                1
            )
        );
        run!(
            kernels,
            for_rows(of_p),
            b"categorical_kl_slopes_of_p",
            (From, From, From, To, u64, u64, u64, u32, u32),
            (
                to.as_ptr(),
                from.as_ptr(),
                weights.as_ptr(),
                of_from.as_mut_ptr(),
                rows,
                q_rows,
                p_rows,
                width,
                1
            )
        );
        close(&of_to, &numbers(gradient.get(&q).unwrap())?, 1e-5);
        close(&of_from, &numbers(gradient.get(&p).unwrap())?, 1e-5);
    }
    Ok(())
}

#[test]
fn cross_entropy_and_its_gradient_are_those_of_the_cpu() -> Result<()> {
    let Some(kernels) = compiled() else { return Ok(()) };
    for (n, k) in [(11, 10), (3, 3000)] {
        let mut from = numbers(&(irregular(&[n, k], 1, DType::F32)? * 4.)?)?;
        from[1] = f32::NEG_INFINITY;
        let logits = Var::from_vec(from.clone(), (n, k), &Device::Cpu)?;
        let ids: Vec<u32> = (0..n as u32).map(|i| (7 * i + 3) % k as u32).collect();
        let g = irregular(&[n], 2, DType::F32)?;
        let value = cross_entropy(&logits, &Tensor::new(ids.as_slice(), &Device::Cpu)?)?;
        let (mut y, mut sums) = (vec![f32::NAN; n], vec![f32::NAN; 2 * n]);
        run!(
            kernels,
            for_rows(n),
            b"cross_entropy",
            (From, *const u32, To, To, u64, u32, u32),
            (from.as_ptr(), ids.as_ptr(), y.as_mut_ptr(), sums.as_mut_ptr(), n as u64, k as u32, 1)
        );
        close(&y, &numbers(&value)?, 1e-5);
        let (gradient, weights) = ((value * &g)?.sum_all()?.backward()?, numbers(&g)?);
        let mut d = vec![f32::NAN; n * k];
        run!(
            kernels,
            (3, 5),
            b"cross_entropy_slopes",
            (From, *const u32, From, From, To, u64, u32),
            (
                from.as_ptr(),
                ids.as_ptr(),
                sums.as_ptr(),
                weights.as_ptr(),
                d.as_mut_ptr(),
                n as u64,
                k as u32
            )
        );
        close(&d, &numbers(gradient.get(&logits).unwrap())?, 1e-5);
    }
    Ok(())
}

#[test]
fn layer_norm_and_its_gradients_are_those_of_the_cpu() -> Result<()> {
    let Some(kernels) = compiled() else { return Ok(()) };
    let (n, k, chunk) = (150, 33, 64);
    let variable = |shape: &[usize], seed| Var::from_tensor(&irregular(shape, seed, DType::F32)?);
    let (x, scale, shift) = (variable(&[n, k], 1)?, variable(&[k], 2)?, variable(&[k], 3)?);
    let (value, g) = (layer_norm(&x, &scale, &shift, 1e-5)?, irregular(&[n, k], 4, DType::F32)?);
    let (from, by, and, weights) = (numbers(&x)?, numbers(&scale)?, numbers(&shift)?, numbers(&g)?);
    let (mut y, mut moments) = (vec![f32::NAN; n * k], vec![f32::NAN; 2 * n]);
    run!(
        kernels,
        for_rows(n),
        b"layer_norm",
        (From, From, From, To, To, u64, u32, u32, f32),
        (
            from.as_ptr(),
            by.as_ptr(),
            and.as_ptr(),
            y.as_mut_ptr(),
            moments.as_mut_ptr(),
            n as u64,
            k as u32,
            1,
            1e-5
        )
    );
    close(&y, &numbers(&value)?, 1e-5);
    let gradient = (value * &g)?.sum_all()?.backward()?;
    let mut d = vec![f32::NAN; n * k];
    run!(
        kernels,
        for_rows(n),
        b"layer_norm_slopes",
        (From, From, From, From, To, u64, u32, u32),
        (
            from.as_ptr(),
            by.as_ptr(),
            moments.as_ptr(),
            weights.as_ptr(),
            d.as_mut_ptr(),
            n as u64,
            k as u32,
            1
        )
    );
    close(&d, &numbers(gradient.get(&x).unwrap())?, 1e-4);
    let parts = n.div_ceil(chunk);
    let mut sums = vec![f32::NAN; parts * 2 * k];
    run!(
        kernels,
        (3, 5),
        b"layer_norm_sums",
        (From, From, From, To, u64, u64, u64, u32),
        (
            from.as_ptr(),
            moments.as_ptr(),
            weights.as_ptr(),
            sums.as_mut_ptr(),
            n as u64,
            parts as u64,
            chunk as u64,
            k as u32
        )
    );
    let total: Vec<f32> = (0..2 * k).map(|j| sums.iter().skip(j).step_by(2 * k).sum()).collect();
    close(&total[..k], &numbers(gradient.get(&scale).unwrap())?, 1e-4);
    close(&total[k..], &numbers(gradient.get(&shift).unwrap())?, 1e-4);
    Ok(())
}

#[test]
fn embeddings_and_their_gradient_are_those_of_the_cpu() -> Result<()> {
    let Some(kernels) = compiled() else { return Ok(()) };
    let (vocabulary, k) = (23, 7);
    let table = Var::from_tensor(&irregular(&[vocabulary, k], 1, DType::F32)?)?;
    let ids: Vec<u32> = (0..40u32).map(|i| i * i % 19).collect();
    let n = ids.len();
    let tensor = Tensor::new(ids.as_slice(), &Device::Cpu)?;
    let (value, g) = (embedding(&table, &tensor)?, irregular(&[n, k], 2, DType::F32)?);
    let (from, weights, mut y) = (numbers(&table)?, numbers(&g)?, vec![f32::NAN; n * k]);
    run!(
        kernels,
        (3, 5),
        b"embedding",
        (From, *const u32, To, u64, u32),
        (from.as_ptr(), ids.as_ptr(), y.as_mut_ptr(), n as u64, k as u32)
    );
    assert_eq!(y, numbers(&value)?);
    let gradient = (value * &g)?.sum_all()?.backward()?;
    let Segments { used, starts, places } = Indices::below(&tensor, vocabulary, "id")?.segments();
    assert_eq!((starts.len(), places.len()), (used.len() + 1, n));
    let mut d = vec![0f32; vocabulary * k];
    run!(
        kernels,
        (3, 5),
        b"embedding_slopes",
        (From, *const u32, *const u32, *const u32, To, u64, u32),
        (
            weights.as_ptr(),
            used.as_ptr(),
            starts.as_ptr(),
            places.as_ptr(),
            d.as_mut_ptr(),
            used.len() as u64,
            k as u32
        )
    );
    close(&d, &numbers(gradient.get(&table).unwrap())?, 1e-6);
    Ok(())
}
