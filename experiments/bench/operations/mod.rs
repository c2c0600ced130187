//! Every public operation of `gumbel-kernels` beside its twin of plain candle operations.
//!
//! To add one is to add an entry to the list of its file.
mod layers;
mod noise;
mod prepared;
mod rows;
mod updates;

use candle_core::{Result, Tensor};

pub(crate) use prepared::{Prepared, Work};

/// A function of the inputs of an [`Operation`].
type Function = fn(&[Tensor]) -> Result<Tensor>;

/// Arithmetic of an elementary function (`exp`, `ln`, `tanh`, …) of one number, and of making 32 random bits: range
/// reduction and a polynomial, ten rounds of integer arithmetic for four words. A count to the nearest ten.
const ELEMENTARY: f64 = 20.;

/// An operation at one size.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    size: Option<&'static str>,
    inputs: Vec<Input>,
    pass: Pass,
    pub(crate) flops: Flops,
    pub(crate) fused: Function,
    pub(crate) twin: Function,
}

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    /// The function, and the gradient in every variable among its inputs.
    ForwardAndBackward,
    /// The function alone.
    Forward,
    /// The function, which overwrites the variables among its inputs.
    InPlace,
}

/// Additions, multiplications and the like that the pass cannot do without.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Flops {
    /// For each number of the first input; of the result, where there is no input.
    Each(f64),
    Total(f64),
}

/// An input of an operation.
#[derive(Clone, Copy, Debug)]
struct Input {
    shape: &'static [usize],
    values: Values,
    variable: bool,
}

#[derive(Clone, Copy, Debug)]
enum Values {
    /// Mean 0 and variance 1.
    Standard,
    Bits,
    Uniform,
}

/// Numbers of mean 0 and variance 1; the gradient in them is part of the pass.
const fn variable(shape: &'static [usize]) -> Input {
    Input { shape, values: Values::Standard, variable: true }
}

/// Numbers of mean 0 and variance 1.
const fn constant(shape: &'static [usize]) -> Input {
    Input { shape, values: Values::Standard, variable: false }
}

/// Numbers 0 and 1.
const fn bits(shape: &'static [usize]) -> Input {
    Input { shape, values: Values::Bits, variable: false }
}

/// Numbers between 0 and 1, a variable.
const fn positive(shape: &'static [usize]) -> Input {
    Input { shape, values: Values::Uniform, variable: true }
}

impl Operation {
    /// A differentiable function, forward and backward.
    fn new<const N: usize>(
        name: &'static str,
        inputs: [Input; N],
        flops: Flops,
        fused: Function,
        twin: Function,
    ) -> Self {
        let pass = Pass::ForwardAndBackward;
        Self { name, size: None, inputs: inputs.to_vec(), pass, flops, fused, twin }
    }

    fn forward_only(self) -> Self {
        Self { pass: Pass::Forward, ..self }
    }

    fn in_place(self) -> Self {
        Self { pass: Pass::InPlace, ..self }
    }

    /// Other words for the size than the shape of the first input.
    fn of_size(self, size: &'static str) -> Self {
        Self { size: Some(size), ..self }
    }

    /// Shape of the first input, without leading axes of 1, unless said otherwise.
    pub(crate) fn size(&self) -> String {
        let shape = self.inputs.first().map_or(&[][..], |input| input.shape);
        let axes: Vec<String> =
            shape.iter().skip_while(|axis| **axis == 1).map(ToString::to_string).collect();
        self.size.map_or_else(|| axes.join("x"), Into::into)
    }

    /// Name and size: no two operations have the same.
    pub(crate) fn title(&self) -> String {
        format!("{} {}", self.name, self.size())
    }
}

/// Every operation whose title contains `text`.
pub(crate) fn matching(text: &str) -> Vec<Operation> {
    let all = [rows::all(), layers::all(), noise::all(), updates::all()].into_iter().flatten();
    all.filter(|operation| operation.title().contains(text)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn titles_are_unique() {
        let titles: Vec<String> = matching("").iter().map(Operation::title).collect();
        assert_eq!(titles.iter().collect::<BTreeSet<_>>().len(), titles.len(), "{titles:?}");
    }
}
