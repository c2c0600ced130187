//! An allocator that says what can be done where there is no more memory.
use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::io::Write;

/// Exit code of a program that the operating system refused memory.
pub const OUT_OF_MEMORY: u8 = 71;

/// An allocator that ends the program with a message for its user, and exit code [`OUT_OF_MEMORY`], where the one inside has nothing
/// more to give; but for an [`attempt`].
///
/// Without it a program aborts, and says only how many bytes it wanted. Checkpoints are whole at any moment, so that a run can go on
/// from its last one.
///
/// ```
/// use gumbel_kernels::allocator::Explained;
/// #[global_allocator]
/// static ALLOCATOR: Explained<std::alloc::System> = Explained::new(std::alloc::System);
/// assert_eq!(vec![1; 3].len(), 3);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Explained<A>(A);

impl<A> Explained<A> {
    /// Around another allocator.
    pub const fn new(allocator: A) -> Self {
        Self(allocator)
    }
}

thread_local! {
    /// Whether this thread is told of a refusal, instead of the program's user.
    static ATTEMPT: Cell<bool> = const { Cell::new(false) };
}

/// Memory that may be refused: within `f` [`Explained`] returns null as any allocator does, and does not end the program.
///
/// For `Vec::try_reserve` and its like, whose error has more to say than how many bytes were wanted.
pub fn attempt<T>(f: impl FnOnce() -> T) -> T {
    /// Also where `f` panics.
    struct Back(bool);
    impl Drop for Back {
        fn drop(&mut self) {
            ATTEMPT.set(self.0);
        }
    }
    let _back = Back(ATTEMPT.replace(true));
    f()
}

/// The memory; or, where nobody asked to be told of a refusal, the end of the program.
fn given(memory: *mut u8, wanted: usize) -> *mut u8 {
    if memory.is_null() && !ATTEMPT.get() {
        refused(wanted);
    }
    memory
}

/// Says so without taking memory, and ends the program.
#[cold]
fn refused(wanted: usize) -> ! {
    let mut text = [0; 256];
    let mut rest = &mut text[..];
    // Shorter than the buffer; and if not, a part of it is said.
    let _ = writeln!(
        rest,
        "error: there is no memory for {:.1} MiB more; use a smaller batch_size, fewer samples or a smaller model (a run keeps its last checkpoint)",
        wanted as f64 / f64::from(1 << 20)
    );
    let left = rest.len();
    let said = text.len() - left;
    let _ = std::io::stderr().write_all(&text[..said]);
    std::process::exit(OUT_OF_MEMORY.into())
}

#[expect(unsafe_code, reason = "an allocator hands out memory without a lifetime")]
// SAFETY: every call is handed on as it came to an allocator that keeps the contract; what it returns is returned, or the program
// ends. The flag that is read meanwhile is constant at first and needs no memory.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Explained<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise about the layout is the one that is asked for.
        given(unsafe { self.0.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise about the layout is the one that is asked for.
        given(unsafe { self.0.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the memory came from this allocator, which is the one inside, with this layout; the size is the caller's promise.
        given(unsafe { self.0.realloc(memory, layout, size) }, size)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the memory came from this allocator, which is the one inside, with this layout.
        unsafe { self.0.dealloc(memory, layout) }
    }
}

#[cfg(test)]
mod tests {
    use std::alloc::System;

    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "what an allocator hands out is used as its contract says")]
    fn a_refusal_is_told_to_those_who_ask() {
        struct Full;
        // SAFETY: it never hands out memory, which every caller has to expect.
        unsafe impl GlobalAlloc for Full {
            unsafe fn alloc(&self, _: Layout) -> *mut u8 {
                std::ptr::null_mut()
            }
            unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
        }
        let allocator = Explained::new(Full);
        // SAFETY: the layout is not empty, and nothing is done with what comes back.
        let refused = || unsafe { allocator.alloc(Layout::new::<[u8; 16]>()) }.is_null();
        assert!(attempt(|| attempt(refused) && refused()));
        assert!(!ATTEMPT.get());
        std::panic::catch_unwind(|| attempt(|| panic!("of `f`"))).unwrap_err();
        assert!(!ATTEMPT.get());
    }

    #[test]
    #[expect(unsafe_code, reason = "what an allocator hands out is used as its contract says")]
    fn memory_comes_from_the_allocator_inside_and_goes_back() {
        let allocator = Explained::new(System);
        let (small, large) = (Layout::new::<[u8; 16]>(), Layout::new::<[u8; 64]>());
        // SAFETY: the layouts are not empty, each piece is used within its size and given back once with its layout.
        unsafe {
            let zeros = allocator.alloc_zeroed(small);
            assert_eq!(std::slice::from_raw_parts(zeros, 16), [0; 16]);
            zeros.write_bytes(7, 16);
            let larger = allocator.realloc(zeros, small, 64);
            assert_eq!(std::slice::from_raw_parts(larger, 16), [7; 16]);
            allocator.dealloc(larger, large);
            let other = allocator.alloc(large);
            assert!(!other.is_null());
            allocator.dealloc(other, large);
        }
    }
}
