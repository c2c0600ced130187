//! What an evaluation may do with its run.
use candle_core::Tensor;
use gumbel_metrics::Report;

use crate::checkpoint::{decode, encode};
use crate::files::{self, write_atomic};
use crate::progress::significant;
use crate::run::check_name;
use crate::{Error, Result, Run};

/// Start of the names of sample files.
const STEP: &str = "step-";

/// One evaluation between two training steps.
#[derive(Debug)]
pub struct Evaluation<'a> {
    run: &'a mut Run,
    step: u64,
    last: bool,
}

impl<'a> Evaluation<'a> {
    pub(super) fn new(run: &'a mut Run, step: u64, last: bool) -> Self {
        Self { run, step, last }
    }

    /// Training steps that are done.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Whether training is over: the place for the test set.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.last
    }

    /// Writes a report to `metrics.jsonl`; `split` names the data, such as `valid` or `test`.
    pub fn record(&mut self, split: &str, report: &Report) -> Result<()> {
        if !self.run.leads() {
            return Ok(());
        }
        let scalars = report.scalars()?;
        self.run.record(self.step, split, &scalars)?;
        let numbers: Vec<String> =
            scalars.iter().map(|(name, value)| format!("{name} {}", significant(*value))).collect();
        tracing::info!("{split} at step {}: {}", self.step, numbers.join(", "));
        Ok(())
    }

    /// Writes an image to `samples/step-<step>-<name>.png`, see [`crate::png::grid`].
    pub fn sample(&mut self, name: &str, png: &[u8]) -> Result<()> {
        check_name(name)?;
        if !self.run.leads() {
            return Ok(());
        }
        let file = format!("{STEP}{:09}-{name}.png", self.step);
        write_atomic(&self.run.samples().join(file), png)?;
        self.run.events.picture(self.step, name, png)
    }

    /// An error if somebody asked the run to stop; call it now and then in a long evaluation.
    ///
    /// What this evaluation wrote is forgotten then, and the resumed run starts with it. All processes of a world have to call it as often.
    pub fn check_stop(&self) -> Result<()> {
        match self.run.asked_to_stop()? {
            None => Ok(()),
            Some(by) => {
                let dir = self.run.directory().to_path_buf();
                Err(Error::Interrupted { by, step: self.step, dir })
            }
        }
    }

    /// Computes `of(0)` to `of(count - 1)`, shared by the processes of the world, and hands each result to `take`, in order and on every
    /// process: what is made of them has the same bits for any number of processes. Looks before each round whether somebody asked to stop.
    ///
    /// # Errors
    /// That of `of` or `take`, or [`Error::Interrupted`].
    pub fn share(
        &self,
        count: usize,
        mut of: impl FnMut(usize) -> Result<Vec<Tensor>>,
        mut take: impl FnMut(Vec<Tensor>) -> Result<()>,
    ) -> Result<()> {
        let world = self.run.world();
        for first in (0..count).step_by(world.size()) {
            self.check_stop()?;
            let own = first + world.rank();
            let result = if own < count { of(own)? } else { Vec::new() };
            if world.size() == 1 {
                take(result)?;
                continue;
            }
            // Names that sort as their numbers.
            let named = (0..).map(|i| format!("{i:06}")).zip(result).collect();
            let all = world.all_gather_bytes(&encode(&named)?)?;
            for one in all.iter().take(count - first) {
                let tensors = decode(one).map_err(|reason| Error::caller(70, reason))?;
                take(tensors.into_values().collect())?;
            }
        }
        Ok(())
    }
}

/// Removes the samples of evaluations at `step` and later.
pub(crate) fn drop_samples(run: &Run, step: u64) -> Result<()> {
    let directory = run.samples();
    for name in files::names(&directory)? {
        let number = name.strip_prefix(STEP).and_then(|rest| rest.split('-').next());
        let later = number.and_then(|n| n.parse::<u64>().ok()).is_some_and(|n| n >= step);
        if later || name.starts_with(files::TEMPORARY) {
            files::remove(&directory.join(name))?;
        }
    }
    Ok(())
}
