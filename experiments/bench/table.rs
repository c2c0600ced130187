//! Times of all operations, with criterion, in a table.
use std::cell::RefCell;
use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use criterion::Criterion;
use gumbel_training::Environment;

use crate::machine::Machine;
use crate::operations::{Operation, Prepared, Work, matching};

/// Samples of each operation; a median and quartiles need no more, and slow twins get done.
const SAMPLES: usize = 20;

/// Quartiles of the time of one pass, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Quartiles {
    lower: f64,
    median: f64,
    upper: f64,
}

/// Which operations, for how long each, with how many threads.
#[derive(Debug)]
pub(crate) struct Settings<'a> {
    pub(crate) only: &'a str,
    pub(crate) seconds: f64,
    pub(crate) threads: usize,
}

/// Times every operation and its twin; the table in Markdown.
pub(crate) fn table(settings: &Settings<'_>) -> Result<String> {
    let operations = matching(settings.only);
    ensure!(!operations.is_empty(), "no operation has `{}` in its title", settings.only);
    let before = Machine::measure()?;
    ensure!(settings.seconds > 0., "--seconds is {}; use more than 0", settings.seconds);
    let measurement = Duration::try_from_secs_f64(settings.seconds)?;
    let mut criterion = Criterion::default()
        .without_plots()
        .sample_size(SAMPLES)
        .measurement_time(measurement)
        .warm_up_time(measurement / 3);
    let mut rows = Vec::new();
    for operation in &operations {
        rows.push(Row::measure(operation, &mut criterion)?);
    }
    let machine = Machine::measure()?.best_of(&before);
    let mut text = head(settings.threads, &machine);
    for (operation, row) in operations.iter().zip(rows) {
        row.write(operation, &machine, &mut text)?;
    }
    Ok(text)
}

fn head(threads: usize, machine: &Machine) -> String {
    format!(
        "Machine: {}, vector unit {}, {threads} thread(s).\nBest rates measured: {}.\n\n\
         | operation | size | median µs | quartiles | twin µs | twin / ours | bound µs | by | of bound |\n\
         |---|---|--:|--:|--:|--:|--:|---|--:|\n",
        Environment::current(0, threads).summary(),
        gumbel_kernels::vector_unit(),
        machine.summary()
    )
}

/// What was measured of an operation.
struct Row {
    ours: Quartiles,
    twin: Quartiles,
    work: Work,
}

impl Row {
    fn measure(operation: &Operation, criterion: &mut Criterion) -> Result<Self> {
        let prepared = Prepared::new(operation)?;
        let title = operation.title();
        let mut time = |twin: &str, function| {
            measure(criterion, &format!("{title}/{twin}"), &|| prepared.run(function))
                .with_context(|| format!("{title}: {twin}"))
        };
        let (ours, twin) = (time("fused", operation.fused)?, time("twin", operation.twin)?);
        Ok(Self { ours, twin, work: prepared.work })
    }

    fn write(&self, operation: &Operation, machine: &Machine, text: &mut String) -> Result<()> {
        let Self { ours, twin, work } = self;
        let bound = machine.bound(work);
        let micro =
            |seconds: f64| format!("{:.*}", if seconds < 1e-4 { 1 } else { 0 }, seconds * 1e6);
        writeln!(
            text,
            "| {} | {} | {} | {}–{} | {} | {:.1} | {} | {} | {:.0} % |",
            operation.name,
            operation.size(),
            micro(ours.median),
            micro(ours.lower),
            micro(ours.upper),
            micro(twin.median),
            twin.median / ours.median,
            micro(bound.seconds),
            bound.by,
            100. * bound.seconds / ours.median,
        )?;
        Ok(())
    }
}

/// Quartiles of the time of `pass`, as criterion samples it.
fn measure(
    criterion: &mut Criterion,
    title: &str,
    pass: &dyn Fn() -> candle_core::Result<()>,
) -> Result<Quartiles> {
    let (samples, failure) = (RefCell::new(Vec::new()), RefCell::new(None));
    criterion.bench_function(title, |bencher| {
        bencher.iter_custom(|repeats| {
            let start = Instant::now();
            for _ in 0..repeats {
                if let Err(error) = pass() {
                    failure.replace(Some(error));
                }
            }
            let time = start.elapsed();
            samples.borrow_mut().push(time.as_secs_f64() / repeats as f64);
            time
        });
    });
    if let Some(error) = failure.into_inner() {
        return Err(error.into());
    }
    // What comes before the samples is criterion's warm-up.
    let samples = samples.into_inner();
    let warm_up = samples.len().saturating_sub(SAMPLES);
    quartiles(samples.into_iter().skip(warm_up).collect()).context("criterion took no sample")
}

fn quartiles(mut times: Vec<f64>) -> Option<Quartiles> {
    times.sort_by(f64::total_cmp);
    let at = |quarter: usize| times.get(times.len().saturating_sub(1) * quarter / 4).copied();
    Some(Quartiles { lower: at(1)?, median: at(2)?, upper: at(3)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_times_of_both_twins_and_a_bound() -> Result<()> {
        let settings = Settings { only: "log_sum_exp", seconds: 0.02, threads: 1 };
        let text = table(&settings)?;
        let row: Vec<&str> = text.lines().last().context("no row")?.split(" | ").collect();
        assert_eq!((row.len(), row[0], row[1]), (9, "| log_sum_exp", "3000x10"), "{text}");
        let number = |column: usize| row[column].parse::<f64>();
        for column in [2, 4, 5, 6] {
            assert!(number(column)? > 0., "{text}");
        }
        assert!(table(&Settings { only: "no such thing", ..settings }).is_err());
        Ok(())
    }

    #[test]
    fn quartiles_are_order_statistics() {
        let times = vec![5., 1., 4., 2., 3.];
        assert_eq!(quartiles(times), Some(Quartiles { lower: 2., median: 3., upper: 4. }));
        assert_eq!(quartiles(vec![]), None);
    }
}
