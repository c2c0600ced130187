//! How many threads a process computes with.

/// Matrix products below this many multiply-adds run on one thread: at the sizes of a small model's
/// minibatch, waking a second thread costs more than it saves.
const SINGLE_THREAD_BELOW: usize = 40_000_000;

/// Sets the number of threads of every kernel, of rayon, and of candle's matrix products.
///
/// Call it first thing in `main`. Results do not depend on the number of threads. A thread pool that
/// already exists keeps its size.
///
/// Candle reads `RAYON_NUM_THREADS` at every matrix product, and where it is not set, counts the
/// processors anew each time, which costs more than a small product; so the variable is always set.
pub fn configure(threads: usize) {
    let threads = threads.max(1);
    // SAFETY: the caller is `main` before it starts a thread (documented above), so that nothing reads
    // or writes the environment at the same time.
    #[expect(unsafe_code, reason = "the environment is the only way to tell candle")]
    unsafe {
        std::env::set_var("RAYON_NUM_THREADS", threads.to_string());
    }
    gemm::set_threading_threshold(SINGLE_THREAD_BELOW);
    // An error means that the pool exists already; it stays as it is.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
}
