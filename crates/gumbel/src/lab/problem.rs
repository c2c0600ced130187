//! Programs whose gradient is known exactly.
use std::time::{Duration, Instant};

use candle_core::{Device, Result, Tensor, Var};
use gumbel_kernels::Key;

use super::Measurement;
use super::measurement::Accumulator;
use crate::estimators::{Enumerate, Estimator, Independent, Objective, SiteDraw, Trace};

/// A program on a row of parameters: `log p(x|z): [S, B]`, given `[B, P]`.
type Rows = dyn Fn(&Tensor, &mut Trace<'_>) -> Result<Tensor>;

/// A model small enough to enumerate, with all its parameters in one row.
///
/// A batch holds one row of equal parameters for each replicate, so that one backward pass gives as many
/// independent gradients.
pub struct Problem {
    parameters: Vec<f64>,
    program: Box<Rows>,
    exact: Option<Vec<f64>>,
}

impl std::fmt::Debug for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Problem").field("parameters", &self.parameters).finish_non_exhaustive()
    }
}

/// In how many parts the replicates are drawn: standard errors come from the spread of the parts.
const PARTS: usize = 50;

impl Problem {
    /// From `P` parameters, and the program that reads a batch of rows of them, `[B, P]` in double precision.
    pub fn new(
        parameters: &[f64],
        program: impl Fn(&Tensor, &mut Trace<'_>) -> Result<Tensor> + 'static,
    ) -> Self {
        Self { parameters: parameters.to_vec(), program: Box::new(program), exact: None }
    }

    /// The same, where enumeration is impossible but the gradient of the expected bound is known.
    #[must_use]
    pub fn with_exact_gradient(self, gradient: Vec<f64>) -> Self {
        Self { exact: Some(gradient), ..self }
    }

    fn rows(&self, count: usize) -> Result<Var> {
        let row = Tensor::new(self.parameters.as_slice(), &Device::Cpu)?;
        Var::from_tensor(&row.broadcast_as((count, self.parameters.len()))?.contiguous()?)
    }

    /// The sites that the program visits: what learned parts of estimators are made for.
    pub fn sites(&self) -> Result<Vec<SiteDraw>> {
        let rows = self.rows(1)?;
        let program = |trace: &mut Trace<'_>| (self.program)(&rows, trace);
        Ok(Trace::run(&program, &mut Independent { samples: 1 }, Key::from_seed(0))?.1)
    }

    /// Runs `f` on the program with `rows` equal rows of parameters.
    pub fn with_rows<T>(
        &self,
        rows: usize,
        f: impl FnOnce(&crate::estimators::Program<'_>, &Var) -> Result<T>,
    ) -> Result<T> {
        let rows = self.rows(rows)?;
        f(&|trace| (self.program)(&rows, trace), &rows)
    }

    /// Gradients of the bound, one row for each replicate, and how long they took.
    fn gradients(
        &self,
        estimator: &dyn Estimator,
        objective: &dyn Objective,
        rows: usize,
        key: Key,
    ) -> Result<(Vec<f64>, Duration)> {
        self.with_rows(rows, |program, parameters| {
            let start = Instant::now();
            let surrogate = estimator.surrogate(program, objective, key)?;
            let grads = surrogate.loss.backward()?;
            let elapsed = start.elapsed();
            match grads.get(parameters.as_tensor()) {
                // The loss is minus the mean over the batch.
                Some(gradient) => {
                    let gradient = (gradient * -(rows as f64))?;
                    Ok((gradient.flatten_all()?.to_vec1()?, elapsed))
                }
                None => candle_core::bail!("{estimator:?} has no gradient in the parameters"),
            }
        })
    }

    /// The gradient of the expected bound with `samples` samples, by summation over all joint values.
    ///
    /// # Errors
    /// If there are too many values, and no exact gradient was given.
    pub fn exact_gradient(&self, objective: &dyn Objective, samples: usize) -> Result<Vec<f64>> {
        if let Some(exact) = &self.exact {
            return Ok(exact.clone());
        }
        Ok(self.gradients(&Enumerate { samples }, objective, 1, Key::from_seed(0))?.0)
    }

    /// Measures an estimator with `replicates` independent estimates; `samples` is the `S` of the bound.
    ///
    /// Under one key all estimators get the same noise: common random numbers.
    ///
    /// # Errors
    /// If there are fewer than 100 replicates, or the estimator does not apply to the program.
    pub fn measure(
        &self,
        estimator: &dyn Estimator,
        objective: &dyn Objective,
        samples: usize,
        replicates: usize,
        key: Key,
    ) -> Result<Measurement> {
        let rows = replicates / PARTS;
        if rows < 2 {
            candle_core::bail!(
                "a measurement needs at least {} replicates, got {replicates}",
                2 * PARTS
            )
        }
        let exact = self.exact_gradient(objective, samples)?;
        let mut accumulator = Accumulator::new(&exact);
        for part in 0..PARTS as u64 {
            let (gradients, elapsed) =
                self.gradients(estimator, objective, rows, key.fold_in(part))?;
            accumulator.add(&gradients, elapsed);
        }
        Ok(accumulator.finish())
    }
}
