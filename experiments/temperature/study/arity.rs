//! The latents of the models.
use gumbel_models::{Activation, CategoricalVaeConfig, Coding, Prior};

/// Models whose latents have 4,096 joint values: categories `n` and variables `N`.
pub(crate) const ARITIES: [Arity; 5] = [
    Arity { categories: 2, variables: 12 },
    Arity { categories: 4, variables: 6 },
    Arity { categories: 8, variables: 4 },
    Arity { categories: 16, variables: 3 },
    Arity { categories: 64, variables: 2 },
];

/// The latents of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arity {
    pub(crate) categories: usize,
    pub(crate) variables: usize,
}

impl std::fmt::Display for Arity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}×{}", self.categories, self.variables)
    }
}

impl Arity {
    pub(crate) fn model(self, hidden: usize) -> CategoricalVaeConfig {
        CategoricalVaeConfig {
            latents: self.variables,
            categories: self.categories,
            encoder: vec![hidden],
            decoder: vec![hidden],
            layers: 1,
            between: Vec::new(),
            centred: false,
            context: None,
            activation: Activation::Relu,
            prior: Prior::Uniform,
            coding: Coding::Bits,
        }
    }
}
