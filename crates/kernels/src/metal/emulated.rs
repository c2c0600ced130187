//! The source of the kernels for Apple GPUs, compiled as C++ and run on the CPU, against the CPU's own kernels.
//!
//! This shows that it computes the right numbers as C++; not that Metal takes it, nor the exchange between threads of a row.
#![expect(unsafe_code, reason = "the kernels are functions of C")]
use candle_core::{DType, Device, Result, Tensor, Var};
use libloading::{Library, Symbol};

use super::{Fill, Rows, SOURCE};
use crate::check::{irregular, library, numbers};
use crate::{Forward, Key, gumbel_softmax};

fn compiled() -> Option<(Library, tempfile::TempDir)> {
    library(&[include_str!("thread.h"), SOURCE].concat())
}

fn close(theirs: &[f32], ours: &[f32], tolerance: f32) {
    assert_eq!(theirs.len(), ours.len());
    for (i, (a, b)) in theirs.iter().zip(ours).enumerate() {
        assert!((a - b).abs() <= tolerance * b.abs().max(1.), "{i}: {a} {b}");
    }
}

#[test]
fn noise_has_the_bits_of_the_cpu() -> Result<()> {
    let Some((library, _directory)) = compiled() else { return Ok(()) };
    type Draw = fn(Key, usize, DType, &Device) -> Result<Tensor>;
    for (noise, draw) in [Key::uniform as Draw, Key::gumbel, Key::logistic].into_iter().enumerate()
    {
        let (n, key) = (10_007usize, Key::from_seed(3).named("noise"));
        let mut out = vec![f32::NAN; n];
        let fill = Fill { n: n as u64, noise: noise as u32, unused: 0, stream: key.words() };
        // SAFETY: the function of that name in the source; one thread for each block of four numbers.
        unsafe {
            type Kernel = unsafe extern "C" fn(*mut f32, *const Fill, u32);
            let kernel: Symbol<'_, Kernel> = library.get(b"fill").unwrap();
            (0..n.div_ceil(4) as u32).for_each(|at| kernel(out.as_mut_ptr(), &raw const fill, at));
        }
        assert_eq!(out, numbers(&draw(key, n, DType::F32, &Device::Cpu)?)?, "{noise}");
    }
    Ok(())
}

#[test]
fn gumbel_softmax_and_its_gradient_are_those_of_the_cpu() -> Result<()> {
    let Some((library, _directory)) = compiled() else { return Ok(()) };
    type Forwards = unsafe extern "C" fn(*const f32, *mut f32, *const Rows, u32);
    type Backwards = unsafe extern "C" fn(*const f32, *const f32, *mut f32, *const Rows, u32);
    // SAFETY: the functions of those names in the source.
    let (forwards, backwards): (Symbol<'_, Forwards>, Symbol<'_, Backwards>) = unsafe {
        (library.get(b"gumbel_softmax").unwrap(), library.get(b"softmax_slopes").unwrap())
    };
    let key = Key::from_seed(5).named("gumbel_softmax");
    for (inputs, samples, k) in [(4usize, 3usize, 10usize), (3, 2, 7), (1, 2, 3000)] {
        let logits = Var::from_tensor(&irregular(&[1, inputs, k], 1, DType::F32)?)?;
        let g = irregular(&[samples, inputs, k], 2, DType::F32)?;
        let (from, weights, n) = (numbers(&logits)?, numbers(&g)?, samples * inputs);
        let rows = |rows: usize, others: usize, hard: bool| Rows {
            rows: rows as u64,
            others: others as u64,
            k: k as u32,
            lanes: 1,
            inverse: 1. / 0.7,
            hard: u32::from(hard),
            stream: key.words(),
        };
        let mut soft = Vec::new();
        for forward in [Forward::Soft, Forward::Hard] {
            let (mut y, mut d) = (vec![f32::NAN; n * k], vec![f32::NAN; inputs * k]);
            let arguments = rows(n, inputs, forward == Forward::Hard);
            let ours = gumbel_softmax(&logits, samples, 0.7, forward, key)?;
            // A thread for each row, and some more.
            for at in 0..n as u32 + 3 {
                // SAFETY: pointers to as many numbers as the rows have.
                unsafe { forwards(from.as_ptr(), y.as_mut_ptr(), &raw const arguments, at) };
            }
            close(&y, &numbers(&ours)?, 3e-6);
            if forward == Forward::Soft {
                soft = y;
            }
            let arguments = rows(inputs, samples, false);
            for at in 0..inputs as u32 + 3 {
                let (y, g, out) = (soft.as_ptr(), weights.as_ptr(), d.as_mut_ptr());
                // SAFETY: as above.
                unsafe { backwards(y, g, out, &raw const arguments, at) };
            }
            let gradient = (ours * &g)?.sum_all()?.backward()?;
            close(&d, &numbers(gradient.get(&logits).unwrap())?, 1e-5);
        }
    }
    Ok(())
}
