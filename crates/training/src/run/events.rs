//! `tb/`: what TensorBoard shows of a run.
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use gumbel_report::tensorboard::EventFile;

use crate::{Error, Result};

/// The event file of this session, made with the first event: what earlier sessions wrote of its step and later ones is
/// superseded.
#[derive(Debug)]
pub(crate) struct Events {
    folder: PathBuf,
    file: Option<EventFile>,
}

impl Events {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, file: None }
    }

    /// Numbers of a step.
    pub(crate) fn scalars(
        &mut self,
        step: u64,
        split: &str,
        scalars: &[(&str, f64)],
    ) -> Result<()> {
        let tagged: Vec<(String, f64)> =
            scalars.iter().map(|(name, value)| (format!("{split}/{name}"), *value)).collect();
        let time = now();
        self.write(step, time, |file| file.scalars(time, step, &tagged))
    }

    /// A grey PNG of a step.
    pub(crate) fn picture(&mut self, step: u64, name: &str, png: &[u8]) -> Result<()> {
        // Width and height are at the same place in every PNG.
        let number = |at: usize| {
            let bytes = png.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u32::from_be_bytes)
        };
        let (Some(width), Some(height)) = (number(16), number(20)) else { return Ok(()) };
        let time = now();
        self.write(step, time, |file| file.picture(time, step, name, (width, height), png))
    }

    fn write(
        &mut self,
        step: u64,
        time: f64,
        write: impl FnOnce(&mut EventFile) -> std::io::Result<()>,
    ) -> Result<()> {
        let failed = Error::io("write", &self.folder);
        let file = match &mut self.file {
            Some(file) => file,
            none => match EventFile::create(&self.folder, time, step) {
                Ok(file) => none.insert(file),
                Err(error) => return Err(failed(error)),
            },
        };
        write(file).map_err(failed)
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0., |time| time.as_secs_f64())
}
