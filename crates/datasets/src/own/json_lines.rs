//! A JSON object a line.
use std::path::{Component, Path};

use serde::Deserialize;

use super::folder::{add_png, split_named};
use super::{Parts, corrupt, read_file};
use crate::{Result, Split};

/// One image.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// A PNG, beside the file or below it.
    image: Option<String>,
    /// Rows of grey values, 0 to 255.
    pixels: Option<Vec<Vec<u8>>>,
    label: Option<u8>,
    split: Option<String>,
}

pub(super) fn read(path: &Path, parts: &mut Parts) -> Result<()> {
    let text = String::from_utf8(read_file(path)?).map_err(|error| {
        corrupt(path, format!("byte {} is not UTF-8", error.utf8_error().valid_up_to()))
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |reason: String| corrupt(path, format!("line {}: {reason}", number + 1));
        let line: Line = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        let split = match line.split.as_deref() {
            None => Split::Train,
            Some(name) => split_named(name).ok_or_else(|| {
                wrong(format!("no split is called `{name}`; use train, valid or test"))
            })?,
        };
        let rows = parts.of(split);
        match (line.image, line.pixels) {
            (Some(image), None) => {
                let image = Path::new(&image);
                if !image.components().all(|part| matches!(part, Component::Normal(_))) {
                    let image = image.display();
                    return Err(wrong(format!(
                        "`{image}` is no path below the folder of this file"
                    )));
                }
                add_png(&folder.join(image), line.label, rows)?;
            }
            (None, Some(pixels)) => {
                let width = pixels.first().map_or(0, Vec::len);
                if pixels.iter().any(|row| row.len() != width) {
                    return Err(wrong("rows of pixels of different lengths".into()));
                }
                rows.add([pixels.len(), width], &pixels.concat(), line.label).map_err(wrong)?;
            }
            _ => return Err(wrong("give `image` or `pixels`, and not both".into())),
        }
    }
    Ok(())
}
