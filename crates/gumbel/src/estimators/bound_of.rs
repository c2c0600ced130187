//! What the value of an objective is worth.
/// What the value of an objective is a lower bound of, in expectation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BoundOf {
    /// `log p(x)` of the model with discrete latents.
    DiscreteModel,
    /// `log p(x)` of the model with relaxed latents, which is another model.
    RelaxedModel,
    /// Nothing: it can be larger than any likelihood.
    Nothing,
}

impl std::fmt::Display for BoundOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::DiscreteModel => "the discrete model",
            Self::RelaxedModel => "the relaxed model",
            Self::Nothing => "nothing",
        })
    }
}
