//! Sequences of symbols: sentences of the synthetic languages, batches of one length.
mod by_length;
mod corpus;

pub use by_length::LengthBatches;
pub use corpus::{Corpus, SequenceBatch};
