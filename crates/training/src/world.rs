//! The processes that train one model together, as this thread sees them.
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use gumbel_distributed::{Communicator, Launched, Single, join, launched};

use crate::launch::tell;
use crate::{Error, Result};

/// How long a rank waits, before it ends all with its own error, for rank 0 to do that: most errors are found by all ranks at once, and
/// rank 0 is the one that has something to save.
const PATIENCE: Duration = Duration::from_secs(5);

thread_local! {
    static WORLD: RefCell<Rc<dyn Communicator>> = RefCell::new(Rc::new(Single));
}

/// The processes that train one model together with this one: those that [`launch`](crate::launch) found, or this one alone.
#[must_use]
pub fn world() -> Rc<dyn Communicator> {
    WORLD.with_borrow(Rc::clone)
}

/// Calls `body`, for which `world` is the [`world`].
pub fn with_world<T>(world: Rc<dyn Communicator>, body: impl FnOnce() -> T) -> T {
    /// Also where `body` panics.
    struct Back(Rc<dyn Communicator>);
    impl Drop for Back {
        fn drop(&mut self) {
            WORLD.with_borrow_mut(|world| std::mem::swap(world, &mut self.0));
        }
    }
    let _back = Back(WORLD.replace(world));
    body()
}

/// What the launcher of this process says of it; none where it is alone.
pub(crate) fn place() -> Result<Option<Launched>> {
    launched(|name| std::env::var(name).ok()).map_err(refused)
}

/// Joins the others, calls `body`, and ends all of them together where it fails.
pub(crate) fn in_world(
    alone: bool,
    gpu: Option<usize>,
    body: impl FnOnce() -> Result<()>,
) -> Result<()> {
    /// Ranks that wait for one that panics wait for ever.
    struct Ended(Rc<dyn Communicator>);
    impl Drop for Ended {
        fn drop(&mut self) {
            if std::thread::panicking() && self.0.size() > 1 {
                self.0.abort(70);
            }
        }
    }
    let world = if alone { Rc::new(Single) } else { join(gpu).map_err(refused)? };
    let ended = Ended(Rc::clone(&world));
    let (rank, size) = (world.rank(), world.size());
    if size > 1 && rank == 0 {
        tracing::info!("{size} processes train together");
    }
    let outcome = with_world(world, body);
    match &outcome {
        Ok(()) => outcome,
        // All stop by agreement, and end as they would alone.
        Err(Error::Interrupted { .. }) => outcome,
        Err(_) if size == 1 => outcome,
        Err(error) => {
            if rank > 0 {
                std::thread::sleep(PATIENCE);
                tell(error, &format!(" (process {rank} of {size})"));
            } else {
                tell(error, "");
            }
            ended.0.abort(error.exit_code())
        }
    }
}

/// Exit code 2: how a program is started is up to the user.
fn refused(error: gumbel_distributed::Error) -> Error {
    Error::Usage(error.to_string())
}

/// What fails between ranks, in the middle of a run.
impl From<gumbel_distributed::Error> for Error {
    fn from(error: gumbel_distributed::Error) -> Self {
        match error {
            gumbel_distributed::Error::Tensor(error) => error.into(),
            error => Self::caller(70, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use gumbel_distributed::on_threads;

    use super::*;

    #[test]
    fn a_world_holds_for_its_body_only() {
        let seen = on_threads(2, |threads| {
            let inside = with_world(Rc::new(threads.clone()), || {
                let world = world();
                (world.rank(), world.size())
            });
            let after = world();
            (inside, (after.rank(), after.size()))
        });
        assert_eq!(seen, [((0, 2), (0, 1)), ((1, 2), (0, 1))]);
    }

    #[test]
    fn alone_errors_come_back() {
        let error = in_world(true, None, || Err(Error::caller(69, "no data"))).unwrap_err();
        assert_eq!(error.exit_code(), 69);
    }
}
