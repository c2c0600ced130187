//! gumbel
mod schedule;
pub use gumbel_kernels::Key;
pub use schedule::Schedule;
