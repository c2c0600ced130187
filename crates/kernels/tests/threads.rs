//! The number of threads, in a process of its own because it is set once.
use gumbel_kernels::threads::{configure, take_part};

#[test]
fn the_number_of_threads_is_what_was_asked_for() {
    let before = std::env::var_os("RAYON_NUM_THREADS");
    configure(0);
    take_part();
    assert_eq!(rayon::current_thread_index(), None);
    configure(3);
    take_part();
    assert_eq!((rayon::current_num_threads(), rayon::current_thread_index()), (3, Some(0)));
    // The pool exists by now and keeps its size.
    configure(2);
    take_part();
    assert_eq!(rayon::current_num_threads(), 3);
    // The harness has threads of its own, which may read the environment.
    if cfg!(target_os = "linux") {
        assert_eq!(std::env::var_os("RAYON_NUM_THREADS"), before);
    }
}
