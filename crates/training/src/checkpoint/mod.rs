//! Checkpoints: everything a run needs to go on, whole or not there at all.
//!
//! A checkpoint is a directory. It is filled under a temporary name, every file is on the disk before
//! `MANIFEST`, which has the length and SHA-256 of each, and a rename makes it appear. So a run can be
//! killed at any instruction, and a directory that is named `step-…` and agrees with its `MANIFEST` is
//! complete. Equal states give equal bytes: there is no time and no host in a checkpoint.
mod directory;
mod keep;
mod manifest;
mod tensors;

pub use directory::{Checkpoint, State};
pub(crate) use keep::{clean, prune};
pub(crate) use tensors::{decode, encode};
