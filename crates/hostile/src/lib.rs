//! Every format that the programs read, as bytes that somebody may have tampered with.
//!
//! A [`Format`] knows small valid files, and reads any bytes as a user's program would: from a file, by the public function for it.
//! What is read is either accepted or refused with a message; a panic, an abort or a flood of memory is a bug. [`mutated`] makes
//! bad files of good ones, [`bombs`] makes those that lie about their size.
//!
//! The tests of this package try thousands of mutations of each, `just reliability` as many as it is asked for, and the targets
//! in `fuzz/` let a coverage-guided fuzzer look for more.
mod bombs;
mod format;
mod mutate;
mod readers;
mod survey;

pub use bombs::{Bomb, bombs};
pub use format::{FORMATS, Format, Verdict, format};
pub use mutate::mutated;
pub use survey::{Survey, quietly, survey};
