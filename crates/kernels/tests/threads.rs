//! The number of threads, in a process of its own because it is set once.

#[test]
fn the_number_of_threads_is_what_was_asked_for() {
    gumbel_kernels::threads::configure(0);
    assert_eq!(std::env::var("RAYON_NUM_THREADS").as_deref(), Ok("1"));
    gumbel_kernels::threads::take_part();
    assert_eq!(rayon::current_thread_index(), None);
    gumbel_kernels::threads::configure(3);
    gumbel_kernels::threads::take_part();
    assert_eq!((rayon::current_num_threads(), rayon::current_thread_index()), (3, Some(0)));
    // The pool exists by now and keeps its size; candle's products follow.
    gumbel_kernels::threads::configure(2);
    assert_eq!(std::env::var("RAYON_NUM_THREADS").as_deref(), Ok("2"));
    gumbel_kernels::threads::take_part();
    assert_eq!(rayon::current_num_threads(), 3);
}
