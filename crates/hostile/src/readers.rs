//! Each format, read as the programs read it.
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use gumbel::Schedule;
use gumbel::estimators::Method;
use gumbel::objectives::ObjectiveConfig;
use gumbel_datasets::text::{Layout, TextSource, Tokens, Vocabulary, load_text};
use gumbel_datasets::{Places, load_own};
use gumbel_models::CategoricalVaeConfig;
use gumbel_training::checkpoint::Checkpoint;
use gumbel_training::{TrainConfig, config as configuration};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const IMAGES: &[u8] = include_bytes!("../seeds/idx-images/square");
const GREY: &[u8] = include_bytes!("../seeds/png/grey");
const TENSORS: &[u8] = include_bytes!("../seeds/safetensors/two");
const STATE: &[u8] = include_bytes!("../seeds/state/step-7");
const CONFIG: &str = include_str!("../seeds/config/gumbel-softmax");

fn told(error: impl Display) -> String {
    error.to_string()
}

/// A file in a folder of its own, which holds nothing else but what the same reader puts there.
fn alone(folder: &Path, kind: &str, file: &str, bytes: &[u8]) -> Result<PathBuf, String> {
    let path = folder.join(kind);
    fs::create_dir_all(&path).map_err(told)?;
    let file = path.join(file);
    put(&file, bytes)?;
    Ok(file)
}

/// Writes a file anew: where an old one is cut short instead, some file systems wait for the disk.
fn put(file: &Path, bytes: &[u8]) -> Result<(), String> {
    let _ = fs::remove_file(file);
    fs::write(file, bytes).map_err(told)
}

fn own(path: &Path) -> Result<(), String> {
    load_own(path).map(drop).map_err(told)
}

pub(crate) fn idx_images(folder: &Path, bytes: &[u8]) -> Result<(), String> {
    let file = alone(folder, "idx", "train-images-idx3-ubyte", bytes)?;
    own(file.parent().unwrap_or(folder))
}

pub(crate) fn idx_labels(folder: &Path, bytes: &[u8]) -> Result<(), String> {
    let file = alone(folder, "idx-labels", "train-labels-idx1-ubyte", bytes)?;
    let place = file.parent().unwrap_or(folder);
    put(&place.join("train-images-idx3-ubyte"), IMAGES)?;
    own(place)
}

pub(crate) fn idx_gz(folder: &Path, bytes: &[u8]) -> Result<(), String> {
    let file = alone(folder, "idx-gz", "train-images-idx3-ubyte.gz", bytes)?;
    own(file.parent().unwrap_or(folder))
}

pub(crate) fn png(folder: &Path, bytes: &[u8]) -> Result<(), String> {
    let file = alone(folder, "pngs", "hostile.png", bytes)?;
    let place = file.parent().unwrap_or(folder);
    // The file to be refused is the last one, so that a message about the others would be one about it.
    for name in ["a.png", "b.png", "c.png", "d.png"] {
        put(&place.join(name), GREY)?;
    }
    own(place)
}

pub(crate) fn parquet(folder: &Path, bytes: &[u8]) -> Result<(), String> {
    own(&alone(folder, "parquet", "hostile.parquet", bytes)?)
}

pub(crate) fn image_lines(folder: &Path, bytes: &[u8]) -> Result<(), String> {
    own(&alone(folder, "lines", "hostile.jsonl", bytes)?)
}

fn read_text(path: PathBuf) -> Result<(), String> {
    let source = TextSource::File { path, layout: Layout::Sentences };
    let tokens = Tokens::Word { least_count: 1, lowercase: false, punctuation: true };
    load_text(&source, tokens, 50, &Places::new(Vec::new())).map(drop).map_err(told)
}

pub(crate) fn text(folder: &Path, bytes: &[u8]) -> Result<(), String> {
    read_text(alone(folder, "text", "hostile.txt", bytes)?)
}

