//! What is kept of a table: the runs' numbers, their learning curves and pictures, and the page made of them.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use gumbel_experiments::{Budget, say, write_whole};

use crate::cell::Job;
use crate::curves::Curves;
use crate::results::{Outcome, Results, Row};
use crate::table::{Cell, Picture, Table};
use crate::{figure, report};

/// The files of a table in a folder.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    name: &'a str,
    /// How the names of its files begin.
    stem: String,
    table: &'a Table,
    budget: Budget,
    folder: &'a Path,
    results: Results,
    curves: Curves,
}

impl<'a> Record<'a> {
    /// What is there already.
    pub(crate) fn open(
        (name, table): (&'a str, &'a Table),
        budget: Budget,
        folder: &'a Path,
    ) -> Result<Self> {
        // Runs of more steps or other settings are beside those of the reduced budget, never in their place.
        let [cpu, full] = [table.budget(Budget::Cpu)?, table.budget(Budget::Full)?];
        let apart = budget == Budget::Full && (cpu.steps, &cpu.set) != (full.steps, &full.set);
        let stem = format!("{name}{}", if apart { "-full" } else { "" });
        let results = Results::open(&folder.join(format!("{stem}.csv")))?;
        let curves = Curves::open(&folder.join(format!("{stem}-curves.csv")))?;
        Ok(Self { name, stem, table, budget, folder, results, curves })
    }

    /// Finds the runs of configurations that the table has no more; `job` is a cell under a seed.
    pub(crate) fn compare(&mut self, job: impl Fn(&Cell, u64) -> Result<Job>) -> Result<()> {
        let cells = &self.table.cells;
        self.results.compare(|name, seed| {
            let cell = cells.iter().find(|cell| cell.name() == name);
            cell.map(|cell| Ok(job(cell, seed)?.run.fingerprint)).transpose()
        })
    }

    /// The page.
    pub(crate) fn page(&self) -> PathBuf {
        self.folder.join(format!("{}.md", self.stem))
    }

    /// Whether a job has ended.
    pub(crate) fn has(&self, job: &Job) -> bool {
        self.results.outcome(&job.run.label, job.run.seed, &job.run.fingerprint).is_some()
    }

    /// Whether a job has ended, and all is here that it left.
    pub(crate) fn is_complete(&self, job: &Job) -> bool {
        match self.results.outcome(&job.run.label, job.run.seed, &job.run.fingerprint) {
            Some(Outcome::Done) => {
                self.curves.has(&job.run.label, job.run.seed, &job.run.fingerprint)
            }
            Some(Outcome::Diverged) => true,
            None => false,
        }
    }

    /// Takes what a run left in its directory, and writes everything.
    pub(crate) fn take(&mut self, job: &Job, directory: &Path) -> Result<()> {
        self.results.add(job.collect(directory)?);
        let metrics = directory.join("metrics.jsonl");
        let metrics = fs::read_to_string(&metrics)
            .with_context(|| format!("reading {}", metrics.display()))?;
        self.curves.add(&job.run.label, job.run.seed, &job.run.fingerprint, &metrics);
        self.write()?;
        for picture in &self.table.pictures {
            if picture.cell == job.run.label && job.run.seed == 1 {
                self.copy_picture(picture, directory)?;
                self.write()?; // with its place in the page
            }
        }
        Ok(())
    }

    /// Notes that a run came to numbers that are not finite, and writes everything.
    pub(crate) fn diverged(&mut self, job: &Job) -> Result<()> {
        self.results.add(job.diverged());
        self.write()
    }

    fn copy_picture(&self, picture: &Picture, directory: &Path) -> Result<()> {
        let Some(png) = last_picture(directory, &picture.sample)? else {
            say(&format!("{} has no picture of {}", directory.display(), picture.sample));
            return Ok(());
        };
        let to = self.folder.join(picture.file(&self.stem));
        fs::copy(&png, &to)
            .with_context(|| format!("copying {} to {}", png.display(), to.display()))?;
        Ok(())
    }

    /// Writes numbers, curves, figure and page.
    pub(crate) fn write(&mut self) -> Result<()> {
        self.results.save()?;
        let results = &self.results;
        self.curves.retain(|cell, seed, fingerprint| {
            let of = |row: &&Row| (row.seed, &*row.fingerprint) == (seed, fingerprint);
            results.of(cell).into_iter().find(of).is_some_and(|row| row.outcome == Outcome::Done)
        });
        let file = |end: &str| self.folder.join(format!("{}{end}", self.stem));
        if self.curves.samples().is_some() {
            write_whole(&file("-curves.csv"), &self.curves.csv())?;
        }
        let mut page =
            report::markdown((self.name, &self.stem), self.table, self.budget, &self.results)?;
        if let Some(svg) = figure::draw(self.table, &self.results, &self.curves)? {
            write_whole(&file(".svg"), &svg)?;
            page += &report::figure(&self.stem, self.table, &self.results, &self.curves);
        }
        for picture in &self.table.pictures {
            let file = picture.file(&self.stem);
            if self.folder.join(&file).is_file() {
                page += &report::picture(picture, &file);
            }
        }
        write_whole(&file(".md"), &page)
    }
}

/// The latest of a run's pictures of one kind.
fn last_picture(directory: &Path, sample: &str) -> Result<Option<PathBuf>> {
    let samples = directory.join("samples");
    if !samples.is_dir() {
        return Ok(None);
    }
    let context = || format!("looking for {sample} in {}", samples.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(&samples).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.to_string_lossy().ends_with(&format!("-{sample}.png")) {
            found.push(path);
        }
    }
    Ok(found.into_iter().max())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_another_budget_have_files_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        for (name, full) in [("maddison-density", "maddison-density-full"), ("reinmax", "reinmax")]
        {
            let (table, _) = crate::table::find(name).unwrap();
            for (budget, stem) in [(Budget::Cpu, name), (Budget::Full, full)] {
                let record = Record::open((name, &table), budget, folder.path()).unwrap();
                assert_eq!(record.page(), folder.path().join(format!("{stem}.md")));
            }
        }
    }

    #[test]
    fn the_last_picture_of_its_kind_is_taken() {
        let run = tempfile::tempdir().unwrap();
        let samples = run.path().join("samples");
        fs::create_dir(&samples).unwrap();
        for name in ["step-000000010-prior", "step-000000200-prior", "step-000000300-other"] {
            fs::write(samples.join(format!("{name}.png")), name).unwrap();
        }
        let found = last_picture(run.path(), "prior").unwrap().unwrap();
        assert_eq!(fs::read_to_string(found).unwrap(), "step-000000200-prior");
        assert!(last_picture(run.path(), "nothing").unwrap().is_none());
    }
}
