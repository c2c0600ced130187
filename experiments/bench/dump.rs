//! Losses with everything they depend on, in files that other libraries read.
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, json};

use crate::say;
use crate::workloads::{by_name, names};

/// For each workload with a loss, `NAME.safetensors` (parameters, data, noise), and `losses.json` with our values.
pub(crate) fn dump(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    let mut losses = Map::new();
    for name in names() {
        let Some(example) = by_name(name, &candle_core::Device::Cpu)?.example()? else { continue };
        let file = directory.join(format!("{name}.safetensors"));
        candle_core::safetensors::save(&example.tensors, &file)?;
        let values = json!({ "loss": example.loss, "gradient_norm": example.gradient_norm });
        losses.insert(name.to_owned(), values);
    }
    let text = serde_json::to_string_pretty(&losses)?;
    fs::write(directory.join("losses.json"), &text)?;
    say(&text);
    Ok(())
}
