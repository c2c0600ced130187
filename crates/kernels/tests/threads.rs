//! The number of threads, in a process of its own because it is set once.

#[test]
fn the_number_of_threads_is_what_was_asked_for() {
    gumbel_kernels::threads::configure(0);
    assert_eq!(std::env::var("RAYON_NUM_THREADS").as_deref(), Ok("1"));
    assert_eq!(rayon::current_num_threads(), 1);
    // The pool exists by now and keeps its size; candle's products follow.
    gumbel_kernels::threads::configure(3);
    assert_eq!(std::env::var("RAYON_NUM_THREADS").as_deref(), Ok("3"));
    assert_eq!(rayon::current_num_threads(), 1);
}
