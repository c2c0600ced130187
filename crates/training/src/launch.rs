//! From `main` to the training thread and back to an exit code.
use std::process::ExitCode;

use crate::world::{in_world, place};
use crate::{Error, Result, RunArgs, logging, progress};

/// Stack of the training thread: gradients are found by recursion over the graph.
const STACK: usize = 256 << 20;

/// Runs `body` on a thread with a stack for deep graphs, says what went wrong, and gives the exit code.
///
/// For the end of `main`, before which no thread was started: sets how many threads compute, see
/// [`gumbel_kernels::threads::configure`], and starts the messages, see [`logging::init`]. A panic is exit code 70; for the codes of errors
/// see [`Error::exit_code`]. Where a launcher started several processes that can reach one another, they are the [`world`](crate::world) of
/// `body`, and an error of one ends all.
///
/// ```no_run
/// use clap::Parser;
/// #[derive(Parser)]
/// struct Args {
///     #[command(flatten)]
///     run: gumbel_training::RunArgs,
/// }
/// fn main() -> std::process::ExitCode {
///     let args = Args::parse();
///     gumbel_training::launch(&args.run, || Ok(()))
/// }
/// ```
#[must_use]
pub fn launch(args: &RunArgs, body: impl FnOnce() -> Result<()> + Send) -> ExitCode {
    gumbel_kernels::threads::configure(args.threads());
    let (alone, gpu) = (args.no_distributed, args.device.gpu());
    // One process of several speaks for all.
    let helps = !alone && matches!(place(), Ok(Some(place)) if place.rank > 0);
    if helps {
        logging::init_helper();
    } else {
        logging::init(args.quiet, args.verbose);
    }
    match on_large_stack(|| in_world(alone, gpu, body)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !helps {
                tell(&error, "");
            }
            ExitCode::from(error.exit_code())
        }
    }
}

/// Says what went wrong, and `who` says so, where there are several.
pub(crate) fn tell(error: &Error, who: &str) {
    tracing::debug!("exit code {}: {error}", error.exit_code());
    progress::say(&format!("error{who}: {}", for_a_person(error)));
}

/// The message without the backtrace that a tensor error carries where `RUST_BACKTRACE` is set; the log
/// has all of it.
fn for_a_person(error: &Error) -> String {
    let text = error.to_string();
    match error {
        Error::Tensor(_) => text.lines().next().unwrap_or_default().to_owned(),
        _ => text,
    }
}

/// Without memory for its stack no thread starts, above all where address space is limited.
fn no_thread(error: std::io::Error) -> Error {
    let mebibytes = STACK >> 20;
    Error::caller(
        gumbel_kernels::allocator::OUT_OF_MEMORY,
        format!(
            "cannot start a thread with a stack of {mebibytes} MiB: {error}; give more memory (where `ulimit -v` limits it, \
             MIMALLOC_ARENA_RESERVE=0 keeps the allocator from reserving a gibibyte ahead)"
        ),
    )
}

fn on_large_stack(body: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("train".into()).stack_size(STACK);
        let body = || {
            gumbel_kernels::threads::take_part();
            body()
        };
        let thread = thread.spawn_scoped(scope, body).map_err(no_thread)?;
        let panic = |_| Err(Error::caller(70, "a bug in the program, see the message above"));
        thread.join().unwrap_or_else(panic)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depth(n: u64) -> u64 {
        let frame = std::hint::black_box([n; 64]);
        if n == 0 { 0 } else { 1 + depth(frame[0] - 1) }
    }

    #[test]
    fn deep_recursion_fits_on_the_stack() {
        let mut reached = 0;
        on_large_stack(|| {
            reached = depth(50_000);
            Ok(())
        })
        .unwrap();
        assert_eq!(reached, 50_000);
    }

    #[test]
    fn errors_and_panics_come_back() {
        let error = on_large_stack(|| Err(Error::caller(69, "no data"))).unwrap_err();
        assert_eq!(error.exit_code(), 69);
        let error = on_large_stack(|| panic!("on purpose")).unwrap_err();
        assert_eq!(error.exit_code(), 70);
    }
}
