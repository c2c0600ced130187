//! Where the experiments look for data sets, and how a download is shown.
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use gumbel_datasets::{Downloads, Places, Watcher};
use gumbel_training::{Error, Result};
use indicatif::{ProgressBar, ProgressStyle};

/// The usual places, and what is in none of them from where it is published.
#[must_use]
pub fn places(data_dir: Option<PathBuf>) -> Places {
    let downloads = Downloads::from_env().watched(Arc::new(Shown::default()));
    Places::from_env(data_dir).with_downloads(downloads)
}

/// An error of a data set with its exit code.
pub fn loaded<T>(result: gumbel_datasets::Result<T>) -> Result<T> {
    result.map_err(|error| Error::caller(error.exit_code(), error))
}

/// A bar on a terminal, a line elsewhere.
#[derive(Default)]
struct Shown {
    bar: Mutex<Option<ProgressBar>>,
    /// What was said last: a file that is asked for again is said once.
    said: Mutex<String>,
}

impl Shown {
    fn with(&self, f: impl FnOnce(&mut Option<ProgressBar>)) {
        f(&mut self.bar.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Watcher for Shown {
    fn begin(&self, file: &str, bytes: u64, held: u64) {
        let kept = if held > 0 { format!(", {held} are there already") } else { String::new() };
        let line = format!("fetching {file}, {bytes} bytes{kept}");
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if *said != line {
            tracing::info!("{line}");
            *said = line;
        }
        if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(bytes).with_position(held);
            let template = "{bar:16} {bytes}/{total_bytes} {bytes_per_sec} eta {eta}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            self.with(|shown| *shown = Some(bar));
        }
    }

    fn progress(&self, held: u64) {
        self.with(|shown| {
            if let Some(bar) = shown {
                bar.set_position(held);
            }
        });
    }

    fn end(&self) {
        self.with(|shown| {
            if let Some(bar) = shown.take() {
                bar.finish_and_clear();
            }
        });
    }
}
