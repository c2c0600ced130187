//! What came out: two files of comma-separated values, which say what is done.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use gumbel_experiments::write_whole;

/// Rows under a common head, by what they are of.
///
/// The first `keys` columns name a row. A row is there once; the file is in the order of names.
#[derive(Debug)]
pub(crate) struct Table {
    file: PathBuf,
    head: &'static [&'static str],
    keys: usize,
    rows: BTreeMap<Vec<String>, Vec<String>>,
}

impl Table {
    /// What the file holds, or nothing where there is no file yet.
    ///
    /// # Errors
    /// If it cannot be read, or is a table of something else.
    pub(crate) fn open(file: &Path, head: &'static [&'static str], keys: usize) -> Result<Self> {
        let mut table = Self { file: file.to_owned(), head, keys, rows: BTreeMap::new() };
        if !file.exists() {
            return Ok(table);
        }
        let text =
            fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        let mut lines = text.lines();
        if lines.next() != Some(&head.join(",")) {
            bail!("{} has other columns; move it away", file.display());
        }
        for (number, line) in lines.enumerate() {
            let cells: Vec<String> = line.split(',').map(str::to_owned).collect();
            if cells.len() != head.len() {
                bail!("{}, line {}: {} cells", file.display(), number + 2, cells.len());
            }
            table.rows.insert(cells[..keys].to_vec(), cells);
        }
        Ok(table)
    }

    pub(crate) fn has(&self, name: &[String]) -> bool {
        self.rows.contains_key(name)
    }

    /// Adds rows and writes the file, whole or not at all.
    pub(crate) fn add(&mut self, rows: impl IntoIterator<Item = Vec<String>>) -> Result<()> {
        let named = |cells: Vec<String>| (cells[..self.keys].to_vec(), cells);
        self.rows.extend(rows.into_iter().map(named));
        let mut text = self.head.join(",");
        for row in self.rows.values() {
            text.push('\n');
            text.push_str(&row.join(","));
        }
        text.push('\n');
        write_whole(&self.file, &text)
    }

    /// The rows, in the order of their names.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.values().map(|cells| Row { head: self.head, cells })
    }
}

/// A row, by the names of columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    head: &'static [&'static str],
    cells: &'a [String],
}

impl<'a> Row<'a> {
    pub(crate) fn text(&self, column: &str) -> &'a str {
        let place = self.head.iter().position(|name| *name == column);
        place.map_or("", |place| &self.cells[place])
    }

    /// Not a number where there is none.
    pub(crate) fn number(&self, column: &str) -> f64 {
        self.text(column).parse().unwrap_or(f64::NAN)
    }
}
