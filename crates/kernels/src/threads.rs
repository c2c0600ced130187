//! How many threads a process computes with.
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Matrix products below this many multiply-adds run on one thread: waking a second costs more than it saves.
const SINGLE_THREAD_BELOW: usize = 2_000_000;

/// What [`configure`] was told; 0 before.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Sets the number of threads of every kernel, of rayon, and of candle's matrix products.
///
/// Call it first thing in `main`, and [`take_part`] on the thread that computes. Results do not depend on the
/// number of threads. A thread pool that already exists keeps its size.
///
/// Candle reads `RAYON_NUM_THREADS` at every matrix product, and where it is not set, counts the
/// processors anew each time, which costs more than a small product. Candle's other operations have a pool of their
/// own, whose threads would compete with those of the kernels: they run on one thread, unless `CANDLE_NUM_THREADS`
/// is set. Both variables are set here only where that cannot disturb another thread: on Windows, and on Linux
/// before the process has a second one. Elsewhere set them where the program is started.
pub fn configure(threads: usize) {
    let threads = threads.max(1);
    THREADS.store(threads, Ordering::Relaxed);
    gemm::set_threading_threshold(SINGLE_THREAD_BELOW);
    if !environment_is_ours() {
        return;
    }
    // SAFETY: nothing reads or writes the environment at the same time, for there is no other thread; on Windows
    // that does no harm.
    #[expect(unsafe_code, reason = "the environment is the only way to tell candle")]
    unsafe {
        std::env::set_var("RAYON_NUM_THREADS", threads.to_string());
        if std::env::var_os("CANDLE_NUM_THREADS").is_none() {
            std::env::set_var("CANDLE_NUM_THREADS", "1");
        }
    }
}

fn environment_is_ours() -> bool {
    let alone = || std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1);
    cfg!(windows) || (cfg!(target_os = "linux") && alone())
}

/// Makes the calling thread one of those that compute, for as long as the process runs, and has the others look for
/// work between one parallel piece of a training step and the next, instead of falling asleep.
///
/// Otherwise it hands each parallel piece of work to a pool and sleeps until that is done: two wake-ups, which a
/// small model's step has dozens of. Does nothing before [`configure`], where one thread computes alone, or where
/// rayon's global pool exists already. For a program that computes on this one thread.
pub fn take_part() {
    let threads = THREADS.load(Ordering::Relaxed);
    if threads < 2 {
        return;
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).use_current_thread();
    // An error means that the pool exists already; it stays as it is.
    if pool.build_global().is_ok() {
        COMPUTES.set(true);
    }
}

/// Turns of a thread without work before it sleeps: some tenths of a millisecond, more than lies between two
/// parallel pieces of a training step.
const PATIENCE: u32 = 10_000;

/// Whether all threads of the pool look for work.
static AWAKE: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Whether this is the thread that took part.
    static COMPUTES: Cell<bool> = const { Cell::new(false) };
    static LOOKING: Cell<bool> = const { Cell::new(false) };
}

/// Whether there is more than one thread to compute with; those of [`take_part`] are awake then.
///
/// A thread of the pool without work falls asleep at once, and to wake it takes longer than many a kernel runs.
/// So the threads look for work for a while longer, by asking the pool for it.
pub(crate) fn parallel() -> bool {
    if rayon::current_num_threads() == 1 {
        return false;
    }
    if !AWAKE.load(Ordering::Relaxed) && COMPUTES.get() {
        AWAKE.store(true, Ordering::Relaxed);
        rayon::spawn_broadcast(|_| look_for_work());
    }
    true
}

/// The thread that computes hands out work; one that looks already was called by what it found.
fn look_for_work() {
    if COMPUTES.get() || LOOKING.replace(true) {
        return;
    }
    let mut idle = 0;
    // Each thread counts its own idle turns, so that none waits for another.
    while idle < PATIENCE {
        match rayon::yield_now() {
            Some(rayon::Yield::Executed) => idle = 0,
            _ => idle += 1,
        }
        std::hint::spin_loop();
    }
    LOOKING.set(false);
    AWAKE.store(false, Ordering::Relaxed);
}