pub(crate) fn text_lines(folder: &Path, bytes: &[u8]) -> Result<(), String> {
    read_text(alone(folder, "text", "hostile.jsonl", bytes)?)
}

pub(crate) fn tokenizer(_: &Path, bytes: &[u8]) -> Result<(), String> {
    let vocabulary = Vocabulary::from_json(Tokens::Character {}, bytes).map_err(told)?;
    // What can be loaded can be used, too.
    let symbols = vocabulary.symbols(&["the cat sat", "", "\u{0}é"]).map_err(told)?;
    symbols.iter().for_each(|line| drop(vocabulary.text(line)));
    Ok(())
}

pub(crate) fn safetensors(folder: &Path, bytes: &[u8]) -> Result<(), String> {
    let file = alone(folder, "model", "model.safetensors", bytes)?;
    gumbel_training::import(file.parent().unwrap_or(folder)).map(drop).map_err(told)
}

/// A checkpoint of step 7 with these files, and a `MANIFEST` that agrees with them, where none is given.
fn load_checkpoint(
    folder: &Path,
    model: &[u8],
    state: &[u8],
    manifest: Option<&[u8]>,
) -> Result<(), String> {
    let place = folder.join("step-7");
    fs::create_dir_all(&place).map_err(told)?;
    let mut text = String::new();
    for (name, bytes) in
        [("model.safetensors", model), ("optimizer.safetensors", TENSORS), ("state.json", state)]
    {
        put(&place.join(name), bytes)?;
        let sum: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
        text += &format!("{name} {} {sum}\n", bytes.len());
    }
    put(&place.join("MANIFEST"), manifest.unwrap_or(text.as_bytes()))?;
    Checkpoint::load(&place).map(drop).map_err(told)
}

pub(crate) fn checkpoint(folder: &Path, bytes: &[u8]) -> Result<(), String> {
    load_checkpoint(folder, bytes, STATE, None)
}

pub(crate) fn manifest(folder: &Path, bytes: &[u8]) -> Result<(), String> {
    load_checkpoint(folder, TENSORS, STATE, Some(bytes))
}

pub(crate) fn state(folder: &Path, bytes: &[u8]) -> Result<(), String> {
    load_checkpoint(folder, TENSORS, bytes, None)
}

/// What is in the configuration of every experiment.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    seed: u64,
    learning_rate: Schedule,
    estimator: Method,
    objective: ObjectiveConfig,
    model: CategoricalVaeConfig,
    train: TrainConfig,
}

pub(crate) fn config(folder: &Path, bytes: &[u8]) -> Result<(), String> {
    let file = alone(folder, "config", "hostile.toml", bytes)?;
    let config: Config = configuration::resolve(CONFIG, Some(&file), &[]).map_err(told)?;
    // What a program says of values that cannot be meant names the key, and its caller the file.
    let of_file = |reason: String| format!("{}: {reason}", file.display());
    config.estimator.check().map_err(of_file)?;
    config.objective.check().map_err(of_file)?;
    config.model.check().map_err(of_file)?;
    config.train.check().map_err(|error| of_file(told(error)))?;
    config.learning_rate.check("learning_rate", f64::MAX).map_err(of_file)
}

pub(crate) fn sweep(folder: &Path, bytes: &[u8]) -> Result<(), String> {
    let file = alone(folder, "sweep", "hostile.toml", bytes)?;
    gumbel_sweep::Sweep::read(&file).map(drop).map_err(told)
}

pub(crate) fn metrics(folder: &Path, bytes: &[u8]) -> Result<(), String> {
    let file = alone(folder, "run", "metrics.jsonl", bytes)?;
    let run = file.parent().unwrap_or(folder);
    put(&run.join("config.toml"), CONFIG.as_bytes())?;
    let record = gumbel_report::Record::read(run).map_err(told)?;
    gumbel_report::run_page(&record, &[]).map(drop).map_err(told)
}
