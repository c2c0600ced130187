//! What is kept of a table: the runs' numbers, their learning curves and pictures, and the page made of them.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cell::Job;
use crate::curves::Curves;
use crate::results::Results;
use crate::table::{Budget, Table};
use crate::{figure, report};

/// The files of a table in a folder.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    name: &'a str,
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
        let results = Results::open(&folder.join(format!("{name}.csv")))?;
        let curves = Curves::open(&folder.join(format!("{name}-curves.csv")))?;
        Ok(Self { name, table, budget, folder, results, curves })
    }

    /// The page.
    pub(crate) fn page(&self) -> PathBuf {
        self.folder.join(format!("{}.md", self.name))
    }

    /// Whether a job has ended.
    pub(crate) fn has(&self, job: &Job) -> bool {
        self.results.has(job)
    }

    /// Takes what a run left in its directory, and writes everything.
    pub(crate) fn take(&mut self, job: &Job, directory: &Path) -> Result<()> {
        self.results.add(job.collect(directory)?);
        let metrics = directory.join("metrics.jsonl");
        let metrics = fs::read_to_string(&metrics)
            .with_context(|| format!("reading {}", metrics.display()))?;
        self.curves.add(&job.cell, job.seed, &metrics);
        for picture in &self.table.pictures {
            if picture.cell == job.cell && job.seed == 1 {
                let png = last_picture(directory, &picture.sample)?;
                let to = self.folder.join(picture.file(self.name));
                fs::create_dir_all(self.folder)
                    .and_then(|()| fs::copy(&png, &to))
                    .with_context(|| format!("copying {} to {}", png.display(), to.display()))?;
            }
        }
        self.write()
    }

    /// Notes that a run came to numbers that are not finite, and writes everything.
    pub(crate) fn diverged(&mut self, job: &Job) -> Result<()> {
        self.results.add(job.diverged());
        self.write()
    }

    /// Writes numbers, curves, figure and page.
    pub(crate) fn write(&self) -> Result<()> {
        self.results.save()?;
        let write = |file: String, text: String| {
            let file = self.folder.join(file);
            fs::write(&file, text).with_context(|| format!("writing {}", file.display()))
        };
        write(format!("{}-curves.csv", self.name), self.curves.csv())?;
        let figure = figure::draw(self.table, &self.results, &self.curves)?;
        let mut page = report::markdown(self.name, self.table, self.budget, &self.results)?;
        if let Some(svg) = figure {
            write(format!("{}.svg", self.name), svg)?;
            page += &report::figure(self.name, self.table);
        }
        for picture in &self.table.pictures {
            let file = picture.file(self.name);
            if self.folder.join(&file).is_file() {
                page += &report::picture(picture, &file);
            }
        }
        write(format!("{}.md", self.name), page)
    }
}

/// The latest of a run's pictures of one kind.
fn last_picture(directory: &Path, sample: &str) -> Result<PathBuf> {
    let samples = directory.join("samples");
    let context = || format!("looking for {sample} in {}", samples.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(&samples).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.to_string_lossy().ends_with(&format!("-{sample}.png")) {
            found.push(path);
        }
    }
    found.into_iter().max().with_context(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_picture_of_its_kind_is_taken() {
        let run = tempfile::tempdir().unwrap();
        let samples = run.path().join("samples");
        fs::create_dir(&samples).unwrap();
        for name in ["step-000000010-prior", "step-000000200-prior", "step-000000300-other"] {
            fs::write(samples.join(format!("{name}.png")), name).unwrap();
        }
        let found = last_picture(run.path(), "prior").unwrap();
        assert_eq!(fs::read_to_string(found).unwrap(), "step-000000200-prior");
        assert!(last_picture(run.path(), "nothing").is_err());
    }
}
