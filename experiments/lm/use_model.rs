//! Using a model that is trained: writing text, finding codes.
use std::path::{Path, PathBuf};

use candle_core::{D, DType, Device, Tensor};
use gumbel::Key;
use gumbel_experiments::print;
use gumbel_models::{Choice, LanguageModel, Sequences};
use gumbel_training::checkpoint::Checkpoint;
use gumbel_training::{Error, Params, Result};

use crate::config::Config;
use crate::data::LONGEST;
use crate::symbols::Symbols;
use crate::words::tag;

/// Options of `lm sample`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SampleArgs {
    /// Directory of a run
    run: PathBuf,

    /// Values of the first codes, or states, separated by commas; the others are drawn from the prior
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    codes: Vec<u32>,

    /// Number of texts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    count: u16,

    /// Symbols of a text, at most [default: as many as the longest of the corpus has]
    #[arg(long, value_name = "N")]
    length: Option<usize>,

    /// What the texts start with
    #[arg(long, value_name = "TEXT", default_value = "")]
    prompt: String,

    /// Divides the logits: 0 takes the most probable symbol, 1 draws from the model
    #[arg(long, value_name = "T", default_value_t = 1.)]
    temperature: f64,

    /// Only so many of the most probable symbols
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,

    /// Only the most probable symbols that together have this probability
    #[arg(long, value_name = "P", default_value_t = 1.)]
    top_p: f64,

    /// Names the random numbers
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// Options of `lm encode`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct EncodeArgs {
    /// Directory of a run
    run: PathBuf,

    /// Text, a sentence a line
    file: PathBuf,
}

/// A model as a run left it.
struct Trained {
    model: LanguageModel,
    symbols: Symbols,
    /// Symbols of a sequence, at most.
    longest: usize,
}

impl Trained {
    /// Of the newest checkpoint of a run.
    fn open(directory: &Path) -> Result<Self> {
        let file = directory.join("config.toml");
        let text = std::fs::read_to_string(&file).map_err(|error| {
            Error::Usage(format!(
                "{}: no run directory ({error}); give one below runs/lm",
                directory.display()
            ))
        })?;
        let config: Config = toml::from_str(&text)
            .map_err(|error| Error::Usage(format!("{}: {error}", file.display())))?;
        let Some(checkpoint) = Checkpoint::newest(&directory.join("checkpoints"))? else {
            return Err(Error::Usage(format!(
                "{} has no checkpoint; let the run go on with --resume",
                directory.display()
            )));
        };
        let symbols = Symbols::of_run(&config.data, directory)?;
        let longest = longest(directory)?;
        let decoder = config.sized(symbols.count(), longest)?;
        let params = Params::new(Key::from_seed(config.seed), DType::F32, &Device::Cpu);
        let model = LanguageModel::new(&decoder, &config.latents, &params.var_builder())?;
        for (name, value) in &checkpoint.model {
            // Learned parts of the estimator are of no use here.
            if params.get(name).is_some() {
                params.set(name, value)?;
            }
        }
        Ok(Self { model, symbols, longest })
    }
}

/// The length of the longest sequence that the model of a run reads or writes, from what its sessions wrote down.
fn longest(directory: &Path) -> Result<usize> {
    // Of a run from before it was noted, a later session has it.
    let later = (1..).map(|session| format!("env-resume-{session}.json"));
    let files = std::iter::once("env.json".to_owned()).chain(later);
    for file in files.map(|name| directory.join(name)).take_while(|file| file.is_file()) {
        let text = std::fs::read(&file)
            .map_err(|error| Error::caller(74, format!("{}: {error}", file.display())))?;
        let environment: serde_json::Value = serde_json::from_slice(&text)
            .map_err(|error| Error::caller(65, format!("{}: {error}", file.display())))?;
        let longest = environment["identity"][LONGEST].as_str();
        if let Some(longest) = longest.and_then(|longest| longest.parse().ok()) {
            return Ok(longest);
        }
    }
    Err(Error::caller(
        65,
        format!(
            "{} does not say how long its sequences are; let the run go on with --resume, which notes it",
            directory.display()
        ),
    ))
}

/// `lm sample`.
pub(crate) fn sample(args: &SampleArgs) -> Result<()> {
    let choice = Choice { temperature: args.temperature, top_k: args.top_k, top_p: args.top_p };
    choice.check().map_err(Error::Usage)?;
    let Trained { model, symbols, longest } = Trained::open(&args.run)?;
    let length = args.length.unwrap_or(longest);
    let prompt = [vec![symbols.start], symbols.ids(&args.prompt)?].concat();
    if length > longest || prompt.len() > length {
        return Err(Error::Usage(format!(
            "--length {length} with a prompt of {} symbols; this model writes up to {longest}, the prompt among them",
            prompt.len() - 1
        )));
    }
    let (most, values) = model.latents_of(length).unwrap_or((0, 0));
    let wrong = args.codes.iter().find(|code| **code as usize >= values);
    if args.codes.len() > most || wrong.is_some() {
        return Err(Error::Usage(format!(
            "--codes {:?}; this model has {most} latents for {length} symbols, of {values} values each, from 0 on",
            args.codes
        )));
    }
    let prompts = vec![prompt; usize::from(args.count)];
    let key = Key::from_seed(args.seed).named("sample");
    let until = (length, symbols.boundary);
    let written = model.write(&prompts, &args.codes, until, &choice, key, &Device::Cpu)?;
    let lines = written.symbols.iter().zip(&written.codes);
    let lines: Vec<String> =
        lines.map(|(text, codes)| format!("{}\t{}\n", tag(codes), symbols.text(text))).collect();
    print(&lines.concat())
}

/// `lm encode`.
pub(crate) fn encode(args: &EncodeArgs) -> Result<()> {
    let Trained { model, symbols, longest } = Trained::open(&args.run)?;
    let bytes = std::fs::read(&args.file)
        .map_err(|error| Error::caller(74, format!("{}: {error}", args.file.display())))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        Error::caller(65, format!("{}: {error}; give a text in UTF-8", args.file.display()))
    })?;
    let mut lines = String::new();
    for line in text.lines() {
        let targets = symbols.line(line)?;
        if targets.is_empty() || targets.len() > longest {
            return Err(Error::Usage(format!(
                "a line of {} symbols; this model reads 1 to {longest}: {line}",
                targets.len()
            )));
        }
        let inputs = [&[symbols.start], &targets[..targets.len() - 1]].concat();
        let count = targets.len();
        let tensor = |ids: Vec<u32>| Tensor::from_vec(ids, (1, count), &Device::Cpu);
        let x = Sequences { inputs: tensor(inputs)?, targets: tensor(targets)? };
        let Some(probs) = model.posterior(&x)? else {
            return Err(Error::Usage(
                "this model has no latents; train one with latents.kind = \"codes\" or \"states\""
                    .to_owned(),
            ));
        };
        let codes = probs.argmax(D::Minus1)?.get(0)?.to_vec1::<u32>()?;
        lines += &format!("{}\t{line}\n", tag(&codes));
    }
    print(&lines)
}
