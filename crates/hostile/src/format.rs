//! The list of formats.
use std::path::Path;

use crate::readers;

/// What became of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They were read.
    Accepted,
    /// They were refused, with this message.
    Refused(String),
}

/// Something that reads bytes in a folder, which it may use as it likes.
pub(crate) type Reader = fn(&Path, &[u8]) -> Result<(), String>;

/// A kind of file that the programs read.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// Its name, also that of its fuzz target.
    pub name: &'static str,
    /// What a message about it has to name, the file or the folder that it is read with; none where bytes have no name yet.
    pub file: Option<&'static str>,
    /// Valid files.
    pub seeds: &'static [&'static [u8]],
    pub(crate) read: Reader,
}

macro_rules! seeds {
    ($($file:literal),+) => { &[$(include_bytes!(concat!("../seeds/", $file))),+] };
}

/// All of them.
pub const FORMATS: [Format; 16] = [
    Format {
        name: "idx-images",
        file: Some("/idx"),
        seeds: seeds!("idx-images/square", "idx-images/wide"),
        read: readers::idx_images,
    },
    Format {
        name: "idx-labels",
        file: Some("/idx-labels"),
        seeds: seeds!("idx-labels/digits"),
        read: readers::idx_labels,
    },
    Format {
        name: "idx-gz",
        file: Some("/idx-gz"),
        seeds: seeds!("idx-gz/square"),
        read: readers::idx_gz,
    },
    Format {
        name: "png",
        file: Some("/pngs"),
        seeds: seeds!("png/grey", "png/colour", "png/interlaced"),
        read: readers::png,
    },
    Format {
        name: "parquet",
        file: Some("hostile.parquet"),
        seeds: seeds!("parquet/hub"),
        read: readers::parquet,
    },
    Format {
        name: "image-lines",
        file: Some("hostile.jsonl"),
        seeds: seeds!("image-lines/pixels"),
        read: readers::image_lines,
    },
    Format {
        name: "text",
        file: Some("hostile.txt"),
        seeds: seeds!("text/sentences"),
        read: readers::text,
    },
    Format {
        name: "text-lines",
        file: Some("hostile.jsonl"),
        seeds: seeds!("text-lines/sentences"),
        read: readers::text_lines,
    },
    Format {
        name: "tokenizer",
        file: None,
        seeds: seeds!("tokenizer/word", "tokenizer/character", "tokenizer/bpe"),
        read: readers::tokenizer,
    },
    Format {
        name: "safetensors",
        file: Some("model.safetensors"),
        seeds: seeds!("safetensors/two"),
        read: readers::safetensors,
    },
    Format {
        name: "checkpoint",
        file: Some("/step-7"),
        seeds: seeds!("checkpoint/two"),
        read: readers::checkpoint,
    },
    Format {
        name: "manifest",
        file: Some("/step-7"),
        seeds: seeds!("manifest/step-7"),
        read: readers::manifest,
    },
    Format {
        name: "state",
        file: Some("/step-7"),
        seeds: seeds!("state/step-7"),
        read: readers::state,
    },
    Format {
        name: "config",
        file: Some("hostile.toml"),
        seeds: seeds!("config/gumbel-softmax", "config/relax"),
        read: readers::config,
    },
    Format {
        name: "sweep",
        file: Some("hostile.toml"),
        seeds: seeds!("sweep/grid"),
        read: readers::sweep,
    },
    Format {
        name: "metrics",
        file: Some("metrics.jsonl"),
        seeds: seeds!("metrics/run"),
        read: readers::metrics,
    },
];

/// The format of that name.
#[must_use]
pub fn format(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}

impl Format {
    /// Reads `bytes` as a file of this format in `folder`, where other files may be overwritten.
    #[must_use]
    pub fn read(&self, folder: &Path, bytes: &[u8]) -> Verdict {
        match (self.read)(folder, bytes) {
            Ok(()) => Verdict::Accepted,
            Err(message) => Verdict::Refused(message),
        }
    }

    /// What is wrong with a refusal: that it does not say which file, or not why.
    #[must_use]
    pub fn complaint(&self, message: &str) -> Option<String> {
        let rest =
            self.file.map_or(Some(message), |file| message.split_once(file).map(|(_, rest)| rest));
        match rest {
            None => Some(format!("does not name {}", self.file.unwrap_or_default())),
            Some(rest) if rest.trim_matches([':', ' ', '.']).is_empty() => {
                Some("gives no reason".to_owned())
            }
            Some(_) => None,
        }
    }

    /// The same with a reader that panics, to see that this is noticed.
    #[doc(hidden)]
    #[must_use]
    pub fn panicking(self) -> Self {
        Self { read: |_, _| panic!("on purpose"), ..self }
    }
}
