//! Sequences of symbols: sentences of the synthetic languages, batches of one length.
mod by_length;
pub mod catalogue;
mod corpus;
mod load;
mod vocabulary;

pub use by_length::LengthBatches;
pub use catalogue::{Layout, TextName};
pub use corpus::{Corpus, SequenceBatch};
pub use load::{Original, Text, TextSource, load_text};
pub use vocabulary::{Tokens, Vocabulary};
