//! The source of the GPU's kernels, compiled as C++ and run on the CPU, against the CPU's own kernels.
//!
//! The threads of a block run at once and exchange numbers as those of a GPU do. Not tested are blocks that run at once,
//! which share nothing, and what NVRTC makes of the source.
#![expect(unsafe_code, reason = "the kernels are functions of C")]
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use candle_core::{Result, Tensor, Var};
use libloading::{Library, Symbol};

use super::SOURCE;
use crate::check::{irregular, library, numbers};

mod concrete;
mod layers;
mod losses;
mod noise;
mod optimizer;
mod softmax;

/// What a C++ compiler needs to take the source.
const PRELUDE: &str = include_str!("thread.h");

/// Threads that share a row: none but one, some of a warp, and a block of more than a warp.
const LANES: [u32; 3] = [1, 4, 64];

/// The kernels, as functions of one thread. Threads of a block have one place to exchange numbers, so that one test at a
/// time has them.
struct Kernels {
    library: Library,
    _directory: tempfile::TempDir,
}

static KERNELS: LazyLock<Option<Mutex<Kernels>>> = LazyLock::new(|| compiled().map(Mutex::new));

/// None where there is no C++ compiler.
fn kernels() -> Option<MutexGuard<'static, Kernels>> {
    Some(KERNELS.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
}

fn compiled() -> Option<Kernels> {
    let (library, directory) = library(&[PRELUDE, SOURCE, noise::FUNCTIONS].concat())?;
    Some(Kernels { library, _directory: directory })
}

/// Blocks, and threads of a block, for each of some tensors.
#[derive(Clone, Copy)]
struct Grid {
    blocks: u32,
    threads: u32,
    tensors: u32,
}

/// A few threads that go through numbers in strides.
const STRIDES: Grid = Grid { blocks: 3, threads: 5, tensors: 1 };

impl Grid {
    /// For rows that `lanes` threads share, and some threads more.
    fn rows(rows: usize, lanes: u32) -> Self {
        let threads = if lanes > 32 { lanes } else { 4 * lanes };
        Self { blocks: rows as u32 * lanes / threads + 1, threads, tensors: 1 }
    }
}

/// The arguments of a kernel.
trait Arguments: Copy {
    /// # Safety
    /// `kernel` must be a function of these arguments.
    unsafe fn call(self, kernel: *const ());
}

macro_rules! arguments {
    ($($t:ident),+) => {
        impl<$($t: Copy),+> Arguments for ($($t,)+) {
            #[expect(non_snake_case, reason = "named as their types")]
            unsafe fn call(self, kernel: *const ()) {
                let ($($t,)+) = self;
                // SAFETY: as the trait says.
                unsafe {
                    let kernel: unsafe extern "C" fn($($t),+) = std::mem::transmute(kernel);
                    kernel($($t),+);
                }
            }
        }
    };
}
arguments!(A, B);
arguments!(A, B, C);
arguments!(A, B, C, D);
arguments!(A, B, C, D, E);
arguments!(A, B, C, D, E, F);
arguments!(A, B, C, D, E, F, G);
arguments!(A, B, C, D, E, F, G, H);
arguments!(A, B, C, D, E, F, G, H, I);
arguments!(A, B, C, D, E, F, G, H, I, J);
arguments!(A, B, C, D, E, F, G, H, I, J, K);
arguments!(A, B, C, D, E, F, G, H, I, J, K, L);

/// Pointers, for other threads.
#[derive(Clone, Copy)]
struct Shared<A>(*const (), A);

// SAFETY: the kernels write to different places from different threads, and the test waits for all of them.
unsafe impl<A> Send for Shared<A> {}

impl<A: Arguments> Shared<A> {
    /// # Safety
    /// That of [`Arguments::call`].
    unsafe fn call(self) {
        // SAFETY: as above.
        unsafe { self.1.call(self.0) }
    }
}

impl Kernels {
    /// Runs every thread of a grid. The arguments must be those of the kernel in `source`, and every pointer to as many
    /// numbers as the sizes beside it say.
    fn run(&self, name: &str, grid: Grid, arguments: impl Arguments) {
        let Grid { blocks, threads, tensors } = grid;
        // SAFETY: the functions are those of `thread.h`, and the kernel's types were checked by whoever wrote the test.
        unsafe {
            type At = unsafe extern "C" fn(u32, u32, u32, u32, u32);
            let at: Symbol<'_, At> = self.library.get(b"at").unwrap();
            let begin: Symbol<'_, unsafe extern "C" fn(u32)> = self.library.get(b"begin").unwrap();
            let end: Symbol<'_, unsafe extern "C" fn()> = self.library.get(b"end").unwrap();
            let kernel: Symbol<'_, unsafe extern "C" fn()> = self.library.get(name).unwrap();
            let call = Shared(*kernel as *const (), arguments);
            for (tensor, block) in (0..tensors).flat_map(|t| (0..blocks).map(move |b| (t, b))) {
                begin(threads);
                std::thread::scope(|scope| {
                    for thread in 0..threads {
                        let at = *at;
                        scope.spawn(move || {
                            at(block, blocks, thread, threads, tensor);
                            call.call();
                        });
                    }
                });
                end();
            }
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Stream([u32; 4]);

/// Value and gradients of `f` by the CPU's kernels, for the cotangent that is last.
struct Ours {
    value: Vec<f32>,
    gradients: Vec<Vec<f32>>,
    cotangent: Vec<f32>,
}

fn ours(inputs: &[&Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<Ours> {
    let variables = inputs.iter().map(|x| Var::from_tensor(x)).collect::<Result<Vec<_>>>()?;
    let tensors: Vec<Tensor> = variables.iter().map(|x| x.as_tensor().clone()).collect();
    let value = f(&tensors)?;
    let cotangent = irregular(value.dims(), 99, value.dtype())?;
    let store = (&value * &cotangent)?.sum_all()?.backward()?;
    let gradient = |x: &Tensor| numbers(store.get(x).unwrap());
    Ok(Ours {
        value: numbers(&value)?,
        gradients: tensors.iter().map(gradient).collect::<Result<_>>()?,
        cotangent: numbers(&cotangent)?,
    })
}

/// Room for numbers that a kernel writes.
fn room(n: usize) -> Vec<f32> {
    vec![f32::NAN; n]
}

fn close(theirs: &[f32], ours: &[f32], tolerance: f32) {
    assert_eq!(theirs.len(), ours.len());
    for (i, (a, b)) in theirs.iter().zip(ours).enumerate() {
        assert!(a == b || (a - b).abs() <= tolerance * b.abs().max(1.), "{i}: {a} {b}");
    }
}
