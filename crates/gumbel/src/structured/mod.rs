//! Random subsets, orders and permutations, and their relaxations.
//!
//! - [`Subset`]: exactly `k` of `K`, with exact marginals, entropy and samples;
//! - [`PlackettLuce`]: the first `k` of a random order, by the Gumbel top-k trick, and its relaxation;
//! - [`sinkhorn`], [`gumbel_sinkhorn`], [`hard_permutation`]: relaxed and hard permutations.
//!
//! The last axis is that of the items; any axes may come before it.
mod assignment;
mod permutation;
mod plackett_luce;
mod subset;

pub use assignment::hard_permutation;
pub use permutation::{gumbel_sinkhorn, sinkhorn};
pub use plackett_luce::PlackettLuce;
pub use subset::Subset;
