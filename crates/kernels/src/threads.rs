//! How many threads a process computes with.
use std::sync::atomic::{AtomicBool, Ordering};

/// Matrix products below this many multiply-adds run on one thread: waking a second costs more than it saves.
const SINGLE_THREAD_BELOW: usize = 2_000_000;

/// Sets the number of threads of every kernel, of rayon, and of candle's matrix products.
///
/// Call it first thing in `main`, and [`take_part`] on the thread that computes. Results do not depend on the
/// number of threads. A thread pool that already exists keeps its size.
///
/// Candle reads `RAYON_NUM_THREADS` at every matrix product, and where it is not set, counts the
/// processors anew each time, which costs more than a small product; so the variable is always set. Candle's other
/// operations have a pool of their own, whose threads would compete with those of the kernels: they run on one
/// thread, unless `CANDLE_NUM_THREADS` is set.
pub fn configure(threads: usize) {
    let threads = threads.max(1);
    // SAFETY: the caller is `main` before it starts a thread (documented above), so that nothing reads
    // or writes the environment at the same time.
    #[expect(unsafe_code, reason = "the environment is the only way to tell candle")]
    unsafe {
        std::env::set_var("RAYON_NUM_THREADS", threads.to_string());
        if std::env::var_os("CANDLE_NUM_THREADS").is_none() {
            std::env::set_var("CANDLE_NUM_THREADS", "1");
        }
    }
    gemm::set_threading_threshold(SINGLE_THREAD_BELOW);
}

/// Makes the calling thread one of those that compute, for as long as the process runs.
///
/// Otherwise it hands each parallel piece of work to a pool and sleeps until that is done: two wake-ups, which a
/// small model's step has dozens of. Does nothing where one thread computes alone, or the pool exists already.
pub fn take_part() {
    let threads = std::env::var("RAYON_NUM_THREADS").ok().and_then(|n| n.parse().ok());
    if let Some(threads @ 2..) = threads {
        // An error means that the pool exists already; it stays as it is.
        let _ = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .use_current_thread()
            .build_global();
    }
}

/// Turns of a thread without work before it sleeps: some tenths of a millisecond, more than lies between two
/// parallel pieces of a training step.
const PATIENCE: u32 = 10_000;

static AWAKE: AtomicBool = AtomicBool::new(false);

/// Whether there is more than one thread to compute with; if so, they are awake.
///
/// A thread of the pool without work falls asleep at once, and to wake it takes longer than many a kernel runs.
/// So the threads look for work for a while longer, by asking the pool for it.
pub(crate) fn parallel() -> bool {
    if rayon::current_num_threads() == 1 {
        return false;
    }
    if !AWAKE.load(Ordering::Relaxed) && !AWAKE.swap(true, Ordering::Relaxed) {
        rayon::spawn_broadcast(|thread| look_for_work(thread.index()));
    }
    true
}

/// Thread 0 is the one that hands out work, see [`take_part`]; thread 1 decides when all may sleep.
fn look_for_work(thread: usize) {
    let mut idle = 0;
    while thread > 0 && AWAKE.load(Ordering::Relaxed) {
        match rayon::yield_now() {
            Some(rayon::Yield::Executed) => idle = 0,
            _ => idle += 1,
        }
        if thread == 1 && idle > PATIENCE {
            AWAKE.store(false, Ordering::Relaxed);
        }
        std::hint::spin_loop();
    }
}
